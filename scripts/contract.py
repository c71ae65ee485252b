"""Write what is generated from the types of ``schemas/``, or check that it is up to date.

python scripts/contract.py              write schemas/contract/
python scripts/contract.py --check      fail, with a diff, where it is out of date or breaks the last release
python scripts/contract.py --release    keep today's schemas as those that later ones are compared with
"""

import argparse
import difflib
import json
import sys
from pathlib import Path
from typing import Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[1]
# Run as a file, Python looks for imports beside it and not in the repository.
sys.path.insert(0, str(ROOT))

from scripts.asyncapi import document  # noqa: E402
from scripts.compatibility import breaks_between  # noqa: E402
from scripts.json_schemas import EVENTS, json_schema  # noqa: E402

CONTRACT: Final = ROOT / "schemas/contract"
GOLDEN: Final = ROOT / "tests/golden/v1"
RELEASED: Final = GOLDEN / "schemas"


class _Dumper(yaml.SafeDumper):
    """YAML without anchors: a reader sees every value where it stands."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def rendered() -> dict[str, str]:
    """Every generated file's text by its name; the same types give the same text."""
    files = {f"{event.name}.json": f"{json.dumps(json_schema(event), indent=2)}\n" for event in EVENTS}
    head = "# Written by scripts/contract.py from schemas/*.py and tests/golden/; don't edit it here.\n"
    body = yaml.dump(document(GOLDEN), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return files | {"asyncapi.yaml": head + body}


def write(folder: Path, files: dict[str, str]) -> None:
    """Make the folder hold exactly these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in {file.name for file in folder.iterdir()} - files.keys():
        (folder / stale).unlink()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def drift(folder: Path, files: dict[str, str]) -> str:
    """How the folder differs from these files, as a unified diff; empty where it does not."""
    names = sorted({file.name for file in folder.iterdir()} | files.keys()) if folder.exists() else sorted(files)
    diff: list[str] = []
    for name in names:
        committed = (folder / name).read_text(encoding="utf-8") if (folder / name).exists() else ""
        diff += difflib.unified_diff(
            committed.splitlines(keepends=True), files.get(name, "").splitlines(keepends=True),
            f"committed/{name}", f"generated/{name}",
        )  # fmt: skip
    return "".join(diff)


def check(folder: Path, files: dict[str, str], released: Path) -> int:
    """Print what is wrong and return the exit status."""
    if difference := drift(folder, files):
        print(difference, end="")
        print("schemas/contract/ is out of date: run `python scripts/contract.py`.", file=sys.stderr)
        return 1
    if breaks := breaks_between(released, folder):
        print(*breaks, sep="\n")
        print("The contract breaks its last release: undo that, or make a v2 topic.", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="fail where the committed files are out of date")
    mode.add_argument("--release", action="store_true", help="keep today's schemas for later comparisons")
    options = parser.parse_args()
    files = rendered()
    if options.check:
        return check(CONTRACT, files, RELEASED)
    write(CONTRACT, files)
    if options.release:
        write(RELEASED, {name: text for name, text in files.items() if name.endswith(".json")})
    return 0


if __name__ == "__main__":
    sys.exit(main())
