"""The stack's real servers: `up`, `down`, two side by side, and none after a kill."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import psycopg2
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.local.background import clean, down, running_stack, up
from deploy.local.paths import ROOT, StackPaths
from deploy.local.service import StackError
from deploy.local.stack import Plan
from deploy.local.state import StackState, read_state
from deploy.local.temporary import temporary_stack
from tests.integration.deploy.test_servers import plain

TIMEOUT_S = 30.0

OWNER = """
import pathlib, sys
from deploy.local.stack import Plan
from deploy.local.temporary import temporary_stack
with temporary_stack(Plan(pathlib.Path(sys.argv[1]), servers_only=True, durable=False)):
    pass
"""


def plan_in(directory: Path) -> Plan:
    return Plan(directory / "stack", servers_only=True, durable=False)


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Plan]:
    """Servers in a directory of their own; stopped and removed after the test."""
    plan = plan_in(tmp_path)
    yield plan
    clean(plan.paths)


@pytest.fixture(scope="module")
def shared() -> Iterator[Plan]:
    """A running stack for the tests that leave it as it is."""
    with tempfile.TemporaryDirectory(prefix="headrace-tests-") as directory:
        plan = plan_in(Path(directory))
        with temporary_stack(plan):
            yield plan


def start(plan: Plan) -> StackState:
    """`up` in a process of its own, as a user runs it."""
    subprocess.run((sys.executable, "-m", "deploy.local", "up", *plan.arguments()), cwd=ROOT, check=True)
    state = running_stack(plan)
    assert state is not None
    return state


def family(state: StackState) -> list[psutil.Process]:
    """The supervisor and everything below it."""
    supervisor = psutil.Process(state.supervisor.pid)
    return [supervisor, *supervisor.children(recursive=True)]


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=TIMEOUT_S)
    assert not alive


def write_record(kafka: str, topic: str, value: bytes) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    (created,) = admin.create_topics([NewTopic(topic, 1, 1)]).values()
    created.result(TIMEOUT_S)
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(topic, value)
    assert producer.flush(TIMEOUT_S) == 0


def read_record(kafka: str, topic: str) -> bytes | None:
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "reader", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        record = consumer.poll(TIMEOUT_S)
    finally:
        consumer.close()
    assert record is not None
    return record.value()


def execute(database: str, statement: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(plain(database))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def test_what_was_written_is_there_after_down_and_up_also_where_the_directory_was_moved_to(
    plan: Plan, tmp_path: Path
) -> None:
    first = start(plan)
    write_record(first.environment["HEADRACE_KAFKA"], "kept", b"a record")
    execute(first.environment["HEADRACE_DATABASE"], "CREATE TABLE kept AS SELECT 7 AS value")
    processes = family(first)
    assert down(plan.paths)
    assert_gone(processes)
    assert not down(plan.paths)

    moved = plan_in(tmp_path / "moved")
    moved.directory.parent.mkdir()
    plan.directory.rename(moved.directory)
    try:
        second = start(moved)
        assert read_record(second.environment["HEADRACE_KAFKA"], "kept") == b"a record"
        assert execute(second.environment["HEADRACE_DATABASE"], "SELECT value FROM kept") == [(7,)]
    finally:
        clean(moved.paths)


def test_nothing_outlives_a_killed_supervisor(plan: Plan) -> None:
    state = start(plan)
    processes = family(state)
    os.kill(state.supervisor.pid, signal.SIGKILL)
    assert_gone(processes)
    assert running_stack(plan) is None


def test_two_stacks_run_side_by_side(shared: Plan, stack_env: Mapping[str, str]) -> None:
    state = running_stack(shared)
    assert state is not None
    write_record(state.environment["HEADRACE_KAFKA"], "here", b"only")
    other = AdminClient({"bootstrap.servers": stack_env["HEADRACE_KAFKA"]})
    assert "here" not in other.list_topics(timeout=TIMEOUT_S).topics


def test_up_again_leaves_the_stack_alone(shared: Plan) -> None:
    before = running_stack(shared)
    assert start(shared) == before


def test_a_command_joins_the_stack_that_runs(shared: Plan) -> None:
    state = running_stack(shared)
    assert state is not None
    argv = (sys.executable, "-m", "deploy.local", "run", *shared.arguments(), "--", "printenv", "HEADRACE_KAFKA")
    joined = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True)
    assert joined.stdout.strip() == state.environment["HEADRACE_KAFKA"]
    assert running_stack(shared) == state


def test_servers_alone_are_not_taken_for_a_whole_stack(shared: Plan) -> None:
    with pytest.raises(StackError, match="has servers only"):
        up(Plan(shared.directory))


def test_a_second_supervisor_is_refused(shared: Plan) -> None:
    argv = (sys.executable, "-m", "deploy.local", "run", *shared.arguments())
    refused = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "runs in" in refused.stderr


def test_a_command_has_a_stack_for_as_long_as_it_runs(plan: Plan) -> None:
    argv = (sys.executable, "-m", "deploy.local", "run", *plan.arguments(), "--", "sh", "-c", "exit 7")
    assert subprocess.run(argv, cwd=ROOT, check=False, stderr=subprocess.DEVNULL).returncode == 7
    assert running_stack(plan) is None


def test_ctrl_c_while_a_command_runs_leaves_nothing(plan: Plan, tmp_path: Path) -> None:
    """As in `make demo`: the terminal sends it to all of the foreground's processes."""
    told = tmp_path / "told"
    os.mkfifo(told)
    command = ("sh", "-c", f"echo $$ > {told}; sleep 300 & wait")
    argv = (sys.executable, "-m", "deploy.local", "run", *plan.arguments(), "--", *command)
    with subprocess.Popen(argv, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL) as running:
        assert told.read_text()
        owner = psutil.Process(running.pid)
        processes = [owner, *owner.children(recursive=True)]
        state = running_stack(plan)
        assert state is not None
        processes += family(state)
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(TIMEOUT_S) == 130
    assert_gone(processes)
    assert running_stack(plan) is None


@pytest.mark.parametrize("service", ["redis", "kafka"])
def test_an_up_that_is_interrupted_leaves_nothing(plan: Plan, service: str) -> None:
    argv = (sys.executable, "-m", "deploy.local", "up", *plan.arguments())
    with subprocess.Popen(argv, cwd=ROOT) as starting:
        processes = family(when_started(service, plan.paths))
        starting.send_signal(signal.SIGINT)
        assert starting.wait() == 130
    assert_gone(processes)
    assert running_stack(plan) is None


def when_started(service: str, paths: StackPaths) -> StackState:
    """The state as soon as it shows ``service``; nothing announces that, so it is read again and again."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline_s:
        state = read_state(paths.state)
        if state is not None and service in {known.name for known in state.services}:
            return state
        os.sched_yield()
    raise AssertionError(f"{service} was not started within {TIMEOUT_S:.0f} s")


def test_a_tethered_stack_ends_with_its_owner(plan: Plan) -> None:
    argv = (sys.executable, "-c", OWNER, str(plan.directory))
    with subprocess.Popen(argv, cwd=ROOT) as owner:
        processes = family(when_started("redis", plan.paths))
        owner.kill()
    assert_gone(processes)
