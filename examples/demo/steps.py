"""The three steps, each by requests through the public client."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from examples.demo.screen import Screen
from producers import Headrace
from schemas.codec import decode_request
from schemas.requests import Dataset, EvaluateRequest, FineTuneRequest, GenerateRequest, Metric
from schemas.results import EvaluateResult, FineTuneResult, GenerateResult, Result, ResultEvent
from schemas.topics import Kind

DATES: Final = Path(__file__).parents[1] / "dates"
TEST_URI: Final = "dates/test.jsonl"
#: A date has 10 characters; a model that writes more bytes is wrong already.
ANSWER_TOKENS: Final = 16
#: No step should take so long on any machine that can run it at all.
STEP_S: Final = 900.0

Wanted = TypeVar("Wanted", FineTuneResult, GenerateResult, EvaluateResult)


class DemoFailed(Exception):
    """A job of the demo did not succeed."""


class Example(msgspec.Struct, frozen=True):
    """A line of the test set."""

    prompt: str
    completion: str
    locale: str


@dataclass(frozen=True)
class Tuning:
    """What the fine-tune gave; ``took_s`` is from sending the request to its result."""

    job_id: str
    base: str
    model: str
    took_s: float
    train_s: float


@dataclass(frozen=True)
class Answer:
    """What both models answer to one prompt."""

    example: Example
    base: str
    tuned: str


@dataclass(frozen=True)
class Generation:
    """The answers, the job of the last one, and how long each request took to its result, in seconds."""

    job_id: str
    answers: tuple[Answer, ...]
    latencies_s: tuple[float, ...]


@dataclass(frozen=True)
class Evaluation:
    """The comparison of both models."""

    job_id: str
    result: EvaluateResult


def tune(client: Headrace, screen: Screen) -> Tuning:
    """Ask for the fine-tune of ``examples/dates/finetune.json``, and show its progress."""
    request = decode_request(Kind.FINETUNE, (DATES / "finetune.json").read_bytes(), {})
    assert isinstance(request, FineTuneRequest)
    screen.step(f"Fine-tune {request.model} on {request.dataset.uri}")
    started_s = time.monotonic()
    job_id = client.submit(request)
    result = _succeeded(_watched(client, screen, job_id), FineTuneResult)
    took_s = time.monotonic() - started_s
    screen.say(f"{result.model}: {result.steps} steps in {result.train_s:.1f} s, loss {result.train_loss:.3f}")
    return Tuning(job_id, result.base, result.model, took_s, result.train_s)


def prompt_both(client: Headrace, screen: Screen, base: str, tuned: str) -> Generation:
    """Ask both models for the same dates, one prompt a request, and show the answers side by side."""
    screen.step(f"Generate with {base} and with {tuned}")
    answers, latencies_s, job_id = [], [], ""
    for example in samples(DATES / "test.jsonl"):
        texts = []
        for model in (base, tuned):
            started_s = time.monotonic()
            job_id = client.submit(
                GenerateRequest(model=model, prompt=example.prompt, max_tokens=ANSWER_TOKENS, temperature=0.0)
            )
            result = _succeeded(client.result(job_id, STEP_S), GenerateResult)
            latencies_s.append(time.monotonic() - started_s)
            texts.append(result.choices[0].text)
        answers.append(Answer(example, *texts))
    screen.answers([(item.example.locale, item.example.prompt, item.base, item.tuned) for item in answers])
    return Generation(job_id, tuple(answers), tuple(latencies_s))


def compare(client: Headrace, screen: Screen, base: str, tuned: str) -> Evaluation:
    """Ask for the evaluation of the tuned model against the base, on data that was not trained on."""
    screen.step(f"Evaluate {tuned} against {base} on {TEST_URI}")
    request = EvaluateRequest(
        model=tuned,
        baseline=base,
        dataset=Dataset(uri=TEST_URI),
        metrics=(Metric.EXACT_MATCH, Metric.CHRF, Metric.PERPLEXITY),
        max_tokens=ANSWER_TOKENS,
    )
    job_id = client.submit(request)
    return Evaluation(job_id, _succeeded(_watched(client, screen, job_id), EvaluateResult))


def samples(test_set: Path) -> list[Example]:
    """One example a language, each in another format: the first of the first, the second of the second, …"""
    by_locale: dict[str, list[Example]] = {}
    for line in test_set.read_bytes().splitlines():
        example = msgspec.json.decode(line, type=Example)
        by_locale.setdefault(example.locale, []).append(example)
    return [examples[place % len(examples)] for place, (_, examples) in enumerate(sorted(by_locale.items()))]


def _watched(client: Headrace, screen: Screen, job_id: str) -> ResultEvent:
    with screen.progress() as show:
        for event in client.watch(job_id, STEP_S):
            if isinstance(event, ResultEvent):
                return event
            show(event)
    raise AssertionError("a watch ends with a result or an error")


def _succeeded(event: ResultEvent, wanted: type[Wanted]) -> Wanted:
    result: Result | None = event.result
    if isinstance(result, wanted):
        return result
    reason = f"{event.error.code}: {event.error.message}" if event.error else "no reason was given"
    raise DemoFailed(f"job {event.job_id} {event.status}: {reason}")
