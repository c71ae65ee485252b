"""Free TCP ports on the loopback address."""

import random
import socket
from contextlib import ExitStack
from pathlib import Path

from deploy.local.service import StackError

LOOPBACK = "127.0.0.1"

#: Below this are ports that common servers use by default.
LOWEST_PORT = 10_240
HIGHEST_PORT = 65_535
#: From so many, two stacks that start at once hardly draw the same.
ENOUGH_PORTS = 1_000

#: Where Linux says from which port on it numbers outgoing connections.
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> tuple[int, ...]:
    """Return ``count`` different ports that nobody listens on now.

    They are drawn at random from outside of the ephemeral range: between this answer and the server's
    ``bind``, neither an outgoing connection nor (but for bad luck) a second stack takes them.

    Raises:
        StackError: there are not so many.
    """
    lowest, highest = (int(port) for port in EPHEMERAL_RANGE.read_text().split())
    choice = candidates(lowest, highest)
    ports: list[int] = []
    with ExitStack() as held:
        for port in random.sample(choice, k=len(choice)):
            if len(ports) == count:
                return tuple(ports)
            if is_free(port, held):
                ports.append(port)
    raise StackError(f"found {len(ports)} of {count} free ports in {choice[0]}..{choice[-1]}: stop what listens there")


def candidates(lowest_ephemeral: int, highest_ephemeral: int) -> range:
    """The ports below the ephemeral range, or above it; any where it leaves few, as on machines that connect a lot."""
    outside = range(LOWEST_PORT, lowest_ephemeral), range(highest_ephemeral + 1, HIGHEST_PORT + 1)
    most = max(outside, key=len)
    return most if len(most) >= ENOUGH_PORTS else range(LOWEST_PORT, HIGHEST_PORT + 1)


def is_free(port: int, held: ExitStack) -> bool:
    """Bind ``port`` and leave it bound until ``held`` closes; False if somebody else has it."""
    listener = held.enter_context(socket.socket())
    try:
        listener.bind((LOOPBACK, port))
    except OSError:
        return False
    return True
