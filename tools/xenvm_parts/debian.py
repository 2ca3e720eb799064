"""Debian packages: fetched with a separate apt configuration and unpacked, never installed.

The machine's own apt configuration is only read.
"""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from . import cache, programs
from .errors import Failure
from .progress import say
from .sources import debian_source

# What base-files and the maintainer scripts of other packages would make.
_FOLDERS = (
    *("boot", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var"),
    *("usr/bin", "usr/lib", "usr/lib64", "usr/sbin"),
)
_LINKS = {
    **{name: f"usr/{name}" for name in ("bin", "lib", "lib64", "sbin")},
    "var/run": "/run",
    "var/lock": "/run/lock",
}
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
}


class Apt:
    """apt with its own sources, lists and downloads, for one suite."""

    def __init__(self, suite: str, architecture: str = "amd64") -> None:
        say(f"reading the package lists of Debian {suite} for {architecture}")
        self._suite = suite
        self._home = cache.directory() / f"apt-{suite}-{architecture}"
        for name in ("sources", "lists/partial", "archives/partial"):
            (self._home / name).mkdir(parents=True, exist_ok=True)
        source = debian_source(suite)
        (self._home / "sources/debian.sources").write_text(source)
        (self._home / "status").touch()
        self._options = [
            f"-oDir::Etc::sourceparts={self._home}/sources",
            "-oDir::Etc::sourcelist=/dev/null",
            "-oDir::Etc::preferences=/dev/null",
            "-oDir::Etc::preferencesparts=/dev/null",
            f"-oDir::State={self._home}",
            f"-oDir::State::lists={self._home}/lists",
            f"-oDir::State::status={self._home}/status",
            f"-oDir::Cache={self._home}",
            # When root runs apt, it downloads as another user, who cannot write to root's cache.
            "-oAPT::Sandbox::User=root",
            f"-oAPT::Architecture={architecture}",
            f"-oAPT::Architectures={architecture}",
            "-oAcquire::Languages=none",
        ]
        try:
            self._run("apt-get", "--error-on=any", "update")
        except Failure as failure:
            mirror = re.search(r"^URIs: (.*)", source, re.MULTILINE)
            reasons = re.findall(r"^E: (.*)", str(failure), re.MULTILINE)
            raise Failure(
                f"no package lists of Debian {suite} from {mirror[1] if mirror else 'its mirror'} "
                f"({' '.join(reasons[:1]) or failure}): set XENVM_DEBIAN_MIRROR to another mirror"
            ) from failure

    def newest(self, pattern: str) -> str:
        """Return the package with the highest version in its name, among those that match."""
        names = self._run("apt-cache", "pkgnames", "linux-").split()
        matching = [name for name in names if re.fullmatch(pattern, name)]
        if not matching:
            raise Failure(f"Debian {self._suite} has no package that matches {pattern}")
        return max(matching, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])

    def unpack(self, packages: Sequence[str], target: Path) -> None:
        """Download packages and add their files to a directory."""
        say(f"downloading {', '.join(packages)}")
        target.mkdir(exist_ok=True)
        self._run("apt-get", "download", *packages, cwd=target)
        _unpack(target.glob("*.deb"), target)

    def unpack_system(self, packages: Sequence[str], target: Path) -> None:
        """Make a directory a root to run the packages in, with all their dependencies."""
        say(f"downloading {', '.join(packages)} and what they depend on")
        archives = target / "archives"
        (archives / "partial").mkdir(parents=True)
        self._run(
            *("apt-get", f"-oDir::Cache::archives={archives}", "--yes", "--download-only"),
            *("--no-install-recommends", "install", *packages),
        )
        for name in _FOLDERS:
            (target / name).mkdir(parents=True)
        for link, aim in _LINKS.items():
            (target / link).symlink_to(aim)
        _unpack(archives.glob("*.deb"), target)
        for name, contents in _FILES.items():
            (target / name).write_text(contents)
        (archives / "lock").unlink(missing_ok=True)
        (archives / "partial").rmdir()
        archives.rmdir()

    def _run(self, program: str, *arguments: str | Path, cwd: Path | None = None) -> str:
        return run(program, *self._options, "-qq", *arguments, cwd=cwd)


def _unpack(archives: Iterable[Path], target: Path) -> None:
    """Add the files of packages to a directory, and remove the packages."""
    for archive in sorted(archives):
        say(f"unpacking {archive.name.partition('_')[0]}")
        contents = archive.with_suffix(".tar")
        run("dpkg-deb", "--fsys-tarfile", archive, output=contents)
        # Debian merged /bin into /usr/bin; its packages name either.
        run("tar", "-x", "--keep-directory-symlink", "-f", contents, "-C", target)
        archive.unlink()
        contents.unlink()


def run(
    program: str | Path,
    *arguments: str | Path,
    cwd: Path | None = None,
    output: Path | None = None,
) -> str:
    """Run a program to its end; return its output, unless that goes to a file."""
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(
                [programs.find(str(program)), *arguments],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=stack.enter_context(output.open("wb")) if output else subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                process_group=0,
            )
        )
        try:
            printed, errors = process.communicate()
        except BaseException:
            # The program's own children must not go on writing to the cache.
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        raise Failure(f"{program} failed:\n{errors.strip()}")
    return printed or ""
