"""A fault ends when it is over: a run would go on for ever with one that does not."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from tests.acceptance.faults import strikes
from tests.acceptance.faults.load import Load
from tests.acceptance.faults.schedule import Fault, Strike
from tests.acceptance.faults.stack import FaultStack


class Hall:
    """Where dispatchers come and go, and each of both takes a while."""

    def __init__(self) -> None:
        self.present: Counter[str] = Counter()

    @asynccontextmanager
    async def joined(self, name: str) -> AsyncIterator[None]:
        self.present[name] += 1
        await asyncio.sleep(0.001)
        try:
            yield
        finally:
            await asyncio.sleep(0.003)
            self.present[name] -= 1


def test_a_storm_is_over_whenever_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strikes, "STAY_S", 0.004)

    async def storm(for_s: float) -> None:
        hall = Hall()
        strike = Strike(0.0, Fault.STORM, "dispatchers", for_s)
        async with asyncio.timeout(10), strikes.inflicted(strike, cast(FaultStack, hall), cast(Load, None)):
            await asyncio.sleep(for_s)
        assert not hall.present.total()

    async def storms() -> None:
        await asyncio.gather(*(storm(0.02 + number / 10_000) for number in range(200)))

    asyncio.run(storms())
