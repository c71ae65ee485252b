"""``python -m benchmarks.gate``: fail where a figure of ``results/`` has lost against ``baseline.json``.

Run ``python -m benchmarks`` before. What seems lost is measured again, with the servers of the environment, and has
failed only if it is worse each time. ``--save`` adds the results to the baseline instead: save those of several runs
of a quiet machine, for what differs from run to run is what a loss is compared with.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, get_args

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from benchmarks.figure import Figure
from benchmarks.losses import LEAST_LOSS, LEAST_LOSS_ELSEWHERE, Finding, Sense, find, settle

HERE: Final = Path(__file__).parent
#: Runs of the whole benchmark that are kept of a machine.
SESSIONS: Final = 10

Key = tuple[str, str, str]
Measure = Callable[[str], Sequence[Figure]]


class Session(Struct, frozen=True):
    """What one run of a benchmark gave: the ratio of each of its runs in turns."""

    machine: str
    date: str
    ratios: tuple[float, ...]


class Kept(Struct, frozen=True):
    """A figure's sessions, oldest first; ``sense`` says which way is better."""

    bench: str
    unit: str
    peer_name: str
    sense: Sense
    sessions: tuple[Session, ...]


class Line(Struct, frozen=True):
    """A line of the table; without a finding ``note`` says why there is none. ``ratios`` are those that it is of."""

    key: Key
    finding: Finding | None
    note: str = ""
    ratios: tuple[float, ...] = ()


def gate(baseline: Sequence[Kept], figures: Sequence[Figure], measure: Measure | None, confirm: int) -> list[Line]:
    """Judge figures, those of all runs together; a line a figure in the baseline's order, new ones last.

    What would be lost if it were the only figure is measured again, up to ``confirm`` times. It is lost if it was worse
    each time, and if all its runs together are so sure that it stands out among so many figures. Were all measured
    again, false alarms would be as rare as is promised; only some are, which can but make them rarer.
    """
    kept = {(one.bench, one.unit, one.peer_name): one for one in baseline}
    fresh = {key_of(figure): figure for figure in figures}
    lines = [_line(one, fresh.pop(key, None)) for key, one in kept.items()]
    for _ in range(confirm if measure else 0):
        assert measure is not None
        lost = {line.key for line in lines if _failed(line)}
        again = {key_of(figure): figure for bench in sorted({key[0] for key in lost}) for figure in measure(bench)}
        lines = [
            _again(kept[line.key], line, again[line.key]) if line.key in lost & again.keys() else line for line in lines
        ]
    settled = iter(settle([line.finding for line in lines if line.finding]))
    lines = [replace(line, finding=next(settled)) if line.finding else line for line in lines]
    return lines + [Line(key, None, "new: --save it") for key in fresh]


def save(baseline: Sequence[Kept], figures: Sequence[Figure]) -> list[Kept]:
    """The baseline with one session more of each figure; the oldest of a machine are given up."""
    kept = {(one.bench, one.unit, one.peer_name): one for one in baseline}
    for figure in figures:
        key, session = key_of(figure), Session(figure.machine, figure.date, ratios_of(figure))
        before = kept[key].sessions if key in kept else ()
        if session not in before:
            here = [one for one in before if one.machine == session.machine]
            gone = here[0] if len(here) >= SESSIONS else None
            before = (*(one for one in before if one is not gone), session)
        kept[key] = Kept(*key, sense_of(figure), before)
    return list(kept.values())


def key_of(figure: Figure) -> Key:
    """What makes two figures the same one."""
    return figure.bench, figure.unit, figure.peer_name


def sense_of(figure: Figure) -> Sense:
    """Whether less or more is better, as the figure's bar says."""
    return next(sense for sense in get_args(Sense) if figure.bar.startswith(sense))


def ratios_of(figure: Figure) -> tuple[float, ...]:
    """Ours to the peer's, of each run; of a figure whose runs are no pairs its one ratio."""
    ours, peer = figure.runs.ours, figure.runs.peer
    if len(ours) != len(peer) or not all(peer):
        return (figure.ratio,)
    return tuple(float(f"{mine / other:.4g}") for mine, other in zip(ours, peer, strict=True))


def read_results(folder: Path) -> list[Figure]:
    """The figures of a folder, each once."""
    lines = [line for file in sorted(folder.glob("*.jsonl")) for line in file.read_text(encoding="utf-8").splitlines()]
    return list({key_of(figure): figure for figure in map(_figure, lines)}.values())


def read_baseline(file: Path) -> list[Kept]:
    """The figures of a baseline; none of a file that is not there."""
    return msgspec.json.decode(file.read_bytes(), type=list[Kept]) if file.exists() else []


def table(lines: Sequence[Line]) -> str:
    """The lines in columns."""
    rows = [("figure", "against", "baseline", "now", "loss", "chance", "verdict")]
    for (bench, _, peer_name), finding, note in ((line.key, line.finding, line.note) for line in lines):
        if finding is None:
            rows.append((bench, peer_name[:36], "", "", "", "", note))
            continue
        chance = "" if finding.p is None else f"{finding.p:.2g}"
        verdict = f"{finding.verdict}{f', {note}' if note else ''}"
        rows.append(
            (
                bench,
                peer_name[:36],
                f"{finding.baseline:.4g}",
                f"{finding.fresh:.4g}",
                f"{finding.loss:+.0%}",
                chance,
                verdict,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def main(arguments: list[str]) -> int:
    """Exit status 1 where a figure was lost, 2 where none could be compared."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate", description="Compare figures with the baseline.")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="the folder of a fresh run's results")
    parser.add_argument("--baseline", type=Path, default=HERE / "baseline.json")
    parser.add_argument("--confirm", type=int, default=2, help="times that what seems lost is measured again")
    parser.add_argument("--save", action="store_true", help="add the results to the baseline, and compare nothing")
    given = parser.parse_args(arguments)
    baseline, figures = read_baseline(given.baseline), read_results(given.results)
    if given.save:
        kept = msgspec.json.encode(save(baseline, figures))
        given.baseline.write_bytes(msgspec.json.format(kept, indent=1) + b"\n")
        return 0
    lines = gate(baseline, figures, _measure, given.confirm)
    print(table(lines))
    if not any(line.finding for line in lines):
        print(f"Nothing in {given.results} is newer than {given.baseline}: run the benchmarks first.", file=sys.stderr)
        return 2
    return 1 if any(map(_failed, lines)) else 0


def _line(kept: Kept, figure: Figure | None) -> Line:
    key = (kept.bench, kept.unit, kept.peer_name)
    if figure is None:
        return Line(key, None, "not measured")
    ratios = ratios_of(figure)
    if Session(figure.machine, figure.date, ratios) in kept.sessions:
        return Line(key, None, "as saved: not measured since")
    if min(ratio for session in (*kept.sessions, Session("", "", ratios)) for ratio in session.ratios) <= 0:
        return Line(key, None, "a ratio is not positive")
    here = any(session.machine == figure.machine for session in kept.sessions)
    return Line(key, _finding(kept, figure.machine, ratios), "" if here else "baseline of another machine", ratios)


def _finding(kept: Kept, machine: str, ratios: Sequence[float]) -> Finding:
    here = [session for session in kept.sessions if session.machine == machine]
    before = [ratio for session in here or kept.sessions for ratio in session.ratios]
    return find(kept.sense, before, ratios, LEAST_LOSS if here else LEAST_LOSS_ELSEWHERE)


def _again(kept: Kept, line: Line, figure: Figure) -> Line:
    """The line of all its runs, or a pass where the last ones were not worse."""
    assert line.finding is not None
    last = ratios_of(figure)
    if min(last) <= 0:
        return replace(line, finding=replace(line.finding, verdict="same"), note="a ratio is not positive")
    loss = _finding(kept, figure.machine, last).loss
    if loss < LEAST_LOSS:
        return replace(line, finding=replace(line.finding, verdict="same"), note=f"{loss:+.0%} once more")
    ratios = (*line.ratios, *last)
    return replace(line, finding=_finding(kept, figure.machine, ratios), ratios=ratios)


def _failed(line: Line) -> bool:
    return line.finding is not None and line.finding.verdict == "lost"


def _figure(line: str) -> Figure:
    return msgspec.json.decode(line, type=Figure)


def _measure(bench: str) -> list[Figure]:
    # Not above: the benchmarks bring Faust and Kafka's client with them, which a comparison does not need.
    from benchmarks.__main__ import BENCHES

    return list(BENCHES[bench]())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
