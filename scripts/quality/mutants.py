"""What became of mutants: the verdicts that mutmut left, and where those that nobody noticed lie.

mutmut 3 writes every variant of a function into one file, beside the original (``…__mutmut_orig``), and what became
of each into ``<file>.meta`` as pytest's exit status. It leaves alone what stands outside of functions, and most
functions with decorators.
"""

import ast
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

Verdict = Literal["killed", "timed out", "survived", "no tests", "unclear"]
#: pytest's and mutmut's exit statuses (mutmut/stats.py). SIGXCPU ends a mutant that runs for too long.
_VERDICTS: Final[dict[int, Verdict]] = {
    1: "killed", 3: "killed",
    36: "timed out", 24: "timed out", -24: "timed out", 152: "timed out", 255: "timed out",
    0: "survived",
    5: "no tests", 33: "no tests",
}  # fmt: skip
#: Of the standard normal distribution, for 95 %.
_Z: Final = 1.96


class Survivor(Struct, frozen=True):
    """A change that no test noticed; ``after`` is empty where the line was left out."""

    name: str
    file: str
    line: int
    before: str
    after: str


class Mutation(Struct, frozen=True):
    """What became of the mutants that were tried: those drawn by ``seed`` for which there was time."""

    mutants: int
    drawn: int
    seed: int
    verdicts: dict[Verdict, int]
    survivors: tuple[Survivor, ...] = ()

    def tried(self) -> int:
        """The mutants with a verdict. One that is unclear (a crash, an interruption) counts for neither side."""
        return sum(count for verdict, count in self.verdicts.items() if verdict != "unclear")

    def noticed(self) -> int:
        """Those that a test failed on, or hung on."""
        return self.verdicts.get("killed", 0) + self.verdicts.get("timed out", 0)

    def percent(self) -> float | None:
        """Of 100 mutants those that were noticed; None where none was tried."""
        return 100 * self.noticed() / self.tried() if self.tried() else None

    def interval(self) -> tuple[float, float] | None:
        """Where the percentage of all mutants lies, with 95 % confidence (Wilson 1927, score interval)."""
        if not (count := self.tried()):
            return None
        share = self.noticed() / count
        centre = share + _Z**2 / (2 * count)
        spread = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
        return 100 * (centre - spread) / (1 + _Z**2 / count), 100 * (centre + spread) / (1 + _Z**2 / count)


class _Meta(Struct, frozen=True):
    exit_code_by_key: dict[str, int | None]


def exit_codes(meta: bytes) -> dict[str, int | None]:
    """Each mutant of a file and its exit status, None where it was not tried; from mutmut's ``.meta``."""
    return msgspec.json.decode(meta, type=_Meta).exit_code_by_key


def verdicts(codes: Mapping[str, int | None], drawn: Iterable[str]) -> dict[str, Verdict]:
    """The verdict of each mutant of ``drawn`` that was tried."""
    tried = ((name, codes.get(name)) for name in drawn)
    return {name: _VERDICTS.get(code, "unclear") for name, code in tried if code is not None}


def counted(found: Mapping[str, Verdict]) -> dict[Verdict, int]:
    """How many mutants came to each verdict."""
    return dict(Counter(found.values()))


def survivors(root: Path, mutated: Path, file: str, names: Iterable[str]) -> list[Survivor]:
    """Where these mutants of ``file`` differ from the source in ``root``; ``mutated`` is mutmut's folder."""
    originals = dict(_functions(ast.parse((root / file).read_text(encoding="utf-8"))))
    text = (mutated / file).read_text(encoding="utf-8")
    lines = text.splitlines()
    variants = {name.rpartition(".")[2]: node for name, node in _functions(ast.parse(text))}
    found = (_survivor(name, file, originals, variants, lines) for name in names)
    return sorted((one for one in found if one), key=lambda one: (one.line, one.name))


def _survivor(
    name: str, file: str, originals: Mapping[str, ast.stmt], variants: Mapping[str, ast.stmt], lines: list[str]
) -> Survivor | None:
    variant = name.rpartition(".")[2]
    mangled = variant.partition("__mutmut_")[0]
    original = originals.get(mangled.removeprefix("xǁ").removeprefix("x_").replace("ǁ", "."))
    kept, changed = variants.get(f"{mangled}__mutmut_orig"), variants.get(variant)
    if original is None or kept is None or changed is None:
        return None
    before, after = _body(kept, lines, f"{mangled}__mutmut_orig"), _body(changed, lines, variant)
    differing = [index for index, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]]
    at = differing[0] if differing else min(len(before), len(after)) - 1
    became = after[at].strip() if len(before) == len(after) else ""
    return Survivor(name, file, original.lineno + at, before[at].strip(), became)


def _body(node: ast.stmt, lines: list[str], name: str) -> list[str]:
    return [line.replace(name, "…") for line in lines[node.lineno - 1 : node.end_lineno]]


def _functions(tree: ast.Module | ast.ClassDef, path: str = "") -> Iterator[tuple[str, ast.stmt]]:
    """The functions and methods, by their dotted names."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{path}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path}{node.name}", node
