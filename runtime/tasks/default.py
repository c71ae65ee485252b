"""A manager for scripts, notebooks and libraries that nobody passes one to."""

import threading
from typing import Final

from runtime.tasks.manager import TaskManager

_LOCK: Final = threading.Lock()
_DEFAULT: list[TaskManager] = []


def task_manager() -> TaskManager:
    """The manager that all callers in this process share: made by the first call, closed as the interpreter ends.

    Headrace's own processes open theirs in ``__main__`` and pass it down, with limits that fit what they do, and a
    test can give it another. This one is for code without a place to open one. Importing it starts nothing; a forked
    process gets its own.
    """
    with _LOCK:
        if not _DEFAULT or _DEFAULT[0].foreign:
            _DEFAULT[:] = [TaskManager()]
        return _DEFAULT[0]
