"""How the three servers are configured."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from deploy.local.servers.kafka import bootstrap, kafka
from deploy.local.servers.postgres import (
    LASTING,
    STATEMENTS,
    find_home,
    find_programs,
    has_library,
    home_of,
    place_elsewhere,
    postgres,
)
from deploy.local.servers.redis import redis
from deploy.local.service import StackError


def options_of(argv: tuple[str, ...]) -> dict[str, str]:
    return dict(option.split("=", 1) for flag, option in pairwise(argv) if flag == "-c")


def properties_of(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def test_one_broker_keeps_one_copy(tmp_path: Path) -> None:
    (node,) = kafka(tmp_path, ((19092, 19093),))
    settings = properties_of(tmp_path / "node-1" / "server.properties")
    assert node.name == "kafka"
    assert settings["listeners"] == "BROKER://127.0.0.1:19092,CONTROLLER://127.0.0.1:19093"
    assert settings["offsets.topic.replication.factor"] == settings["min.insync.replicas"] == "1"


def test_three_brokers_keep_three_copies_and_survive_the_loss_of_one(tmp_path: Path) -> None:
    listeners = ((1, 2), (3, 4), (5, 6))
    nodes = kafka(tmp_path, listeners)
    settings = properties_of(tmp_path / "node-3" / "server.properties")
    assert [node.name for node in nodes] == ["kafka-1", "kafka-2", "kafka-3"]
    assert settings["controller.quorum.voters"] == "1@127.0.0.1:2,2@127.0.0.1:4,3@127.0.0.1:6"
    assert settings["transaction.state.log.replication.factor"] == "3"
    assert settings["transaction.state.log.min.isr"] == "2"
    assert bootstrap(listeners) == "127.0.0.1:1,127.0.0.1:3,127.0.0.1:5"


def test_storage_is_formatted_where_it_does_not_look_complete(tmp_path: Path) -> None:
    (node,) = kafka(tmp_path, ((1, 2),))
    (creation,) = node.creations
    settings = properties_of(tmp_path / "node-1" / "format.properties")
    assert settings["log.dirs"] == str(creation.unfinished) != str(creation.path)


def test_redis_forgets_the_least_recently_used_and_writes_nothing(tmp_path: Path) -> None:
    argv = redis(tmp_path, 16379).command.argv
    settings = dict(zip(argv[1::2], argv[2::2], strict=True))
    assert settings["--maxmemory-policy"] == "allkeys-lru"
    assert settings["--save"] == ""
    assert settings["--appendonly"] == "no"
    assert settings["--bind"] == "127.0.0.1"


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory where everybody gets."""
    with tempfile.TemporaryDirectory(prefix="headrace-tests-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize(("durable", "fsync"), [(True, None), (False, "off")])
def test_only_data_that_nobody_needs_go_without_fsync(reachable: Path, durable: bool, fsync: str | None) -> None:
    options = options_of(postgres(find_home(reachable), 15432, durable=durable).command.argv)
    assert options.get("fsync") == fsync
    assert options["max_connections"] == "200"


def test_statistics_of_statements_are_kept_where_the_server_has_the_library(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    assert not has_library(programs, "pg_stat_statements")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "pg_stat_statements.so").touch()
    assert has_library(programs, "pg_stat_statements")


def test_the_server_is_started_with_the_libraries_that_it_has(reachable: Path) -> None:
    options = options_of(postgres(find_home(reachable), 15432, durable=True).command.argv)
    wanted = STATEMENTS if has_library(find_programs(), STATEMENTS) else None
    assert options.get("shared_preload_libraries") == wanted


def test_the_password_is_generated_once_and_closed_to_others(reachable: Path) -> None:
    home = find_home(reachable)
    again = find_home(reachable)
    assert home.url(1) == again.url(1)
    assert home.url(1).startswith("postgresql+psycopg2://headrace:")
    assert stat.S_IMODE(home.password_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.directory.stat().st_mode) == 0o700


def test_data_move_with_their_directory(reachable: Path) -> None:
    before = find_home(reachable / "before")
    url = before.url(1)
    (reachable / "before").rename(reachable / "after")
    after = find_home(reachable / "after")
    assert after.directory == reachable / "after" / before.directory.name
    assert after.url(1) == url
    assert home_of(reachable / "before") is None


def test_a_copy_has_data_of_its_own(reachable: Path) -> None:
    original = find_home(reachable / "original")
    shutil.copytree(reachable / "original", reachable / "copy")
    copy = find_home(reachable / "copy")
    assert copy.directory.is_relative_to(reachable / "copy")
    assert find_home(reachable / "original") == original


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A directory where only root gets."""
    directory = tmp_path / "closed"
    directory.mkdir(mode=0o700)
    yield directory
    for pointer in directory.glob("*/home"):
        shutil.rmtree(pointer.read_text(), ignore_errors=True)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as somebody else")


@as_root
def test_data_go_where_the_server_can_reach_them(tmp_path: Path, closed: Path) -> None:
    home = find_home(closed / "postgres")
    assert not home.directory.is_relative_to(tmp_path)
    assert home_of(closed / "postgres") == home.directory
    assert find_home(closed / "postgres") == home


@as_root
def test_data_that_lie_elsewhere_stay_with_a_directory_that_is_moved_and_not_with_its_copy(closed: Path) -> None:
    home = find_home(closed / "postgres")
    (closed / "postgres").rename(closed / "moved")
    assert find_home(closed / "moved") == home

    shutil.copytree(closed / "moved", closed / "copy")
    assert home_of(closed / "copy") is None
    with pytest.raises(StackError, match="is a copy"):
        find_home(closed / "copy")
    assert find_home(closed / "moved") == home


@as_root
def test_data_that_are_gone_are_missed(closed: Path) -> None:
    shutil.rmtree(find_home(closed / "postgres").directory)
    with pytest.raises(StackError, match=r"are gone\. Begin anew with `make clean`"):
        find_home(closed / "postgres")


def test_data_that_lie_elsewhere_last_as_long_as_their_directory() -> None:
    assert place_elsewhere(Path(tempfile.gettempdir()) / "stack") == Path(tempfile.gettempdir())
    lasting = place_elsewhere(Path("/closed/headrace/var/stack/postgres"))
    assert lasting == (LASTING if os.access(LASTING, os.W_OK) else Path(tempfile.gettempdir()))
