"""``python -m tests.acceptance.faults --seeds A..B``: run schedules of faults, one JSON line each on stdout.

`--zoo` runs the planted bugs instead.
"""

import asyncio
import faulthandler
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
import msgspec

from deploy.local.process import last_lines
from tests.acceptance.faults import clocks
from tests.acceptance.faults.line import RunLine
from tests.acceptance.faults.run import Run
from tests.acceptance.faults.scale import scaled
from tests.acceptance.faults.schedule import DISPATCHERS, WORKERS, Means, can_be_made, draw
from tests.acceptance.faults.servers import may_trace
from tests.acceptance.faults.stack import TELL_S, TOLD_LINES, FaultStack
from tests.acceptance.faults.zoo import TRIALS, Trial

log = logging.getLogger("faults")

#: Set in the process that runs in namespaces of its own.
ISOLATED: Final = "HEADRACE_FAULTS_ISOLATED"
#: How much of a process' log is told when a run was broken, and of which lines; librdkafka writes its own.
COMPLAINT: Final = re.compile(r" (WARNING|ERROR|CRITICAL) |^%[0-4]\|")
COMPLAINTS: Final = 30
LINE_CHARACTERS: Final = 240
#: What nobody gets to see where one of the means is missing.
LEFT_OUT: Final[Mapping[Means, str]] = {
    Means.NAMESPACES: "faults of the network and full disks are left out",
    Means.TRACING: "disks that refuse to sync are left out",
    Means.FAKETIME: "clocks that jump are left out",
}
NAMESPACES: Final = ("unshare", "--net", "--mount", "--propagation", "private", "--")


class Seeds(click.ParamType):
    """``7`` or ``0..99``, both ends included."""

    name = "seeds"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> range:
        """The seeds."""
        if isinstance(value, range):
            return value
        first, _, last = str(value).partition("..")
        if not (first.isdigit() and (last or first).isdigit() and int(last or first) >= int(first)):
            self.fail(f"{value!r} is not a seed or a range of seeds: write 7 or 0..99", param, ctx)
        return range(int(first), int(last or first) + 1)


@click.command()
@click.option("--seeds", type=Seeds(), default="0..9", show_default=True, help="Which schedules to run: 7 or 0..99.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the stack's logs and data in this directory.")
@click.option("--zoo", is_flag=True, help="Instead, plant one bug after the other, and see whether it is caught.")
@click.option("--scale", is_flag=True, help="Instead, have dispatchers and workers join and leave under load.")
def main(seeds: range, keep: Path | None, zoo: bool, scale: bool) -> None:
    """Run schedules of faults against a real stack with three brokers.

    Exits with 0 if every run held its promises; with --zoo, if every planted bug broke the promise that it should.
    """
    isolated = os.environ.get(ISOLATED) == "1"
    if not isolated and _may_isolate():
        _isolate()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    means = _means(isolated=isolated)
    for missing in set(Means) - means:
        log.warning("No %s for us here: %s. Run `make setup`, as root.", missing, LEFT_OUT[missing])
    with _directory(keep) as directory:
        # Postgres has a user of its own, who must get there.
        directory.chmod(0o755)
        stack = FaultStack(directory, means)
        fine = asyncio.run(_undisturbed(stack) if scale else run(stack, () if zoo else seeds, TRIALS if zoo else ()))
    sys.exit(0 if fine else 1)


@contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="headrace-faults-") as name:
            yield Path(name)


def _may_isolate() -> bool:
    """Whether we may have namespaces, rules and disks of our own: root may, unless a container forbids it."""
    attempt = "iptables --list --numeric && mount -t tmpfs headrace-faults /mnt"
    return subprocess.run((*NAMESPACES, "sh", "-c", attempt), check=False, capture_output=True).returncode == 0


def _means(*, isolated: bool) -> frozenset[Means]:
    found = {Means.NAMESPACES: isolated, Means.TRACING: may_trace(), Means.FAKETIME: clocks.library() is not None}
    return frozenset(means for means, is_here in found.items() if is_here)


def _isolate() -> None:
    """Become this command in namespaces of its own, which take along every rule, route and disk that it made."""
    os.environ[ISOLATED] = "1"
    module = (sys.executable, "-m", "tests.acceptance.faults")
    os.execvp(NAMESPACES[0], (*NAMESPACES, *module, *sys.argv[1:]))  # noqa: S606


async def run(stack: FaultStack, seeds: Sequence[int], trials: Sequence[Trial]) -> bool:
    """Run the schedules and the trials one after the other on one stack; whether each came out as it should."""
    _heed_signals(stack)
    begun_s = time.monotonic()
    fine = True
    async with stack.running():
        log.info("the stack runs after %.1f s", time.monotonic() - begun_s)
        for seed in seeds:
            await stack.healthy_soon()
            line = await Run(draw(seed, stack.means), stack).result()
            fine = _held(line, stack) and fine
        for trial in trials:
            if not all(can_be_made(strike.fault, stack.means) for strike in trial.schedule.strikes):
                log.warning("%s: left out, for its faults can't be made here.", trial.bug)
                continue
            await stack.plant(trial.bug.value)
            line = await Run(trial.schedule, stack).result()
            _print(msgspec.structs.replace(line, bug=trial.bug.value))
            fine = fine and line.broken[trial.breaks.value] > 0
    return fine


async def _undisturbed(stack: FaultStack) -> bool:
    _heed_signals(stack)
    return _held(await scaled(stack), stack)


def _heed_signals(stack: FaultStack) -> None:
    task = asyncio.current_task()
    assert task is not None
    # Cancelled, it stops the stack in order.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _tell_tasks, stack)
    # It calls that handler, and answers for a loop that is blocked.
    faulthandler.register(signal.SIGUSR1, chain=True)


def _held(line: RunLine, stack: FaultStack) -> bool:
    _print(line)
    if line.verdict != "held":
        _tell_logs(stack)
    return line.verdict == "held"


def _tell_tasks(stack: FaultStack) -> None:
    """What we wait for, for somebody who has waited too long for us."""
    for task in asyncio.all_tasks():
        # Each connection of a proxy has three, which wait for bytes.
        if "Proxy" not in repr(task.get_coro()):
            task.print_stack(file=sys.stderr)
    stack.ask((*DISPATCHERS, *WORKERS))
    asyncio.get_running_loop().call_later(TELL_S, _tell_ends, stack)


def _tell_ends(stack: FaultStack) -> None:
    for name in (*DISPATCHERS, *WORKERS):
        if stack.log(name).exists():
            log.info(last_lines(stack.log(name), TOLD_LINES))


def _tell_logs(stack: FaultStack) -> None:
    """What our processes complained of last: the stack is gone when somebody asks."""
    for name in (*DISPATCHERS, *WORKERS):
        if not stack.log(name).exists():
            continue
        lines = stack.log(name).read_text(errors="replace").splitlines()
        complaints = [line[:LINE_CHARACTERS] for line in lines if COMPLAINT.search(line)]
        log.info("%s said last:\n%s", name, "\n".join(complaints[-COMPLAINTS:]))


def _print(line: RunLine) -> None:
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
