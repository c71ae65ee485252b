"""Free ports."""

import socket

from deploy.local.ports import EPHEMERAL_RANGE, LOOPBACK, LOWEST_PORT, free_ports


def test_ports_are_different_and_can_be_bound() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as listener:
            listener.bind((LOOPBACK, port))


def test_ports_lie_where_no_outgoing_connection_takes_them() -> None:
    lowest_ephemeral = int(EPHEMERAL_RANGE.read_text().split()[0])
    assert all(LOWEST_PORT <= port < lowest_ephemeral for port in free_ports(20))
