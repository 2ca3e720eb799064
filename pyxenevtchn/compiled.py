"""Import the compiled module; no other module does."""

try:
    from ._ffi import ffi, lib
except ModuleNotFoundError as _error:
    _error.add_note(
        "this is a source folder in which nothing has been compiled: run"
        " `pip install --editable .` there, or start Python in another folder"
    )
    raise

__all__ = ["ffi", "lib"]
