"""Which errors of file systems may pass."""

import errno
import os

import pytest

from runtime.io_errors import is_no_room, may_pass


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOSPC, errno.EBUSY, errno.ETIMEDOUT])
def test_what_a_disk_or_a_server_fails_with_may_pass(number: int) -> None:
    assert may_pass(os_error(number))


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR])
def test_what_is_not_there_or_not_for_us_stays_so(number: int) -> None:
    assert not may_pass(os_error(number))


@pytest.mark.parametrize("error", [OSError("no config.json"), ValueError("bad"), TypeError(), FileNotFoundError("x")])
def test_an_error_without_a_number_says_nothing_of_the_system(error: Exception) -> None:
    assert not may_pass(error)


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError("cut")])
def test_silence_and_cut_connections_may_pass_without_a_number(error: Exception) -> None:
    assert may_pass(error)


class StatusError(Exception):
    """As HTTP clients raise it."""

    def __init__(self, status: int) -> None:
        self.status = status


def test_a_server_that_fails_may_work_again_and_one_that_refuses_does_not() -> None:
    assert [may_pass(StatusError(status)) for status in (503, 429, 403, 404)] == [True, True, False, False]


def test_an_error_is_judged_by_what_it_was_made_from_too() -> None:
    wrapped, hidden = OSError("can't load"), OSError("can't load")
    wrapped.__cause__ = os_error(errno.EIO)
    hidden.__context__, hidden.__suppress_context__ = os_error(errno.EIO), True

    assert may_pass(wrapped)
    assert not may_pass(hidden)


def test_a_full_disk_is_told_from_one_that_fails() -> None:
    assert [is_no_room(os_error(number)) for number in (errno.ENOSPC, errno.EROFS, errno.EIO)] == [True, True, False]
