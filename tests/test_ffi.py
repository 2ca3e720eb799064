"""The compiled request numbers against the _IOC rule, and the stub against the compiled module."""

import ast
import ctypes
from pathlib import Path

import pytest

from pyxenevtchn import Request, _ffi


class OneWord(ctypes.Structure):
    _fields_ = (("word", ctypes.c_uint32),)


class TwoWords(ctypes.Structure):
    _fields_ = (("first", ctypes.c_uint32), ("second", ctypes.c_uint32))


class Domid(ctypes.Structure):
    _fields_ = (("domid", ctypes.c_uint16),)


LAYOUT: list[tuple[Request, int, type[ctypes.Structure] | None]] = [
    (Request.BIND_VIRQ, 0, OneWord),
    (Request.BIND_INTERDOMAIN, 1, TwoWords),
    (Request.BIND_UNBOUND_PORT, 2, OneWord),
    (Request.UNBIND, 3, OneWord),
    (Request.NOTIFY, 4, OneWord),
    (Request.RESET, 5, None),
    (Request.RESTRICT_DOMID, 6, Domid),
    (Request.BIND_STATIC, 7, OneWord),
]


@pytest.mark.parametrize(("request_", "number", "structure"), LAYOUT)
def test_request_numbers(
    request_: Request, number: int, structure: type[ctypes.Structure] | None
) -> None:
    size = ctypes.sizeof(structure) if structure else 0
    no_direction = 0
    expected = no_direction << 30 | size << 16 | ord("E") << 8 | number
    assert getattr(_ffi.lib, f"IOCTL_EVTCHN_{request_.name}") == expected


def test_every_request_is_in_the_layout_in_the_order_of_the_header() -> None:
    assert [request for request, _, _ in LAYOUT] == list(Request)
    assert [number for _, number, _ in LAYOUT] == list(range(len(Request)))


def test_the_stub_names_what_is_compiled() -> None:
    stub = ast.parse(Path(_ffi.__file__).with_name("_ffi.pyi").read_text())
    library = next(n for n in stub.body if isinstance(n, ast.ClassDef) and n.name == "_Lib")
    names = {
        node.name if isinstance(node, ast.FunctionDef) else ast.unparse(node.target)
        for node in library.body
        if isinstance(node, ast.FunctionDef | ast.AnnAssign)
    }
    assert names == set(dir(_ffi.lib))


@pytest.mark.parametrize("value", [-1, 2**32, 1.5, "1"])
def test_the_compiled_functions_check_their_numbers(value: object) -> None:
    with pytest.raises((OverflowError, TypeError)):
        _ffi.lib.handle_notify(_ffi.ffi.new("struct handle *"), value)  # type: ignore[arg-type]
