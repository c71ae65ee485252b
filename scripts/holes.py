"""Whether a lock file has a version with a known hole, by the file of minimum versions in requirements/."""

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from packaging.utils import canonicalize_name
from packaging.version import Version

#: A line of a lock file; what follows (an environment's marker, hashes) does not matter.
_LOCKED: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)


class Hole(Struct, frozen=True, forbid_unknown_fields=True):
    """A package's versions below ``fixed``, or up to ``affected``, have the holes of these ids."""

    package: str
    ids: tuple[str, ...]
    #: Where the advisory was seen.
    seen: str
    fixed: str | None = None
    affected: str | None = None

    def __post_init__(self) -> None:
        if (self.fixed is None) == (self.affected is None):
            raise ValueError(f"{self.package} needs `fixed` or `affected`, and not both")
        if not self.ids or not self.seen:
            raise ValueError(f"{self.package} needs the advisory's id and where it was seen")

    def has(self, version: str) -> bool:
        """Whether this version has the hole."""
        if self.fixed is not None:
            return Version(version) < Version(self.fixed)
        return Version(version) <= Version(self.affected or "0")


class Found(Struct, frozen=True):
    """A version of a lock file that has a known hole."""

    file: str
    package: str
    version: str
    hole: Hole

    def __str__(self) -> str:
        needed = f"take {self.hole.fixed}" if self.hole.fixed else f"take one after {self.hole.affected}"
        return f"{self.file}: {self.package} {self.version} has {', '.join(self.hole.ids)}: {needed} or later"


class _Holes(Struct, frozen=True, forbid_unknown_fields=True):
    hole: tuple[Hole, ...]


def read_holes(file: Path) -> tuple[Hole, ...]:
    """The known holes.

    Raises:
        msgspec.ValidationError: an entry lacks something; with its place in the file.
    """
    return msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), _Holes).hole


def locked(text: str) -> Iterator[tuple[str, str]]:
    """Each package of a lock file and its version; one may occur twice, for two versions of Python."""
    for name, version in _LOCKED.findall(text):
        yield canonicalize_name(name), version


def find_holes(files: Iterable[Path], holes: Iterable[Hole]) -> list[Found]:
    """Every locked version with a known hole."""
    known = list(holes)
    return [
        Found(str(file), package, version, hole)
        for file in files
        for package, version in locked(file.read_text(encoding="utf-8"))
        for hole in known
        if canonicalize_name(hole.package) == package and hole.has(version)
    ]
