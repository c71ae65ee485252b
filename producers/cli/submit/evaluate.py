"""``headrace submit evaluate``."""

import click

from producers.cli.choices import ChoiceOf
from producers.cli.submit.options import Submission, submits
from schemas.requests import Metric
from schemas.topics import Kind


@click.command()
@click.option("--dataset", metavar="URI", help="JSONL with prompt and completion, or messages.")
@click.option("--metric", "metrics", type=ChoiceOf(Metric), multiple=True, help="May be repeated.")
@click.option("--baseline", metavar="MODEL", help="A second model, compared on the same examples.")
@click.option("--max-examples", type=int, help="Only so many from the beginning.")
@click.option("--max-tokens", type=int, help="New tokens of one answer at most.")
@click.option("--seed", type=int)
@submits
def evaluate(
    submission: Submission,
    dataset: str | None,
    metrics: tuple[Metric, ...],
    baseline: str | None,
    max_examples: int | None,
    max_tokens: int | None,
    seed: int | None,
) -> int:
    """Score a model on a dataset, against a baseline if one is given."""
    fields = {
        "dataset": {"uri": dataset},
        "metrics": metrics,
        "baseline": baseline,
        "max_examples": max_examples,
        "max_tokens": max_tokens,
        "seed": seed,
    }
    return submission.send(Kind.EVALUATE, fields)
