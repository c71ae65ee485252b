"""The end of a worker that can't compute any more."""

from schemas.errors import HeadraceError


class WorkerBroken(HeadraceError):
    """Whatever this worker began now would fail: its device computes no more, or its engine has ended.

    The process has to end, for another one may have a sound device. A job that is told of it had no part in it.
    """

    code = "worker_broken"
