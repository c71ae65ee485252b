"""The clock on the wall, as the code under test reads it: the loop's time, and each process' own skew."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

from tests.simulation.loop import PROCESS, SimLoop

#: When every simulation begins.
BEGIN: Final = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PACKAGES: Final = ("schemas", "runtime", "streams", "workers")


def at(time_s: float) -> datetime:
    """The date of a moment of the loop's time."""
    return BEGIN + timedelta(seconds=time_s)


class _Meta(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)


class _VirtualDatetime(datetime, metaclass=_Meta):
    """``datetime`` but for ``now``; it makes plain datetimes, which msgspec knows."""

    def __new__(cls, *args: Any, **options: Any) -> Any:
        return datetime(*args, **options)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        return at(loop.time() + PROCESS.get().clock_skew_s).astimezone(tz)


@contextmanager
def virtual_clock() -> Iterator[None]:
    """Let the product's modules see the virtual date: their name ``datetime`` is the standard library's clock."""
    modules = [
        module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in PACKAGES and vars(module).get("datetime") is datetime
    ]
    for module in modules:
        vars(module)["datetime"] = _VirtualDatetime
    try:
        yield
    finally:
        for module in modules:
            vars(module)["datetime"] = datetime
