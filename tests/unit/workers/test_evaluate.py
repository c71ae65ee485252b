"""The evaluate handler on tiny random models that are loaded from disk."""

import asyncio
import errno
import json
import resource
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlparse

import pytest

from schemas.errors import (
    DatasetInvalid,
    DatasetUnreachable,
    JobCancelled,
    JobReturned,
    ModelNotFound,
    ServerUnreachable,
    Unsupported,
)
from schemas.events import CountProgress
from schemas.requests import Dataset, EvaluateRequest, Gate, GenerateRequest, Message, Metric, Record
from tests.tiny_models import VOCABULARY, save_tiny_model
from tests.unit.workers.handling import Bench, open_bench
from workers.context import JobContext
from workers.datasets import Example
from workers.evaluate import evaluate
from workers.evaluation.contender import Contender
from workers.evaluation.marks import Answer
from workers.evaluation.outputs import OUTPUTS_NAME, append
from workers.generate import generate

AWAY = ServerUnreachable("The artifact store", "s3://kept", "it is away")
EVERY_METRIC = (Metric.EXACT_MATCH, Metric.CHRF, Metric.PERPLEXITY)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with open_bench(tmp_path) as bench:
        save_tiny_model(bench.models_dir / "tiny")
        yield bench


def records(count: int) -> tuple[Record, ...]:
    return tuple(Record(prompt=f"question {number}", completion=f"answer {number}") for number in range(count))


def answers_of(bench: Bench, count: int) -> tuple[Record, ...]:
    """A dataset to which the model knows the answers: its own."""
    prompts = tuple(record.prompt or "" for record in records(count))
    request = GenerateRequest(model="tiny", prompts=prompts, max_tokens=8, temperature=0)
    result, _ = bench.run(generate, request)
    return tuple(Record(prompt=prompts[choice.prompt], completion=choice.text) for choice in result.choices)


def outputs_of(uri: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(urlparse(uri).path).read_text().splitlines()]


def test_a_model_that_gives_the_wanted_answers_matches_all(bench: Bench) -> None:
    known = answers_of(bench, 6)
    request = EvaluateRequest(
        model="tiny", dataset=Dataset(records=known), metrics=(Metric.EXACT_MATCH, Metric.CHRF), max_tokens=8
    )
    result, _ = bench.run(evaluate, request)
    exact, chrf = result.scores
    assert (exact.model.low, exact.model.mean, exact.model.high) == (1, 1, 1)
    assert chrf.model.mean == pytest.approx(100)
    assert (result.model, result.examples, result.baseline, result.gate) == ("tiny", 6, None, None)


def test_a_random_model_is_as_perplexed_as_by_any_token(bench: Bench) -> None:
    request = EvaluateRequest(model="tiny", dataset=Dataset(records=records(20)), metrics=(Metric.PERPLEXITY,))
    result, ctx = bench.run(evaluate, request)
    [score] = result.scores
    assert score.model.mean == pytest.approx(VOCABULARY, rel=0.1)
    assert ctx.meter.completion_tokens == 0  # nothing was written
    assert ctx.meter.prompt_tokens > 0


def test_a_model_is_compared_with_a_baseline_on_the_same_examples(bench: Bench) -> None:
    save_tiny_model(bench.models_dir / "other", "gpt2")
    known = answers_of(bench, 10)
    request = EvaluateRequest(
        model="tiny",
        baseline="other",
        dataset=Dataset(records=known),
        metrics=EVERY_METRIC,
        gate=Gate(metric=Metric.EXACT_MATCH, minimum=0.9, better_than_baseline=True),
        max_tokens=8,
    )
    result, _ = bench.run(evaluate, request)
    comparison = result.scores[0].comparison
    assert comparison is not None
    assert comparison.wins == 10
    assert comparison.baseline.mean == 0
    assert comparison.significant
    assert result.gate is not None
    assert result.gate.passed, result.gate.reason


def test_the_outputs_hold_each_examples_answers_and_scores(bench: Bench) -> None:
    save_tiny_model(bench.models_dir / "other", "gpt2")
    request = EvaluateRequest(
        model="tiny", baseline="other", dataset=Dataset(records=records(3)), metrics=EVERY_METRIC, max_tokens=5
    )
    result, _ = bench.run(evaluate, request)
    lines = outputs_of(result.outputs_uri)
    assert [line["line"] for line in lines] == [1, 2, 3]
    assert lines[1]["expected"] == "answer 1"
    outputs = lines[1]["outputs"]
    assert isinstance(outputs, list)
    assert [output["model"] for output in outputs] == ["tiny", "other"]
    assert set(outputs[0]["scores"]) == {"exact_match", "chrf", "perplexity"}


def test_the_same_request_gives_the_same_scores(bench: Bench) -> None:
    request = EvaluateRequest(model="tiny", dataset=Dataset(records=records(5)), metrics=(Metric.CHRF,), max_tokens=4)
    first, _ = bench.run(evaluate, request)
    assert bench.run(evaluate, request)[0] == first


def test_a_dataset_larger_than_a_chunk_is_counted_to_its_end(bench: Bench) -> None:
    lines = "\n".join(json.dumps({"prompt": f"q{number}", "completion": "a"}) for number in range(600))
    (bench.data_dir / "many.jsonl").write_text(lines)
    request = EvaluateRequest(model="tiny", dataset=Dataset(uri="many.jsonl"), max_tokens=1)
    result, ctx = bench.run(evaluate, request)
    counts = [event for event in bench.announced.events if isinstance(event, CountProgress)]
    assert result.examples == 600
    assert (counts[-1].done, counts[-1].total) == (600, 600)
    assert ctx.meter.dataset_sha256 is not None
    assert len(outputs_of(result.outputs_uri)) == 600


def test_max_examples_takes_the_first_ones(bench: Bench) -> None:
    request = EvaluateRequest(model="tiny", dataset=Dataset(records=records(9)), max_examples=2, max_tokens=1)
    result, _ = bench.run(evaluate, request)
    assert result.examples == 2
    assert [line["expected"] for line in outputs_of(result.outputs_uri)] == ["answer 0", "answer 1"]


def test_a_conversation_is_evaluated_by_its_last_message(bench: Bench) -> None:
    talk = (Message(role="user", content="Hello"), Message(role="assistant", content="Good day"))
    request = EvaluateRequest(
        model="tiny", dataset=Dataset(records=(Record(messages=talk),)), metrics=EVERY_METRIC, max_tokens=3
    )
    result, _ = bench.run(evaluate, request)
    assert outputs_of(result.outputs_uri)[0]["expected"] == "Good day"


def test_an_example_beyond_the_window_is_named_by_its_line(bench: Bench) -> None:
    long = (*records(2), Record(prompt="x" * 100, completion="y"))
    request = EvaluateRequest(model="tiny", dataset=Dataset(records=long), max_tokens=40)
    with pytest.raises(
        DatasetInvalid, match=r"Line 3 .* 100 tokens.* max_tokens is 40; the window of model tiny is 128"
    ):
        bench.run(evaluate, request)


def test_a_bad_line_is_found_before_anything_is_answered(bench: Bench) -> None:
    lines = [json.dumps({"prompt": "q", "completion": "a"})] * 20
    (bench.data_dir / "bad.jsonl").write_text("\n".join([*lines, "{"]))
    with pytest.raises(DatasetInvalid, match="Line 21"):
        bench.run(evaluate, EvaluateRequest(model="tiny", dataset=Dataset(uri="bad.jsonl")))
    assert bench.announced.events == []


def test_an_empty_dataset_is_refused(bench: Bench) -> None:
    (bench.data_dir / "empty.jsonl").write_text("\n")
    with pytest.raises(DatasetInvalid, match="no example"):
        bench.run(evaluate, EvaluateRequest(model="tiny", dataset=Dataset(uri="empty.jsonl")))


def test_a_missing_dataset_is_refused(bench: Bench) -> None:
    with pytest.raises(DatasetUnreachable, match=r"absent\.jsonl"):
        bench.run(evaluate, EvaluateRequest(model="tiny", dataset=Dataset(uri="absent.jsonl")))


def test_a_missing_baseline_is_named(bench: Bench) -> None:
    request = EvaluateRequest(model="tiny", baseline="absent", dataset=Dataset(records=records(1)))
    with pytest.raises(ModelNotFound, match="absent"):
        bench.run(evaluate, request)


def test_a_task_is_refused_by_its_name(bench: Bench) -> None:
    with pytest.raises(Unsupported, match="hellaswag"):
        bench.run(evaluate, EvaluateRequest(model="tiny", task="hellaswag"))


def test_a_suspended_evaluation_goes_on_after_its_last_whole_chunk_with_the_same_result(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny_model(bench.models_dir / "other", "gpt2")
    lines = [json.dumps({"prompt": f"question {number}", "completion": f"{number}"}) for number in range(1_000)]
    (bench.data_dir / "many.jsonl").write_text("\n".join(lines))
    request = EvaluateRequest(
        model="tiny", baseline="other", dataset=Dataset(uri="many.jsonl"), metrics=EVERY_METRIC, max_tokens=2
    )
    expected, whole = bench.run(evaluate, request)

    used: list[JobContext] = []
    answers = Contender.answers

    async def stop_in_the_second_chunk(contender: Contender, chunk: Sequence[Example]) -> list[Answer]:
        if chunk[0].record.prompt == "question 512":
            # By its progress, which is told by the clock, it could be over by then.
            asyncio.get_running_loop().call_soon(used[0].stop, JobReturned("the worker leaves"))
        return await answers(contender, chunk)

    bench.announced.events.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Contender, "answers", stop_in_the_second_chunk)
        with pytest.raises(JobReturned):
            bench.run(evaluate, request, used.append)
    assert bench.checkpoints.positions == [512]
    result, ctx = bench.run(evaluate, request)

    assert result == expected
    assert ctx.meter.prompt_tokens == whole.meter.prompt_tokens
    assert ctx.meter.completion_tokens == whole.meter.completion_tokens
    assert ctx.meter.device_s > used[0].meter.device_s * 0.5
    counts = [event.done for event in bench.announced.events if isinstance(event, CountProgress)]
    assert counts[-1] == 2_000


def test_an_evaluation_that_is_suspended_after_its_last_answer_answers_nothing_again(bench: Bench) -> None:
    request = EvaluateRequest(model="tiny", dataset=Dataset(records=records(5)), metrics=EVERY_METRIC, max_tokens=3)
    expected, _ = bench.run(evaluate, request)

    def suspend_after_the_last_answer(ctx: JobContext) -> None:
        bench.announced.listen = lambda _: ctx.stop(JobReturned("the worker leaves"))

    bench.announced.events.clear()
    with pytest.raises(JobReturned):
        bench.run(evaluate, request, suspend_after_the_last_answer)
    assert [event.done for event in bench.announced.events if isinstance(event, CountProgress)] == [5]
    assert bench.checkpoints.positions == [5]
    bench.announced.listen = lambda _: None
    bench.announced.events.clear()
    result, _ = bench.run(evaluate, request)

    assert result == expected
    assert not any(isinstance(event, CountProgress) for event in bench.announced.events)


def test_a_full_disk_takes_all_of_a_chunk_s_lines_or_none(tmp_path: Path) -> None:
    path = tmp_path / "outputs.jsonl"
    append(path, b"one\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            append(path, b"two\nthree\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"one\n"
    append(path, b"two\nthree\n")
    assert path.read_bytes() == b"one\ntwo\nthree\n"


def test_an_evaluation_waits_until_the_disk_takes_its_outputs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    request = EvaluateRequest(model="tiny", dataset=Dataset(records=records(5)), metrics=EVERY_METRIC, max_tokens=3)
    expected, _ = bench.run(evaluate, request)
    full, opened = [True], Path.open

    def open_later(path: Path, *args: Any, **kwargs: Any) -> IO[Any]:
        if path.name == OUTPUTS_NAME and full and full.pop():
            raise OSError(errno.ENOSPC, "No space left on device")
        file: IO[Any] = opened(path, *args, **kwargs)
        return file

    monkeypatch.setattr(Path, "open", open_later)

    assert bench.run(evaluate, request)[0] == expected


def test_outputs_wait_until_the_store_takes_them(bench: Bench) -> None:
    request = EvaluateRequest(model="tiny", dataset=Dataset(records=records(5)), max_tokens=3)
    expected, _ = bench.run(evaluate, request)
    bench.artifacts.failures.append(AWAY)

    assert bench.run(evaluate, request)[0] == expected
    assert not bench.artifacts.failures


def test_an_evaluation_that_waits_for_the_store_can_be_given_back_with_all_its_answers(bench: Bench) -> None:
    def leave(ctx: JobContext) -> None:
        bench.artifacts.listen = lambda: ctx.stop(JobReturned("the worker leaves"))

    bench.artifacts.failures += [AWAY] * 1_000
    with pytest.raises(JobReturned):
        bench.run(evaluate, EvaluateRequest(model="tiny", dataset=Dataset(records=records(5)), max_tokens=3), leave)

    assert bench.checkpoints.positions == [5]


def test_a_checkpoint_is_not_given_up_because_the_disk_is_full(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.checkpoints.every_s = 0.0
    request = EvaluateRequest(model="tiny", dataset=Dataset(records=records(5)), max_tokens=3)
    expected, _ = bench.run(evaluate, request)
    full = [True]

    def copy_later(source: Path, target: Path) -> None:
        if full:
            raise OSError(errno.ENOSPC, f"{full.pop()}")
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr(shutil, "copyfile", copy_later)
    bench.announced.events.clear()
    result, _ = bench.run(evaluate, request)

    assert result == expected
    assert not any(isinstance(event, CountProgress) for event in bench.announced.events)


def test_a_checkpoint_of_a_dataset_that_was_changed_is_not_used(bench: Bench) -> None:
    bench.checkpoints.every_s = 0.0
    request = EvaluateRequest(model="tiny", dataset=Dataset(uri="data.jsonl"), max_tokens=1)
    (bench.data_dir / "data.jsonl").write_text(json.dumps({"prompt": "q", "completion": "a"}))
    bench.run(evaluate, request)
    assert bench.checkpoints.positions == [1]
    (bench.data_dir / "data.jsonl").write_text(json.dumps({"prompt": "q", "completion": "b"}))
    result, _ = bench.run(evaluate, request)
    assert outputs_of(result.outputs_uri)[0]["expected"] == "b"


def test_a_cancelled_evaluation_stops(bench: Bench) -> None:
    def cancel(ctx: JobContext) -> None:
        ctx.stop(JobCancelled("by its owner"))

    request = EvaluateRequest(model="tiny", dataset=Dataset(records=records(4)))
    with pytest.raises(JobCancelled):
        bench.run(evaluate, request, cancel)
