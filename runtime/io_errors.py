"""Errors of file systems, local and remote: which of them stay as they are, and which may pass."""

import errno
from collections.abc import Iterator
from typing import Final

#: What was asked for is not there, is no file, or is not for us, however often one asks.
_LASTING: Final = frozenset(
    {
        errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP,
        errno.EINVAL, errno.EILSEQ, errno.ENXIO, errno.EOPNOTSUPP, errno.EFBIG,
    }
)  # fmt: skip
#: This machine can't take a file.
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
#: HTTP's statuses from 500 on are the server's fault; this one says to come back later.
_TOO_MANY_REQUESTS: Final = 429


def may_pass(error: BaseException) -> bool:
    """Whether the error, or one that it was made from, says that something can't be reached now.

    A disk that fails, a server that is silent, too many open files: none of it is the fault of whoever asked.
    """
    return any(_may_pass(each) for each in _chain(error))


def is_no_room(error: BaseException) -> bool:
    """Whether this machine's disk is full or can't be written."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, (TimeoutError, ConnectionError)):
        return True
    if isinstance(error, OSError):
        # Libraries raise plain ones without a number, for whatever they dislike.
        return error.errno is not None and error.errno not in _LASTING
    status = getattr(error, "status", None)
    return isinstance(status, int) and (status >= 500 or status == _TOO_MANY_REQUESTS)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
