"""Faults of the network, in a namespace of our own: its rules end with it, whatever happens to us.

Every process is in a group of its own (a supplementary one: a change of the real group would take it off
its leash), by which the kernel marks its connections. A rule then drops packets of one process and one server
in one direction or in both.
"""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import Enum
from typing import Final

#: Far from the groups that a system has.
FIRST_GROUP: Final = 60_000
#: Packets with this mark are routed by the table of the same number, into nothing.
BLACKHOLE: Final = 9
THROTTLE: Final = ("rate", "2mbit", "burst", "64kb", "latency", "200ms")
LOST: Final = 0.15


class Direction(Enum):
    """Which packets between a client and a server are dropped."""

    BOTH = "both"
    REQUESTS = "requests"
    REPLIES = "replies"


def prepare(groups: Sequence[int]) -> None:
    """Bring up the loopback link, mark the connections of each group, and lay the route into nothing."""
    _run("ip", "link", "set", "lo", "up")
    # Before the table of local addresses, which otherwise comes first for every packet.
    _run("ip", "rule", "add", "pref", "10", "fwmark", str(BLACKHOLE), "lookup", str(BLACKHOLE))
    _run("ip", "rule", "add", "pref", "100", "lookup", "local")
    _run("ip", "rule", "del", "pref", "0")
    _run("ip", "route", "add", "blackhole", "default", "table", str(BLACKHOLE))
    for group in groups:
        _run("iptables", "-t", "mangle", "-A", "OUTPUT", "-p", "tcp", *_owned(group), "-m", "conntrack",
             "--ctdir", "ORIGINAL", "-j", "CONNMARK", "--set-mark", str(group))  # fmt: skip


@contextmanager
def cut(group: int, ports: Sequence[int], direction: Direction) -> Iterator[None]:
    """Drop what a group's processes and the servers on ``ports`` send each other."""
    connection = ("-p", "tcp", "-m", "connmark", "--mark", str(group), "-m", "multiport")
    with ExitStack() as rules:
        if direction is not Direction.REPLIES:
            rules.enter_context(_rule("INPUT", *connection, "--dports", _listed(ports), "-j", "DROP"))
        if direction is not Direction.REQUESTS:
            rules.enter_context(_rule("INPUT", *connection, "--sports", _listed(ports), "-j", "DROP"))
        yield


@contextmanager
def blackhole(group: int, ports: Sequence[int]) -> Iterator[None]:
    """Route what a group's processes send to ``ports`` into nothing."""
    mark = ("-j", "MARK", "--set-mark", str(BLACKHOLE))
    packets = ("-p", "tcp", *_owned(group), "-m", "multiport", "--dports", _listed(ports))
    with _rule("OUTPUT", *packets, *mark, table="mangle"):
        yield


@contextmanager
def loss(ports: Sequence[int]) -> Iterator[None]:
    """Lose packets to and from the servers on ``ports`` at random: what comes, comes late."""
    chance = ("-m", "statistic", "--mode", "random", "--probability", str(LOST), "-j", "DROP")
    with (
        _rule("INPUT", "-p", "tcp", "-m", "multiport", "--dports", _listed(ports), *chance),
        _rule("INPUT", "-p", "tcp", "-m", "multiport", "--sports", _listed(ports), *chance),
    ):
        yield


@contextmanager
def resets(ports: Sequence[int]) -> Iterator[None]:
    """Answer some packets to the servers on ``ports`` with a reset."""
    some = ("-m", "statistic", "--mode", "random", "--probability", "0.05")
    refusal = ("-j", "REJECT", "--reject-with", "tcp-reset")
    with _rule("INPUT", "-p", "tcp", "-m", "multiport", "--dports", _listed(ports), *some, *refusal):
        yield


@contextmanager
def throttle() -> Iterator[None]:
    """Let little through the loopback link."""
    _run("tc", "qdisc", "add", "dev", "lo", "root", "tbf", *THROTTLE)
    try:
        yield
    finally:
        _run("tc", "qdisc", "del", "dev", "lo", "root")


@contextmanager
def _rule(chain: str, *rule: str, table: str = "filter") -> Iterator[None]:
    _run("iptables", "-t", table, "-A", chain, *rule)
    try:
        yield
    finally:
        _run("iptables", "-t", table, "-D", chain, *rule)


def _owned(group: int) -> tuple[str, ...]:
    return ("-m", "owner", "--gid-owner", str(group), "--suppl-groups")


def _listed(ports: Sequence[int]) -> str:
    return ",".join(str(port) for port in ports)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
