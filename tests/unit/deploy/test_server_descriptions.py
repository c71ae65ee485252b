"""How the three servers are configured."""

import os
import stat
from itertools import pairwise
from pathlib import Path

import pytest

from deploy.local.servers.kafka import bootstrap, kafka
from deploy.local.servers.postgres import find_home, home_of, postgres
from deploy.local.servers.redis import redis


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


@pytest.mark.parametrize(("durable", "fsync"), [(True, None), (False, "off")])
def test_only_data_that_nobody_needs_go_without_fsync(tmp_path: Path, durable: bool, fsync: str | None) -> None:
    home = find_home(tmp_path / "postgres")
    try:
        options = options_of(postgres(home, 15432, durable=durable).command.argv)
    finally:
        remove_home(tmp_path / "postgres")
    assert options.get("fsync") == fsync
    assert options["max_connections"] == "200"


def test_the_password_is_generated_once_and_closed_to_others(tmp_path: Path) -> None:
    home = find_home(tmp_path)
    try:
        again = find_home(tmp_path)
        assert home.url(1) == again.url(1)
        assert home.url(1).startswith("postgresql+psycopg2://headrace:")
        assert stat.S_IMODE(home.password_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(home.directory.stat().st_mode) == 0o700
    finally:
        remove_home(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as somebody else")
def test_data_go_where_the_server_can_reach_them(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    home = find_home(closed / "postgres")
    try:
        assert not home.directory.is_relative_to(tmp_path)
        assert home_of(closed / "postgres") == home.directory
    finally:
        remove_home(closed / "postgres")


def remove_home(directory: Path) -> None:
    home = home_of(directory)
    assert home is not None
    (home / "password").unlink()
    home.rmdir()
