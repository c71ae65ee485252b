"""Free ports."""

import socket

import pytest

from deploy.local.ports import EPHEMERAL_RANGE, LOOPBACK, LOWEST_PORT, candidates, free_ports


def test_ports_are_different_and_can_be_bound() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as listener:
            listener.bind((LOOPBACK, port))


def test_ports_lie_where_no_outgoing_connection_takes_them() -> None:
    assert candidates(32_768, 60_999) == range(LOWEST_PORT, 32_768)
    assert candidates(1_024, 60_999) == range(61_000, 65_536)


@pytest.mark.parametrize("lowest", [1_024, LOWEST_PORT, LOWEST_PORT + 10])
def test_any_port_will_do_where_outgoing_connections_may_take_nearly_all(lowest: int) -> None:
    assert candidates(lowest, 65_535) == range(LOWEST_PORT, 65_536)


def test_ports_are_drawn_from_the_range_of_this_machine() -> None:
    lowest, highest = (int(port) for port in EPHEMERAL_RANGE.read_text().split())
    assert all(port in candidates(lowest, highest) for port in free_ports(20))
