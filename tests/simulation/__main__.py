"""Simulate the delivery of jobs under faults.

``python -m tests.simulation --seeds 2000`` runs seeds 0 to 1999, ``--seeds A..B`` those from A to before B;
``--seed N --trace`` replays one and prints what happened; ``--zoo`` looks for every planted bug.
"""

import argparse
import logging
import sys
import time
from typing import Final

from tests.simulation.bugs import BUGS
from tests.simulation.runner import hunt_all, run_all
from tests.simulation.world import Report, simulate

SHOWN: Final = 20


def main() -> int:
    """Exit status 0 if every promise held, 1 if not."""
    arguments = _arguments()
    if arguments.zoo:
        return hunt_the_zoo(arguments.processes)
    if arguments.seed is not None:
        return replay(arguments.seed, trace=arguments.trace)
    return simulate_all(_range(arguments.seeds), arguments.processes)


def replay(seed: int, *, trace: bool) -> int:
    """Run one seed."""
    if trace:
        logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s", stream=sys.stdout)
    report = simulate(seed, trace=trace)
    for line in report.trace:
        print(line)
    _show(report)
    return 1 if report.violations else 0


def simulate_all(seeds: range, processes: int) -> int:
    """Run seeds, and show the first of those that break a promise."""
    begun_s = time.monotonic()
    broken = 0
    for report in run_all(seeds, processes):
        if report.violations:
            broken += 1
            if broken <= SHOWN:
                _show(report)
    lasted_s = time.monotonic() - begun_s
    print(
        f"{len(seeds):,} simulations in {lasted_s:.1f} s ({len(seeds) / lasted_s:.0f}/s): "
        + (f"{broken:,} broke a promise" if broken else "every promise held")
    )
    return 1 if broken else 0


def hunt_the_zoo(processes: int) -> int:
    """Look for every planted bug, and show what each was caught by."""
    missed = 0
    for hunt in hunt_all(processes):
        missed += hunt.invariant is None
        print(f"{hunt.bug:60} {hunt.invariant or 'NOT FOUND':16} {hunt.seeds:4} seeds  {hunt.text}", flush=True)
    print(f"{len(BUGS)} bugs, {missed} not found")
    return 1 if missed else 0


def _show(report: Report) -> None:
    print(f"seed {report.seed}: {report.callbacks:,} callbacks, {report.lasted_s:.1f} s, trace {report.trace_hash}")
    for invariant, text in report.violations[:3]:
        print(f"  {invariant}: {text}")
    if report.violations:
        print(f"  replay: python -m tests.simulation --seed {report.seed} --trace")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="2000", help="how many, or A..B")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--trace", action="store_true", help="print all that happened, with --seed")
    parser.add_argument("--zoo", action="store_true", help="look for every planted bug")
    return parser.parse_args()


def _range(text: str) -> range:
    begin, dots, end = text.partition("..")
    return range(int(begin), int(end)) if dots else range(int(begin))


if __name__ == "__main__":
    sys.exit(main())
