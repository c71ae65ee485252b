"""Settings from the environment: defaults, forms, and errors that name the variable."""

import os
import re
from pathlib import Path

import pytest

from runtime.settings import InvalidSetting, Settings


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_env({}) == Settings(host=Settings.from_env({}).host)


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings.from_env({"HEADRACE_LEASE_S": ""}).lease_s == Settings().lease_s


def test_a_bare_postgres_url_is_read_as_psycopg2() -> None:
    settings = Settings.from_env({"HEADRACE_DATABASE": "postgresql://me@db/headrace"})
    assert settings.database == "postgresql+psycopg2://me@db/headrace"


def test_roots_are_a_list_of_paths() -> None:
    settings = Settings.from_env({"HEADRACE_MODELS": os.pathsep.join(["/a", "/b"])})
    assert settings.models == (Path("/a"), Path("/b"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEADRACE_DATABASE", "mysql://x"),
        ("HEADRACE_DEVICE", "tpu"),
        ("HEADRACE_HUB", "yes"),
        ("HEADRACE_LEASE_S", "soon"),
        ("HEADRACE_LEASE_S", "nan"),
        ("HEADRACE_LEASE_S", "inf"),
        ("HEADRACE_LEASE_S", "0"),
        ("HEADRACE_GENERATE_SLOTS", "-1"),
        ("HEADRACE_METRICS_PORT", "http"),
        ("HEADRACE_METRICS_PORT", "70000"),
        ("HEADRACE_LEASE_S", "0.5"),
        ("HEADRACE_QUEUE_JOBS", "0"),
        ("HEADRACE_TENANT_JOBS", "0"),
        ("HEADRACE_KAFKA", "kafka"),
        ("HEADRACE_KAFKA", "a:1,b:port"),
        ("HEADRACE_DATABASE", "postgresql://host:abc/headrace"),
    ],
)
def test_a_wrong_value_names_the_variable_and_the_value(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=re.escape(f"{name} is {value!r}")):
        Settings.from_env({name: value})


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("KAFKA", "a:1", "a:1"),
        ("REDIS", "redis://a:1/2", "redis://a:1/2"),
        ("DATABASE", "postgresql+psycopg2://me@a:1/b", "postgresql+psycopg2://me@a:1/b"),
        ("STORE", "s3://bucket/a", "s3://bucket/a"),
        ("CACHE_DIR", "/a", Path("/a")),
        ("MODELS", "/a", (Path("/a"),)),
        ("DATA", "/a", (Path("/a"),)),
        ("HUB", "1", True),
        ("HUB", "0", False),
        ("DEVICE", "cpu", "cpu"),
        ("DEVICE", "cuda", "cuda"),
        ("METRICS_HOST", "0.0.0.0", "0.0.0.0"),  # noqa: S104 - only read
        ("METRICS_PORT", "0", 0),
        ("METRICS_PORT", "65535", 65_535),
        ("METRICS_INTERVAL_S", "0.5", 0.5),
        ("LEASE_S", "1", 1.0),
        ("CHECKPOINT_S", "2", 2.0),
        ("RECONCILE_S", "3", 3.0),
        ("QUEUE_JOBS", "1", 1),
        ("TENANT_JOBS", "1", 1),
        ("GENERATE_SLOTS", "0", 0),
        ("FINETUNE_SLOTS", "2", 2),
        ("EVALUATE_SLOTS", "3", 3),
        ("MODEL_MEMORY_BYTES", "4", 4),
        ("ENGINE_TOKENS", "5", 5),
        ("READY_FILE", "/a", Path("/a")),
        ("HOST", "a", "a"),
    ],
)
def test_each_variable_is_read_into_its_setting(name: str, value: str, read: object) -> None:
    assert getattr(Settings.from_env({f"HEADRACE_{name}": value}), name.lower()) == read


def test_spaces_between_addresses_are_left_out() -> None:
    assert Settings.from_env({"HEADRACE_KAFKA": "a:1, b:2"}).kafka == "a:1,b:2"


def test_a_password_is_not_told() -> None:
    with pytest.raises(InvalidSetting) as refused:
        Settings.from_env({"HEADRACE_DATABASE": "postgresql://me:secret@host:abc/headrace"})
    assert "secret" not in str(refused.value)
    assert "'postgresql://***@host:abc/headrace'" in str(refused.value)


def test_readiness_is_a_file_for_the_supervisor(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    Settings(ready_file=ready).ready()
    assert ready.read_text() == f"{os.getpid()}\n"


def test_readiness_without_a_supervisor_writes_nothing() -> None:
    Settings().ready()
