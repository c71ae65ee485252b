"""The metrics page of a running dispatcher."""

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from urllib.request import urlopen

import pytest

from runtime.database import Database
from runtime.database.samples import names
from runtime.kafka import Publisher
from runtime.monitoring import Metrics
from schemas import topics
from schemas.codec import new_traceparent
from tests.integration.streams.conftest import StartDispatcher
from tests.integration.streams.observing import until

#: Of the dispatcher's own.
WANTED = (
    "headrace_dispatch_waiting_jobs",
    "headrace_system_memory_limit_bytes",
    'le="0.001",operation="database.outbox.waiting"',
)


def test_every_process_is_on_the_page_and_promtool_has_nothing_to_say(
    publisher: Publisher, start_dispatcher: StartDispatcher
) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; it comes with Debian's package prometheus")
    dispatcher = start_dispatcher()
    address = re.search(r"http://\S+/metrics", dispatcher.tail())
    assert address
    worker = Metrics("worker")
    worker.counter("headrace_worker_jobs_total", "Jobs run.", ("kind",)).labels("generate").inc(3)
    event = worker.event()
    publisher.publish(topics.METRICS, b"not an event", key="x", event_id="x", traceparent=new_traceparent())
    publisher.publish(topics.METRICS, event, key=event.source, event_id="y", traceparent=new_traceparent())

    def page() -> str:
        with urlopen(address[0], timeout=10) as response:  # noqa: S310  # the dispatcher's own address
            return str(response.read().decode())

    # A dispatcher's first event may come before it has looked for jobs.
    text = until(page, lambda text: all(one in text for one in (worker.source, *WANTED)))
    assert (
        f'headrace_worker_jobs_total{{headrace_source="{worker.source}",kind="generate",service="worker"}} 3.0' in text
    )
    checked = subprocess.run([promtool, "check", "metrics"], input=text.encode(), capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_every_process_has_a_history_in_postgres(
    publisher: Publisher, start_dispatcher: StartDispatcher, database: Database
) -> None:
    start_dispatcher()
    worker = Metrics("worker")
    worker.counter("headrace_worker_jobs_total", "Jobs run.", ("kind",)).labels("generate").inc(3)
    event = worker.event()
    publisher.publish(topics.METRICS, event, key=event.source, event_id="z", traceparent=new_traceparent())
    since = datetime.now(UTC) - timedelta(minutes=2)

    def stored() -> list[tuple[str, str]]:
        with database.begin() as connection:
            return names(connection, since, since + timedelta(hours=1))

    found = until(stored, lambda rows: (worker.source, 'headrace_worker_jobs_total{kind="generate"}') in rows)
    assert any(source.startswith("dispatcher-") for source, _ in found)
