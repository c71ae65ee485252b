"""Clients' wishes on their way to the database, without servers."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, cast

from runtime.database import Database, control
from runtime.database.thread import DatabaseThread
from runtime.database.wishes import Wish
from runtime.kafka import Publisher
from runtime.monitoring import Metrics
from schemas.topics import CONTROL
from streams.chunks import Chunk
from streams.control import Control
from streams.instruments import Instruments
from streams.quotas import Quotas
from tests.unit.streams.records import FakeRecord


class Asked(DatabaseThread):
    """Keeps the wishes that it is given."""

    def __init__(self) -> None:
        super().__init__(cast(Database, None))
        self.wishes: list[tuple[str, str]] = []

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:  # type: ignore[override]
        assert work is control.apply
        wishes: Sequence[Wish] = arguments[0]
        self.wishes += [(wish.event.action, wish.event.job_id) for wish in wishes]
        return []


def record(action: str, job_id: str, tenant: str) -> FakeRecord:
    value = json.dumps({"action": action, "job_id": job_id, "tenant": tenant}).encode()
    return FakeRecord(value, topic=CONTROL.name)


def test_a_retry_counts_as_a_job_of_its_tenant_and_other_wishes_do_not() -> None:
    async def run() -> None:
        instruments = Instruments(Metrics("test"))
        asked = Asked()
        quotas = Quotas(asked, 100, 3, instruments)
        quotas.admitted(["red"])
        control = Control(asked, cast(Publisher, None), instruments, quotas, lambda _left: None)
        wishes = [record("retry", str(number), "red") for number in range(3)]
        await control.apply(Chunk([*wishes, record("cancel", "3", "red"), record("retry", "4", "blue")]))
        assert asked.wishes == [("retry", "0"), ("retry", "1"), ("cancel", "3"), ("retry", "4")]
        assert instruments.wishes.labels("retry", "quota_exceeded")._value.get() == 1
        asked.close()

    asyncio.run(run())
