"""Look for known holes: in our code by bandit, in what we lock by pip-audit and Safety, or else by a file of ours.

python scripts/security.py            what can be done here
python scripts/security.py --online   fail where no advisory database could be asked: the pipeline's way

The minimum versions of requirements/known-holes.toml are compared with the lock files always. They are a few holes
that we know of, no database: the last line says whether one was asked.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
# Run as a file, Python looks for imports beside it and not in the repository.
sys.path.insert(0, str(ROOT))

from scripts.auditors import Verdict, bandit, pip_audit, safety  # noqa: E402
from scripts.holes import find_holes, read_holes  # noqa: E402

FOLDERS: Final = ("schemas", "producers", "streams", "workers", "runtime", "deploy", "scripts")
LOCKS: Final = ("dev", "runtime", "tools", "uv")
TOOLS: Final = Path("var/tools")
HOLES: Final = Path("requirements/known-holes.toml")


def by_minimum_versions(locks: Sequence[Path], holes: Path) -> Verdict:
    """What our own file knows of the locked versions."""
    known = read_holes(holes)
    found = find_holes(locks, known)
    if found:
        return Verdict("minimum versions", "holes", tuple(map(str, found)))
    return Verdict("minimum versions", "clean", (f"{len(known)} known holes, none of them in {len(locks)} lock files",))


def judged(verdicts: Sequence[Verdict], *, online: bool) -> int:
    """Print all verdicts and which databases were asked; exit status 1 where a hole was found or none was asked."""
    for verdict in verdicts:
        print(f"{verdict.tool}: {verdict.state}")
        for line in verdict.lines:
            print(f"    {line}")
    asked = [verdict.tool for verdict in verdicts if verdict.tool in ("pip-audit", "safety") and _ran(verdict)]
    if asked:
        print(f"An advisory database was asked, by {' and '.join(asked)}.")
    else:
        print("No advisory database was asked: only the minimum versions of requirements/known-holes.toml hold.")
    holes = any(verdict.state == "holes" for verdict in verdicts)
    silent = online and not (asked and all(_ran(verdict) for verdict in verdicts if verdict.tool == "bandit"))
    return 1 if holes or silent else 0


def _ran(verdict: Verdict) -> bool:
    return verdict.state != "did not run"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--online", action="store_true", help="fail where no advisory database could be asked")
    options = parser.parse_args()
    locks = [lock for name in LOCKS if (lock := Path(f"requirements/{name}.txt")).exists()]
    verdicts = (
        bandit(TOOLS, FOLDERS), pip_audit(TOOLS, locks), safety(TOOLS, locks), by_minimum_versions(locks, HOLES)
    )  # fmt: skip
    return judged(verdicts, online=options.online)


if __name__ == "__main__":
    sys.exit(main())
