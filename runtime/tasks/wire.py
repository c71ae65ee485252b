"""What crosses between a manager and its child processes, over sockets without a name that nobody else can open.

To the child: ``Order``'s bytes, a pickle of the function's name and its arguments. Back: frames of a kind and its
payload; progress and failures are msgspec structs, and a result is a pickle. Both ends are the same program, started by
the same user, so these pickles come from inside; nothing that a third party wrote is unpickled.
"""

import pickle
from io import BytesIO
from typing import Any, Final

import msgspec
from msgspec import Struct

from runtime.tasks.functions import TaskFunction
from runtime.tasks.life import Call
from runtime.tasks.status import Reason

#: Kinds of frames from a child.
READY: Final = b"+"
PROGRESS: Final = b"p"
RESULT: Final = b"r"
FAILURE: Final = b"f"
STOPPED: Final = b"s"

PICKLE: Final = 5


class Stop(Struct, frozen=True, array_like=True):
    """Tells the child that a task shall stop."""

    number: int
    reason: Reason


def order(number: int, name: str, call: Call) -> bytes:
    """The call as bytes.

    Raises:
        Exception: whatever pickle raises for what it can't take.
    """
    function = call.function
    if isinstance(function, TaskFunction):
        function = function.origin
    return pickle.dumps((number, name, function, call.args, call.kwargs), PICKLE)


def read_order(frame: bytes) -> tuple[int, str, Call]:
    """The number and the name of a task, and its call.

    Raises:
        Exception: whatever its module raises as it is imported.
    """
    number, name, function, args, kwargs = pickle.loads(frame)  # noqa: S301  (from the parent)
    return number, name, Call(function, args, kwargs)


def result(value: Any) -> memoryview:
    """A result's frame, made without a second copy of a large value.

    Raises:
        Exception: whatever pickle raises for what it can't take.
    """
    frame = BytesIO()
    frame.write(RESULT)
    pickle.dump(value, frame, PICKLE)
    return frame.getbuffer()


def read_result(frame: bytes) -> Any:
    """The value of a result's frame."""
    return pickle.loads(memoryview(frame)[1:])  # noqa: S301  (from a process that this one has started)


def struct_frame(kind: bytes, value: Struct) -> bytes:
    """A frame with a struct."""
    return kind + msgspec.msgpack.encode(value)
