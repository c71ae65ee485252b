"""What an evaluation reads: how much of it, and whether it is the same the second time."""

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from schemas.errors import DatasetInvalid
from schemas.requests import Dataset, EvaluateRequest, Metric, Record
from tests.tiny_models import save_tiny_model
from tests.unit.workers.handling import Bench, open_bench
from workers.datasets import Datasets, Example
from workers.evaluate import evaluate
from workers.evaluation.checkpoint import ROWS_PER_WRITE, restore, write
from workers.evaluation.contender import Contender
from workers.evaluation.marks import Answer, Mark
from workers.evaluation.questions import survey
from workers.evaluation.summary import Marks

FIVE = Dataset(records=tuple(Record(f"question {number}", "answer") for number in range(5)))
LINES = [json.dumps({"prompt": f"question {number}", "completion": "a"}) + "\n" for number in range(600)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with open_bench(tmp_path) as bench:
        save_tiny_model(bench.models_dir / "tiny")
        yield bench


def go_on() -> None:
    """A job that nobody stops."""


def test_more_examples_than_an_evaluation_may_have_are_refused_with_the_way_out() -> None:
    with pytest.raises(DatasetInvalid, match=r"^Line 5 .* more than the 4 examples .* limit\. Pass max_examples"):
        survey(Datasets([]), FIVE, None, go_on, limit=4)

    assert survey(Datasets([]), FIVE, None, go_on, limit=5).examples == 5
    assert survey(Datasets([]), FIVE, 3, go_on, limit=4).examples == 3


def test_a_survey_knows_the_digest_up_to_the_last_example_that_is_used(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("".join(LINES[:3]) + "\n")

    surveyed = survey(Datasets([tmp_path]), Dataset(uri="d.jsonl"), 2, go_on)

    assert surveyed.used_sha256 == sha256("".join(LINES[:2]).encode()).hexdigest()
    assert surveyed.sha256 == sha256((tmp_path / "d.jsonl").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("later", "max_examples", "reason"),
    [
        (LINES[:550], None, r"of the 600 examples .* 550 are left\. Submit"),
        ([line.replace("question", "Question") for line in LINES], None, "of the 600 examples .* they are others now"),
        (LINES[:550], 580, "of the 580 examples .* 550 are left"),
        (LINES[:580], 580, None),
        ([*LINES, LINES[0]], None, None),
    ],
    ids=["cut", "replaced", "cut within what is used", "cut behind it", "grown"],
)
def test_a_dataset_that_is_changed_between_two_readings_gives_no_scores(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    later: Sequence[str],
    max_examples: int | None,
    reason: str | None,
) -> None:
    path = bench.data_dir / "d.jsonl"
    path.write_text("".join(LINES))

    async def change(_: Contender, chunk: Sequence[Example]) -> list[Answer]:
        if chunk[0].line == 1:
            path.write_text("".join(later))
        return [Answer("a", None)] * len(chunk)

    monkeypatch.setattr(Contender, "answers", change)
    request = EvaluateRequest(
        model="tiny", dataset=Dataset(uri="d.jsonl"), max_examples=max_examples, metrics=(Metric.EXACT_MATCH,)
    )
    if reason is None:
        assert bench.run(evaluate, request)[0].examples == (max_examples or len(LINES))
        return
    with pytest.raises(DatasetInvalid, match=f"changed while it was evaluated: {reason}"):
        bench.run(evaluate, request)


def test_marks_of_many_examples_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    marks, found = (Marks((Metric.CHRF, Metric.PERPLEXITY), compared=True) for _ in range(2))
    for number in range(2 * ROWS_PER_WRITE + 1):
        marks.add([Mark(number / 7), Mark(0.1 * number, 3.0), Mark(1e-300), Mark(float(number))])
    outputs = tmp_path / "outputs.jsonl"
    outputs.write_bytes(b"{}\n")
    (tmp_path / "checkpoint").mkdir()

    write(marks, outputs, tmp_path / "checkpoint")
    restore(found, tmp_path / "again.jsonl", tmp_path / "checkpoint")

    assert len(found) == 2 * ROWS_PER_WRITE + 1
    assert (found.rows == marks.rows).all()
    assert (tmp_path / "again.jsonl").read_bytes() == b"{}\n"
