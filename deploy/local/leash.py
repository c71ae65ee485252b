"""Become another program that dies with its parent: ``leash.py PARENT SIGNAL USER -- PROGRAM ...``.

The supervisor starts every process through this file, because the kernel's parent-death signal
(prctl(2), PR_SET_PDEATHSIG) can only be asked for by the child itself, and after its change of user,
which clears it. It is run as a plain file by ``python -I`` and imports nothing of Headrace. PROGRAM is
an absolute path.
"""

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1


def become(user: str) -> None:
    """Give up root for ``user``, with that user's groups."""
    account = pwd.getpwnam(user)
    os.initgroups(user, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    os.environ.update(HOME=account.pw_dir, USER=user, LOGNAME=user)


def die_with(parent_pid: int, death_signal: int) -> None:
    """Ask for ``death_signal`` when the parent dies; exit at once if it has died already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:
        sys.exit(f"parent {parent_pid} died before {sys.argv[5:]} began")


def main() -> None:
    """Read the arguments, put on the leash, and exec."""
    parent_pid, death_signal, user, separator, *program = sys.argv[1:]
    if separator != "--" or not program:
        sys.exit(__doc__)
    if user:
        become(user)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    die_with(int(parent_pid), int(death_signal))
    # Not execvp, which imports a module that the new user may be unable to read.
    os.execv(program[0], program)  # noqa: S606  (no shell is the point)


if __name__ == "__main__":
    main()
