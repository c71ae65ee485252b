"""The figures of a run, as ``var/demo.json`` has them."""

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Self

import msgspec

from schemas.requests import Metric
from schemas.results import EvaluateResult, Interval

if TYPE_CHECKING:
    from examples.demo.steps import Evaluation, Generation, Tuning


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Exact match is a share of the held-out examples, 0 to 1; ``difference_low`` and ``_high`` its 95 % interval.

    ``finetune_s`` is from sending the request to having its result, ``train_s`` the training in it.
    ``generate_p50_ms`` is the median from sending a prompt to having the answer, one at a time.
    """

    base_exact_match: float
    tuned_exact_match: float
    difference: float
    difference_low: float
    difference_high: float
    test_examples: int
    finetune_s: float
    train_s: float
    generate_p50_ms: float
    jobs: int
    wall_s: float
    base: str
    tuned: str
    finetune_job_id: str
    generate_job_id: str
    evaluate_job_id: str

    @classmethod
    def of(cls, tuning: "Tuning", generation: "Generation", evaluation: "Evaluation", *, wall_s: float) -> Self:
        """Put the steps' figures together."""
        tuned, base, difference = compared(evaluation.result, Metric.EXACT_MATCH)
        return cls(
            base_exact_match=base.mean,
            tuned_exact_match=tuned.mean,
            difference=difference.mean,
            difference_low=difference.low,
            difference_high=difference.high,
            test_examples=evaluation.result.examples,
            finetune_s=round(tuning.took_s, 3),
            train_s=round(tuning.train_s, 3),
            generate_p50_ms=round(1_000 * median(generation.latencies_s), 2),
            jobs=2 + len(generation.latencies_s),
            wall_s=round(wall_s, 3),
            base=tuning.base,
            tuned=tuning.model,
            finetune_job_id=tuning.job_id,
            generate_job_id=generation.job_id,
            evaluate_job_id=evaluation.job_id,
        )


def compared(result: EvaluateResult, metric: Metric) -> tuple[Interval, Interval, Interval]:
    """One metric of the tuned model, of the base, and the difference of the two."""
    score = next(score for score in result.scores if score.metric is metric)
    assert score.comparison is not None, "the demo asks for a baseline"
    return score.model, score.comparison.baseline, score.comparison.difference


def write(report: Report, path: Path) -> None:
    """Write the figures as JSON, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".new")
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    unfinished.replace(path)
