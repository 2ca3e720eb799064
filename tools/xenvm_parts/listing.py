"""What --list shows: the possible machines, and which of their parts the cache has."""

import argparse
from collections.abc import Iterator, Sequence

from . import cache, kinds
from .packages import arm64_system_name, linux_name, toolstack_name, xen_name


class List(argparse.Action):
    """The option --list: print the list and exit."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        _namespace: argparse.Namespace,
        _values: str | Sequence[object] | None,
        _option: str | None = None,
    ) -> None:
        """Print the list and exit."""
        print(*_combinations(), "", f"In {cache.directory()}:", *_parts(), sep="\n")
        parser.exit()


def _combinations() -> Iterator[str]:
    for arch in kinds.ARCHITECTURES:
        options = [("--linux", kinds.LINUX[arch]), ("--xen", kinds.XEN[arch])]
        options.append(("--abi", kinds.ABIS))
        if arch == "x86_64":
            options += [("--dom0", kinds.TYPES[:2])]
            options += [(f"--xen {kinds.GUESTS_XEN} --guest", kinds.TYPES)]
        shown = [f"{option} {'|'.join(values)}" for option, values in options]
        if arch == "arm64":
            shown.append("--static")
        yield f"--arch {arch}: {', '.join(shown)}"


def _parts() -> Iterator[str]:
    for arch in kinds.ARCHITECTURES:
        names = [linux_name(version, arch) for version in kinds.LINUX[arch]]
        names += [xen_name(version, arch) for version in kinds.XEN[arch]]
        of_xen = toolstack_name if arch == "x86_64" else arm64_system_name
        names += [of_xen(version) for version in kinds.XEN[arch]]
        for name in names:
            yield f"  {name:20} {'cached' if cache.has(name) else 'not cached'}"
