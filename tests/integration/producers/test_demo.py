"""The demo as a client: against somebody who answers as the platform would."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_END, TopicPartition

from examples.demo.__main__ import main
from examples.demo.steps import samples
from producers.cli.exits import Exit
from producers.cluster import Cluster
from runtime.database.outbox import result_id
from runtime.kafka import Publisher
from runtime.kafka_consumers import placed_consumer
from schemas import topics
from schemas.codec import decode_request, new_traceparent
from schemas.events import TrainProgress
from schemas.requests import DEFAULT_TENANT, EvaluateRequest, FineTuneRequest, GenerateRequest, Metric, Request
from schemas.results import (
    Comparison,
    ErrorInfo,
    EvaluateResult,
    FineTuneResult,
    Interval,
    Result,
    ResultEvent,
    Score,
    Terminal,
)
from schemas.topics import Kind, kind_of
from tests.integration.producers.stub import answer

TUNED = "ft:example-base:dates:89abcdef"


def result_of(request: Request) -> Result:
    match request:
        case FineTuneRequest():
            return FineTuneResult(
                model=TUNED,
                base=request.model,
                method="lora",
                artifact_uri="file:///store/a",
                artifact_sha256="a" * 64,
                size_bytes=1,
                steps=2,
                examples=3,
                train_loss=0.1,
                train_s=1.5,
            )
        case GenerateRequest():
            return answer("2026-05-01" if request.model == TUNED else "\x00nonsense")
        case EvaluateRequest():
            comparison = Comparison(
                baseline=Interval(0.0, 0.0, 0.1),
                difference=Interval(0.95, 0.9, 0.99),
                wins=95,
                losses=0,
                ties=5,
                significant=True,
            )
            scores = (Score(metric=Metric.EXACT_MATCH, model=Interval(0.95, 0.9, 0.99), comparison=comparison),)
            return EvaluateResult(
                model=request.model, examples=600, scores=scores, outputs_uri="file:///o", baseline=request.baseline
            )


class Answering:
    """Ends every request that is sent from now on; those of ``failing`` badly."""

    def __init__(self, kafka: str, failing: Kind | None) -> None:
        self._failing = failing
        self._publisher = Publisher(kafka, "stub", linger_ms=0)
        cluster = Cluster(kafka)
        places = [
            TopicPartition(topic.name, partition, end)
            for topic in topics.REQUESTS.values()
            for partition, end in cluster.ends(topic, range(topic.partitions)).items()
        ]
        cluster.close()
        assert all(place.offset != OFFSET_END for place in places)
        self._consumer = placed_consumer(kafka, places)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        self._consumer.close()
        self._publisher.close()

    def _run(self) -> None:
        while not self._closed.is_set():
            message = self._consumer.poll(0.05)
            if message is None or message.error():
                continue
            value, topic = message.value(), message.topic()
            assert isinstance(value, bytes)
            assert topic is not None
            kind = kind_of(topic)
            self._end(decode_request(kind, value, {}), kind)

    def _end(self, request: Request, kind: Kind) -> None:
        assert request.id is not None
        if kind is Kind.FINETUNE:
            self._step(request.id)
        fails = kind is self._failing
        event = ResultEvent(
            job_id=request.id,
            tenant=DEFAULT_TENANT,
            kind=kind,
            status=Terminal.FAILED if fails else Terminal.SUCCEEDED,
            attempt=1,
            finished_at=datetime.now(UTC),
            result=None if fails else result_of(request),
            error=ErrorInfo("out_of_memory", "the device is full") if fails else None,
        )
        self._publisher.publish(
            topics.RESULTS,
            event,
            key=request.id,
            event_id=result_id(DEFAULT_TENANT, request.id),
            traceparent=new_traceparent(),
        )

    def _step(self, job_id: str) -> None:
        step = TrainProgress(
            job_id=job_id,
            tenant=DEFAULT_TENANT,
            attempt=1,
            sequence=0,
            at=datetime.now(UTC),
            step=1,
            steps=2,
            loss=2.5,
            learning_rate=0.005,
            tokens_per_s=1_000.0,
            remaining_s=1.0,
        )
        self._publisher.publish(
            topics.PROGRESS, step, key=job_id, event_id=f"{job_id}/1/0", traceparent=new_traceparent()
        )
        self._publisher.flush(10)


@contextmanager
def answering(kafka: str, failing: Kind | None = None) -> Iterator[None]:
    stub = Answering(kafka, failing)
    try:
        yield
    finally:
        stub.close()


@pytest.fixture
def directory(topics_created: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo runs and writes, with a Kafka in its environment."""
    monkeypatch.setenv("HEADRACE_KAFKA", topics_created)
    monkeypatch.delenv("HEADRACE_DATABASE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_demo_shows_every_step_and_writes_its_figures(
    directory: Path, topics_created: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(topics_created):
        assert main() == Exit.OK

    out = capsys.readouterr().out
    assert "step 1/2  loss 2.5000  rate 0.005" in out
    assert "\\x00nonsense" in out
    assert "0.95 [0.9, 0.99]" in out
    figures = json.loads((directory / "var/demo.json").read_text())
    assert (figures["base_exact_match"], figures["tuned_exact_match"], figures["test_examples"]) == (0.0, 0.95, 600)
    assert figures["jobs"] == 2 + 2 * 10
    assert figures["wall_s"] >= figures["finetune_s"] > 0
    assert figures["generate_p50_ms"] > 0
    for kind in Kind:
        assert figures[f"{kind}_job_id"].startswith(f"{kind}-")


@pytest.mark.parametrize("kind", Kind)
def test_a_job_that_fails_ends_the_demo_with_its_reason(
    directory: Path, topics_created: str, kind: Kind, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "var").mkdir()
    (directory / "var/demo.json").write_text("of an earlier run")
    with answering(topics_created, failing=kind):
        assert main() == Exit.FAILED

    assert "failed: out_of_memory: the device is full" in capsys.readouterr().err
    assert not (directory / "var/demo.json").exists()


def test_the_demo_ends_when_there_is_no_kafka(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_KAFKA", "127.0.0.1:1")

    assert main() == Exit.UNREACHABLE
    assert "not reachable" in capsys.readouterr().err
    assert not any(directory.iterdir())


def test_ctrl_c_ends_the_demo_with_130_and_no_traceback(topics_created: str) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    with subprocess.Popen(
        [sys.executable, "-m", "examples.demo"],
        env={**env, "HEADRACE_KAFKA": topics_created, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while "Fine-tune example-base" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)

    assert process.returncode == Exit.INTERRUPTED
    assert err == "demo: interrupted\n"


def test_the_samples_are_one_a_language_in_different_formats() -> None:
    chosen = samples(Path(__file__).parents[3] / "examples/dates/test.jsonl")

    assert len({example.locale for example in chosen}) == len(chosen) >= 6
