"""What tests of the engine submit, and what they wait for."""

import asyncio
from collections.abc import Awaitable
from random import Random

from workers.engine import Completion


def go_on() -> None:
    """A job that nobody stops."""


def prompt(tokens: int, seed: int = 0) -> list[int]:
    """Random tokens."""
    dice = Random(f"{tokens}/{seed}")
    return [dice.randrange(3, 259) for _ in range(tokens)]


async def outcome_of(future: Awaitable[Completion]) -> Completion | BaseException:
    """The answer, or why there is none."""
    [outcome] = await asyncio.gather(future, return_exceptions=True)
    return outcome
