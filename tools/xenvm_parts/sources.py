"""Where packages come from: a Debian source of this machine, for another suite."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from .errors import Failure

_MIRROR_VARIABLE = "XENVM_DEBIAN_MIRROR"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring"
_SUITES = {
    *("oldstable", "stable", "testing", "unstable"),
    *("bullseye", "bookworm", "trixie", "forky", "sid"),
}


def debian_source(suite: str, etc_apt: Path = Path("/etc/apt")) -> str:
    """Return an apt source (deb822) for a suite of Debian, made from one that the machine has."""
    stanza = next(filter(_is_debian, _stanzas(etc_apt)), None)
    if mirror := os.environ.get(_MIRROR_VARIABLE):
        stanza = {"uris": mirror, "signed-by": _keyring()}
    elif stanza is None:
        raise Failure(
            f"this machine has no Debian apt source: set {_MIRROR_VARIABLE} to the URI of a Debian "
            "mirror, and install debian-archive-keyring: apt checks the signatures with it"
        )
    kept = {"URIs": stanza["uris"], "Signed-By": stanza.get("signed-by", "")}
    fields = {"Types": "deb", "Suites": suite, "Components": "main"} | kept
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


def _keyring() -> str:
    """Return the file with the keys of Debian's archive."""
    for suffix in (".pgp", ".gpg"):
        if Path(_KEYRING + suffix).exists():
            return _KEYRING + suffix
    raise Failure(
        "the keys of Debian's archive are missing: sudo apt install debian-archive-keyring"
    )


def _is_debian(stanza: dict[str, str]) -> bool:
    """Return whether a source is Debian's main archive: others have a suite "stable" too."""
    keyring = stanza.get("signed-by", "")
    return (
        "deb" in stanza.get("types", "").split()
        and stanza.get("enabled", "yes").lower() not in {"no", "false", "0"}
        and "main" in stanza.get("components", "").split()
        and not _SUITES.isdisjoint(stanza.get("suites", "").split())
        and not stanza.get("uris", "cdrom:").startswith("cdrom:")
        and (not keyring or "debian-archive" in keyring)
    )


def _stanzas(etc_apt: Path) -> Iterator[dict[str, str]]:
    """Yield the machine's sources as deb822 fields, their names in lower case."""
    for path in sorted(etc_apt.glob("sources.list.d/*.sources")):
        for text in re.split(r"\n\s*\n", _without_comments(path)):
            # A line that starts with a space continues the field above it.
            lines = re.sub(r"\n[ \t]+", " ", text).splitlines()
            fields = (line.partition(":") for line in lines if ":" in line)
            yield {name.strip().lower(): value.strip() for name, _, value in fields}
    for path in (etc_apt / "sources.list", *sorted(etc_apt.glob("sources.list.d/*.list"))):
        if path.exists():
            for line in _without_comments(path).splitlines():
                yield from _one_line(line)


def _one_line(line: str) -> Iterator[dict[str, str]]:
    """Yield the source of a line such as "deb [signed-by=KEYRING] URI SUITE COMPONENT..."."""
    if match := re.match(r"(deb)\s+(?:\[(.*?)\]\s+)?(\S+)\s+(\S+)\s+(.+)", line):
        kind, options, uri, suite, components = match.groups(default="")
        signed_by = re.search(r"signed-by=(\S+)", options, re.IGNORECASE)
        yield {
            "types": kind,
            "uris": uri,
            "suites": suite,
            "components": components,
            "signed-by": signed_by[1] if signed_by else "",
        }


def _without_comments(path: Path) -> str:
    """Return a file's text without the lines that start with #."""
    return re.sub(r"(?m)^#.*\n?", "", path.read_text())
