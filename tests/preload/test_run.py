"""xenevtchn fake run: a program on the fake's device, and how it ends."""

import contextlib
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyxenevtchn import EventChannel, Virq
from pyxenevtchn.fake import preload
from pyxenevtchn.fake.server.protocol import answer_value, connect, exchange

from ..command import Argument, on_terminal, run, running, shell
from ..fake.server.process import ServerProcess

BIND = """
from pyxenevtchn import EventChannel, Virq
channel = EventChannel.open()
port = channel.bind_virq(Virq.DEBUG)"""


def run_python(
    program: str, *options: Argument, device: str = ""
) -> "subprocess.CompletedProcess[str]":
    return run("fake", "run", *options, "--", sys.executable, "-c", program, device=device)


def result_of(ended: "subprocess.CompletedProcess[str]") -> tuple[int, str, str]:
    return ended.returncode, ended.stdout, ended.stderr


def test_a_program_finds_the_device_at_its_path() -> None:
    ended = run_python(f"{BIND}; print(channel.name); channel.close()", "--check")
    assert result_of(ended) == (0, "/dev/xen/evtchn\n", "")


def test_what_the_program_starts_finds_it_too() -> None:
    ended = shell("xenevtchn fake run -- sh -c 'xenevtchn ping -c 3 -i 0; true'", device="")
    assert ended.stdout.startswith("PING /dev/xen/evtchn: ")
    assert "3 sent, 3 returned" in ended.stdout


def test_the_fakes_controls_find_the_server() -> None:
    script = "xenevtchn fake create-domain && xenevtchn fake destroy-domain 1"
    ended = shell(f"xenevtchn fake run --domid 4 -- sh -c '{script}'", device="")
    assert result_of(ended) == (0, "1\n", "")


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -TERM $$", 143)])
def test_the_programs_exit_status_is_the_commands(script: str, status: int) -> None:
    ended = run("fake", "run", "--", "sh", "-c", script, device="")
    assert result_of(ended) == (status, "", "")


def test_the_programs_options_are_its_own() -> None:
    assert result_of(run("fake", "run", "echo", "--check", "-h", device="")) == (
        0,
        "--check -h\n",
        "",
    )


# Names the signals that it gets, until SIGUSR1.
NAME_SIGNALS = """
import signal
wanted = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
print('ready', flush=True)
got = None
while got != signal.SIGUSR1:
    got = signal.sigwait(wanted)
    print(got.name, flush=True)
"""


def test_signals_go_to_the_program() -> None:
    with running("fake", "run", "--", sys.executable, "-c", NAME_SIGNALS, device="") as command:
        assert command.line() == "ready"
        for name in ("SIGTERM", "SIGINT", "SIGTERM", "SIGUSR1"):
            command.signal(signal.Signals[name])
            assert command.line() == name
        assert command.end().status == 0


def test_ctrl_c_reaches_the_program_once() -> None:
    with on_terminal("fake", "run", "--", sys.executable, "-c", NAME_SIGNALS, device="") as command:
        assert command.line() == "ready"
        command.type("\x03")
        assert command.line().removeprefix("^C") == "SIGINT"
        # Passed on after any other signal.
        command.signal(signal.SIGUSR1)
        assert command.line() == "SIGUSR1"
        assert command.end().status == 0


def test_the_program_has_the_callers_signal_mask_and_descriptor_limit() -> None:
    program = """
import resource, signal
print(sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    ended = run_python(program)
    assert result_of(ended) == (0, f"[]\n{resource.getrlimit(resource.RLIMIT_NOFILE)[0]}\n", "")


@pytest.mark.parametrize(("check", "status"), [((), 0), (("--check",), 1)])
def test_what_a_program_leaves_open_is_named(check: tuple[str, ...], status: int) -> None:
    ended = run_python(f"{BIND}; import os; print(port, flush=True); os._exit(0)", *check)
    owner = Path(sys.executable).name[:15]
    left = f"left open in domain 0: a handle of {owner}, with port {ended.stdout}"
    assert (ended.returncode, ended.stderr) == (status, left)


def test_what_a_process_in_the_background_has_open_is_named() -> None:
    program = f"""{BIND}
import os
if os.fork() == 0:
    os.setsid()
    os.close(1), os.close(2)
    import signal
    signal.alarm(60)
    signal.pause()
os._exit(0)
"""
    ended = run_python(program, "--check")
    assert ended.returncode == 1
    assert ended.stderr.startswith("left open in domain 0: a handle of ")


# Has its domain saved and restored, then unbinds the port that it has lost by this.
RESTORED = f"""{BIND}
import subprocess, sys
for control in ("save-domain", "restore-domain"):
    command = [sys.executable, "-m", "pyxenevtchn", "fake", control, "5"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
try:
    channel.unbind(port)
except OSError as error:
    print(error.errno, flush=True)
channel.close()
"""


@pytest.mark.parametrize(("check", "status"), [((), 0), (("--check",), 1)])
def test_a_kernels_bug_is_printed_and_is_an_error_in_the_program(
    check: tuple[str, ...], status: int
) -> None:
    ended = run_python(RESTORED, "--domid", "5", *check)
    assert (ended.returncode, ended.stdout) == (status, f"{errno.EIO}\n")
    unbind, close = ended.stderr.splitlines()
    for line in (unbind, close):
        assert line.startswith("kernel bug: BUG_ON(irq < 0) in evtchn_unbind_from_user: port ")


@pytest.mark.parametrize("named", ["option", "device", "environment"])
def test_the_device_can_be_a_servers(server: ServerProcess, named: str) -> None:
    program = f"{BIND}; print(port, flush=True); import signal; signal.pause()"
    options: list[Argument] = ["fake", "run", "--", sys.executable, "-c", program]
    if named == "option":
        options[2:2] = ["--socket", server.path, "--domid", "3"]
    elif named == "device":
        options = ["--device", server.name(3), *options]
    device = server.name(3) if named == "environment" else ""
    with running(*options, device=device) as command, EventChannel.open(server.name(3)) as other:
        assert int(command.line()) in {port.port for port in server.xen.ports(3)}
        with pytest.raises(FileExistsError):
            other.bind_virq(Virq.DEBUG)
        command.signal(signal.SIGTERM)
        assert command.end().status == 143
        assert other.bind_virq(Virq.DEBUG)


def error_of(*arguments: Argument, device: str = "") -> tuple[int, str]:
    """Return the exit status and the error of ``fake run``: one line, besides hints."""
    ended = run("fake", "run", *arguments, device=device)
    error, *hints = ended.stderr.splitlines()
    assert ended.stdout == ""
    assert all(hint.startswith("Hint: ") for hint in hints)
    return ended.returncode, error.removeprefix("Error: ")


def test_a_program_that_cannot_be_run_is_an_error_with_a_shells_status(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("text")
    assert error_of("no-such-program") == (127, "no-such-program: no such program is on PATH")
    assert error_of("./no/such") == (127, "./no/such: No such file or directory")
    assert error_of(plain) == (126, f"{plain}: Permission denied")
    assert error_of(tmp_path) == (126, f"{tmp_path}: Permission denied")
    plain.chmod(0o755)
    assert error_of(plain) == (126, f"{plain}: Exec format error")


def test_a_program_that_nothing_is_preloaded_into_is_refused(tmp_path: Path) -> None:
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    (tmp_path / "main.c").write_text("int main(void) { return 0; }")
    subprocess.run(["cc", "-static", "-o", "program", "main.c"], cwd=tmp_path, check=True)
    status, error = error_of(tmp_path / "program")
    assert status == 126
    assert "linked statically" in error


def test_a_missing_server_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    assert error_of("--socket", path, "true") == (1, f"{path}: No such file or directory")


def test_a_full_server_is_an_error(own_server: ServerProcess) -> None:
    resource.prlimit(own_server.process.pid, resource.RLIMIT_NOFILE, (12, 12))
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            while True:
                connection = stack.enter_context(connect(str(own_server.path)))
                answer_value(exchange(connection, "ports 0"))
        status, error = error_of("--socket", own_server.path, "true")
    assert (status, error) == (1, f"{own_server.path}: {os.strerror(errno.EMFILE)}")


# Kills the server, and prints the results of calls.
KILL = f"""{BIND}
import os, select, signal, sys
other = EventChannel.open()
os.kill(int(sys.argv[1]), signal.SIGKILL)
assert select.select([channel, other], [], [], 20)[0]
calls = [
    lambda: channel.bind_virq(Virq.ARGO), lambda: channel.reset(), lambda: channel.read(),
    lambda: channel.unmask(port), lambda: other.bind_unbound_port(0), EventChannel.open,
]
for call in 2 * calls:
    try:
        print(call())
    except OSError as error:
        print(error.errno)
channel.close()
"""


def test_a_server_that_dies_is_an_error(own_server: ServerProcess) -> None:
    pid = str(own_server.process.pid)
    program = (sys.executable, "-c", KILL, pid)
    ended = run("fake", "run", "--socket", own_server.path, "--", *program, device="")
    assert ended.stdout.split() == 12 * [str(errno.ECONNRESET)]
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"Error: {own_server.path}: Connection refused\nHint: ")


def test_a_device_that_would_be_another_is_an_error() -> None:
    status, error = error_of("true", device="fake:")
    assert status == 1
    assert error.startswith("XENEVTCHN_DEVICE is 'fake:', and Python programs would use that")
    assert run("fake", "run", "true", device="/dev/xen/evtchn").returncode == 0


def test_a_check_is_for_a_server_of_ones_own(server: ServerProcess) -> None:
    ended = run("fake", "run", "--socket", server.path, "--check", "true", device="")
    assert (ended.returncode, "--check" in ended.stderr) == (2, True)


def test_no_folder_for_the_socket_is_an_error(tmp_path: Path) -> None:
    # No file can be written anywhere.
    ended = shell("ulimit -f 0; exec xenevtchn fake run true", device="")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "set TMPDIR to a writable folder" in ended.stderr
    # No socket has so long a path.
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    ended = run("fake", "run", "true", device="", more={"TMPDIR": str(folder)})
    assert ended.returncode == 1
    assert "longer than the path of a Unix socket can be" in ended.stderr


def test_nothing_stays_behind(tmp_path: Path) -> None:
    ended = run("fake", "run", "true", device="", more={"TMPDIR": str(tmp_path)})
    assert result_of(ended) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_what_a_user_preloads_stays_first(tmp_path: Path) -> None:
    mine = tmp_path / "mine.so"
    shutil.copy(preload.OBJECT, mine)
    script = "echo $LD_PRELOAD"
    ended = run("fake", "run", "sh", "-c", script, device="", more={"LD_PRELOAD": str(mine)})
    assert ended.stdout == f"{mine}:{preload.OBJECT}\n"
