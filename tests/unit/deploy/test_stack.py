"""What a stack consists of."""

from pathlib import Path

from deploy.local.paths import DEFAULT_STACK, VAR, StackPaths
from deploy.local.processes import dispatcher, steps, worker
from deploy.local.stack import Plan


def test_a_plan_is_handed_to_the_supervisor_as_arguments(tmp_path: Path) -> None:
    plan = Plan(tmp_path, workers=3, servers_only=True, brokers=2, durable=False)
    expected = ("--dir", str(tmp_path), "--workers", "3", "--brokers", "2", "--servers-only", "--fast")
    assert plan.arguments() == expected


def test_the_default_stack_writes_its_addresses_beside_its_directory(tmp_path: Path) -> None:
    assert StackPaths(DEFAULT_STACK).environment == VAR / "stack.env"
    assert StackPaths(tmp_path).environment == tmp_path / "stack.env"


def test_each_worker_has_a_disk_cache_of_its_own_and_one_thread(tmp_path: Path) -> None:
    first, second = (worker(number, StackPaths(tmp_path)).command.environment for number in (1, 2))
    assert first["HEADRACE_CACHE_DIR"] != second["HEADRACE_CACHE_DIR"]
    assert first["HEADRACE_READY_FILE"] != second["HEADRACE_READY_FILE"]
    assert first["HEADRACE_STORE"] == second["HEADRACE_STORE"] == (tmp_path / "store").as_uri()
    assert first["OMP_NUM_THREADS"] == "1"


def test_workers_end_before_the_dispatcher_and_both_before_the_servers(tmp_path: Path) -> None:
    paths = StackPaths(tmp_path)
    assert worker(1, paths).stop_rank > dispatcher(paths, 9464).stop_rank > 0


def test_topics_and_tables_are_there_before_the_processes() -> None:
    assert set(steps()) == {"topics", "tables"}
