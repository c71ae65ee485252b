"""From where a command takes its addresses."""

from pathlib import Path

import pytest

from producers.cli.target import Target, read_env
from runtime.settings import InvalidSetting

STACK = (
    "HEADRACE_KAFKA=127.0.0.1:9000\n"
    "HEADRACE_DATABASE=postgresql+psycopg2://stack@127.0.0.1/x\n"
    "HEADRACE_METRICS=http://127.0.0.1:9001\n"
)


@pytest.fixture
def stack_file(tmp_path: Path) -> Path:
    file = tmp_path / "stack.env"
    file.write_text(STACK)
    return file


def test_the_running_stack_is_used_where_nothing_else_is_named(stack_file: Path) -> None:
    target = Target.resolve({}, stack_file, None, None, "default")

    assert target.settings.kafka == "127.0.0.1:9000"
    assert target.database == "postgresql+psycopg2://stack@127.0.0.1/x"
    assert target.metrics_url == "http://127.0.0.1:9001"
    assert target.origin == str(stack_file)
    assert target.is_local_stack


def test_the_environment_goes_over_the_running_stack_and_is_not_mixed_with_it(stack_file: Path) -> None:
    target = Target.resolve({"HEADRACE_KAFKA": "mine:1"}, stack_file, None, None, "default")

    assert target.settings.kafka == "mine:1"
    assert target.database is None
    assert not target.is_local_stack


def test_an_option_goes_over_the_environment_and_is_not_mixed_with_it(stack_file: Path) -> None:
    env = {"HEADRACE_KAFKA": "mine:1", "HEADRACE_DATABASE": "postgresql+psycopg2://mine/x"}
    target = Target.resolve(env, stack_file, "other:2", None, "default")

    assert target.settings.kafka == "other:2"
    assert target.database is None


def test_a_database_alone_may_be_given(stack_file: Path) -> None:
    target = Target.resolve({}, stack_file, None, "postgresql://other/x", "default")

    assert target.settings.kafka == "127.0.0.1:9000"
    assert target.database == "postgresql+psycopg2://other/x"


def test_without_any_address_the_defaults_are_used_and_no_database(tmp_path: Path) -> None:
    target = Target.resolve({}, tmp_path / "none", None, None, "default")

    assert target.settings.kafka == "127.0.0.1:9092"
    assert target.database is None
    assert target.metrics_url == "http://127.0.0.1:9464"


def test_an_address_of_the_wrong_form_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="HEADRACE_DATABASE is 'mysql://x'"):
        Target.resolve({}, tmp_path / "none", None, "mysql://x", "default")


def test_lines_that_are_no_variables_are_skipped() -> None:
    assert read_env("# a comment\n\nA=1\nB=x=y\n") == {"A": "1", "B": "x=y"}
