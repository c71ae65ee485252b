"""Free TCP ports on the loopback address."""

import random
import socket
from contextlib import ExitStack
from pathlib import Path

LOOPBACK = "127.0.0.1"

#: Below this are ports that common servers use by default.
LOWEST_PORT = 10_240

#: Where Linux says from which port on it numbers outgoing connections.
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> tuple[int, ...]:
    """Return ``count`` different ports that nobody listens on now.

    They are drawn at random from below the ephemeral range: between this answer and the server's
    ``bind``, neither an outgoing connection nor (but for bad luck) a second stack takes them.
    """
    lowest_ephemeral = int(EPHEMERAL_RANGE.read_text().split()[0])
    candidates = random.sample(range(LOWEST_PORT, lowest_ephemeral), k=lowest_ephemeral - LOWEST_PORT)
    ports: list[int] = []
    with ExitStack() as held:
        for port in candidates:
            if len(ports) == count:
                return tuple(ports)
            if is_free(port, held):
                ports.append(port)
    raise OSError(f"found {len(ports)} of {count} free ports in {LOWEST_PORT}..{lowest_ephemeral - 1}")


def is_free(port: int, held: ExitStack) -> bool:
    """Bind ``port`` and leave it bound until ``held`` closes; False if somebody else has it."""
    listener = held.enter_context(socket.socket())
    try:
        listener.bind((LOOPBACK, port))
    except OSError:
        return False
    return True
