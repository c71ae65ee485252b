"""When a device's memory does not suffice."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from schemas.errors import OutOfMemory


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocator had no more; the CPU's has no error class of its own."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


@contextmanager
def memory_for(what: str) -> Iterator[None]:
    """Turn the allocators' errors into one.

    Raises:
        OutOfMemory: there was not enough for ``what`` (retryable).
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"{what} needs more memory than there is: {error}") from None
