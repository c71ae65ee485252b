"""Events in words: what a person reads of a result, a state or a step."""

from datetime import datetime
from typing import assert_never

from producers.cli.output import Table
from producers.feed import JobEvent
from schemas.events import CountProgress, LogProgress, StatusEvent, TextProgress, TrainProgress
from schemas.results import EvaluateResult, FineTuneResult, GenerateResult, Interval, ResultEvent, Score


def line_of(event: JobEvent) -> str:
    """One line about an event."""
    match event:
        case StatusEvent():
            where = f" on {event.worker_id}" if event.worker_id else ""
            return f"{clock(event.at)} {event.state}{where}{f': {event.reason}' if event.reason else ''}"
        case TrainProgress():
            return (
                f"{clock(event.at)} step {event.step:,}/{event.steps:,}  loss {event.loss:.4f}  "
                f"rate {event.learning_rate:.2g}  {event.tokens_per_s:,.0f} tokens/s  {event.remaining_s:.0f} s left"
            )
        case CountProgress():
            return f"{clock(event.at)} {event.done:,}/{event.total:,} {event.unit}"
        case TextProgress():
            return f"{clock(event.at)} [{event.prompt}.{event.index}] {event.text}"
        case LogProgress():
            return f"{clock(event.at)} {event.level}: {event.message}"
        case ResultEvent():
            return f"{clock(event.finished_at)} {event.status}"
        case unknown:
            assert_never(unknown)


def table_of(event: ResultEvent) -> Table:
    """The result as a table; of a job without one, how it ended."""
    match event.result:
        case None:
            return Table((), [(event.job_id, event.status.value)])
        case GenerateResult() as result:
            rows = [
                (str(choice.prompt), str(choice.index), str(choice.tokens), choice.finish_reason, choice.text)
                for choice in result.choices
            ]
            return Table(("PROMPT", "ANSWER", "TOKENS", "FINISH", "TEXT"), rows)
        case FineTuneResult() as result:
            return _pairs(
                ("model", result.model),
                ("base", result.base),
                ("method", result.method),
                ("steps", f"{result.steps:,}"),
                ("examples", f"{result.examples:,}"),
                ("train loss", f"{result.train_loss:.4f}"),
                ("validation loss", "" if result.validation_loss is None else f"{result.validation_loss:.4f}"),
                ("trained in", f"{result.train_s:.1f} s"),
                ("artifact", result.artifact_uri),
            )
        case EvaluateResult() as result:
            columns = ("METRIC", result.model, result.baseline or "BASELINE", "DIFFERENCE", "SIGNIFICANT")
            return Table(columns, [_score(score) for score in result.scores])
        case unknown:
            assert_never(unknown)


def names_of(event: ResultEvent) -> list[str]:
    """What to pass on: the tuned model's id, else the job's."""
    return [event.result.model if isinstance(event.result, FineTuneResult) else event.job_id]


def clock(at: datetime) -> str:
    """The time of day here, to the second."""
    return at.astimezone().strftime("%H:%M:%S")


def interval(value: Interval) -> str:
    """A mean with its 95 % confidence interval."""
    return f"{value.mean:.4g} [{value.low:.4g}, {value.high:.4g}]"


def _score(score: Score) -> tuple[str, ...]:
    model = (score.metric.value, interval(score.model))
    if score.comparison is None:
        return (*model, "", "", "")
    compared = score.comparison
    return (
        *model,
        interval(compared.baseline),
        interval(compared.difference),
        "yes" if compared.significant else "no",
    )


def _pairs(*pairs: tuple[str, str]) -> Table:
    return Table((), [pair for pair in pairs if pair[1]])
