"""What safetensors says of a disk, as the ``OSError`` that everybody else raises."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from safetensors import SafetensorError

#: As Rust writes it, in which the library is written.
_NUMBER: Final = re.compile(r"\(os error (\d+)\)")


@contextmanager
def disk_errors() -> Iterator[None]:
    """Around reading and writing of safetensors: a full disk is the disk's trouble, not the file's.

    Raises:
        OSError: the library's message names the system's error.
    """
    try:
        yield
    except SafetensorError as error:
        if found := _NUMBER.search(str(error)):
            raise OSError(int(found[1]), str(error)) from error
        raise
