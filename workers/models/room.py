"""Torch's many ways to say that memory is out, as one error of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from schemas.errors import OutOfMemory


@contextmanager
def room_for(what: str, advice: str) -> Iterator[None]:
    """Turns the device's or the machine's lack of memory into ours.

    Raises:
        OutOfMemory: there was no room for ``what`` (retryable).
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"There is no room for {what}: {error}. {advice}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory is out; what the CPU's allocator raises has no type of its own."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
