"""What the demo shows: bars that move on a terminal, lines elsewhere, tables."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from producers.cli.texts import interval, line_of
from producers.feed import JobEvent
from schemas.errors import printable
from schemas.events import CountProgress, StatusEvent, TrainProgress
from schemas.results import EvaluateResult

if TYPE_CHECKING:
    from examples.demo.report import Report

#: Without a terminal a table may be as wide as it needs.
PLAIN_WIDTH: Final = 160
LINE_EVERY_S: Final = 3.0


class Screen:
    """Where a person, or a log, sees the demo."""

    def __init__(self, console: Console) -> None:
        self._console = console
        if not console.is_terminal:
            console.width = PLAIN_WIDTH

    def step(self, title: str) -> None:
        """Begin a step."""
        self._console.print()
        self._console.print(Text(title, style="bold"))

    def say(self, text: str) -> None:
        """Write one line."""
        self._console.print(Text(text))

    @contextmanager
    def progress(self) -> Iterator[Callable[[JobEvent], None]]:
        """Show a job's events while the block runs, as the function that it gets is called with them."""
        if not self._console.is_terminal:
            yield self._lines()
            return
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task("sent", total=None)

            def show(event: JobEvent) -> None:
                match event:
                    case TrainProgress():
                        rate, left_s = f"{event.learning_rate:.2g}", f"{event.remaining_s:.0f}"
                        words = f"steps  loss {event.loss:.3f}  rate {rate}  {left_s} s left"
                        bar.update(task, completed=event.step, total=event.steps, description=words)
                    case CountProgress():
                        bar.update(task, completed=event.done, total=event.total, description=event.unit)
                    case StatusEvent():
                        bar.update(task, description=event.state.value)
                    case _:
                        bar.console.print(Text(line_of(event)))

            yield show

    def _lines(self) -> Callable[[JobEvent], None]:
        """Write each state, and progress now and then: a log needs no more."""
        due_s = 0.0

        def show(event: JobEvent) -> None:
            nonlocal due_s
            if isinstance(event, TrainProgress | CountProgress):
                if time.monotonic() < due_s:
                    return
                due_s = time.monotonic() + LINE_EVERY_S
            self.say(line_of(event))

        return show

    def answers(self, rows: Sequence[tuple[str, str, str, str]]) -> None:
        """Show prompts with both models' answers: language, prompt, base, tuned."""
        table = Table("", "prompt", "base", "tuned", box=None, pad_edge=False)
        for row in rows:
            # The base was trained on other tasks and may write any bytes.
            table.add_row(*(Text(printable(cell.rstrip("\n"))) for cell in row))
        self._console.print(table)

    def summary(self, report: "Report", evaluation: EvaluateResult) -> None:
        """Show the one table of before and after."""
        table = Table("", report.base, report.tuned, "difference (95 % interval)", title="Before and after")
        for score in evaluation.scores:
            name = f"{score.metric} on {evaluation.examples} held-out examples"
            if score.comparison:
                compared = score.comparison
                table.add_row(
                    name,
                    interval(compared.baseline),
                    interval(score.model),
                    interval(compared.difference),
                )
        table.add_section()
        table.add_row("fine-tune", "", f"{report.finetune_s:.1f} s, {report.train_s:.1f} s of it training", "")
        table.add_row("generate, median of a request", "", f"{report.generate_p50_ms:.0f} ms", "")
        table.add_row("all", "", f"{report.jobs} jobs in {report.wall_s:.1f} s", "")
        self._console.print()
        self._console.print(table)
