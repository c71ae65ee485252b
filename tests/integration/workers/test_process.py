"""``python -m workers``: a process of its own, with signals and exit statuses."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Message
from sqlalchemy import text

from schemas import topics
from schemas.codec import decode
from schemas.events import MetricsEvent, State
from schemas.requests import GenerateRequest
from tests.integration.workers.observe import has, new_id, state, stored
from tests.integration.workers.rig import Rig, Tail

ROOT = Path(__file__).parents[3]
#: What supervisors give a process to stop.
STOP_S = 10


@dataclass(frozen=True)
class Process:
    """A worker's process that serves."""

    process: subprocess.Popen[str]
    worker_id: str
    partition: int


@contextmanager
def worker_process(
    stack_env: Mapping[str, str], database_url: str, directory: Path, module: str = "workers"
) -> Iterator[Process]:
    """Start a worker; it is killed at the latest when the block ends."""
    environment = {
        **os.environ,
        **stack_env,
        "HEADRACE_DATABASE": database_url,
        "HEADRACE_STORE": (directory / "store").as_uri(),
        "HEADRACE_CACHE_DIR": str(directory / "cache"),
        "HEADRACE_READY_FILE": str(directory / "ready"),
        "HEADRACE_METRICS_INTERVAL_S": "0.5",
        "HEADRACE_LEASE_S": "3",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", module]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if "serves partition" in line)
            words = line.split()
            yield Process(process, words[words.index("worker") + 1], int(words[-1]))
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_worker_with_0_and_its_partition_is_free(
    number: signal.Signals, rig: Rig, stack_env: Mapping[str, str], migrated_url: str, tmp_path: Path
) -> None:
    with worker_process(stack_env, migrated_url, tmp_path) as worker:
        assert (tmp_path / "ready").read_text() == f"{worker.process.pid}\n"
        worker.process.send_signal(number)
        assert worker.process.wait(STOP_S) == 0
    assert workers(rig) == []


def test_a_signal_ends_a_worker_in_time_though_its_threads_wait_for_a_store_that_does_not_answer(
    rig: Rig, stack_env: Mapping[str, str], migrated_url: str, tmp_path: Path, kafka: str
) -> None:
    # More than asyncio has threads of its own.
    ids = [new_id() for _ in range(40)]

    async def run(worker: Process) -> None:
        with Tail(kafka, topics.STATUS) as states:
            rig.send(worker.partition, rig.lease(worker.worker_id, ids))
            await states.until(lambda records: all(has(job_id, 2)(records) for job_id in ids))

    with worker_process(stack_env, migrated_url, tmp_path, "tests.integration.workers.stuck") as worker:
        asyncio.run(run(worker))
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(STOP_S) == 0
    assert workers(rig) == []
    assert {state(rig, job_id) for job_id in ids} == {State.QUEUED}


def test_a_worker_answers_publishes_metrics_and_fails_once_its_partition_is_lost(
    rig: Rig, stack_env: Mapping[str, str], migrated_url: str, tmp_path: Path, kafka: str
) -> None:
    job_id = new_id()

    def counts_the_job(records: list[Message]) -> bool:
        events: list[MetricsEvent] = [decode(MetricsEvent, record.value() or b"") for record in records]
        samples = [sample for event in events for family in event.families for sample in family.samples]
        return any(
            sample.name == "headrace_worker_jobs_total" and sample.labels["status"] == "failed" for sample in samples
        )

    async def run(worker: Process) -> None:
        jobs = rig.lease(worker.worker_id, [job_id], GenerateRequest(model="no-such-model", prompt="hello"))
        with Tail(kafka, topics.METRICS) as metrics:
            rig.send(worker.partition, jobs)
            await metrics.until(counts_the_job)

    with worker_process(stack_env, migrated_url, tmp_path) as worker:
        asyncio.run(run(worker))
        with rig.database.begin() as connection:
            connection.execute(text("DELETE FROM workers"))
        assert worker.process.wait(STOP_S) == 1
    event = stored(rig, job_id)
    assert event is not None
    assert event.error is not None
    assert event.error.code == "model_not_found"


def workers(rig: Rig) -> list[str]:
    with rig.database.begin() as connection:
        return list(connection.execute(text("SELECT worker_id FROM workers")).scalars())
