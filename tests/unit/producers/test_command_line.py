"""What the command says without any server."""

import pytest

from producers.cli import main
from producers.cli.exits import Exit, exit_of
from producers.errors import ResultGone
from runtime.settings import InvalidSetting
from runtime.topic_admin import TopicRefused, TopicsMissing
from schemas.errors import (
    HeadraceError,
    InvalidRequest,
    JobNotFound,
    RequestTooLarge,
    ResultTimeout,
    ServerUnreachable,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest("x"), Exit.USAGE),
        (RequestTooLarge(2, 1), Exit.USAGE),
        (InvalidSetting("x"), Exit.USAGE),
        (JobNotFound("t", "j"), Exit.NOT_FOUND),
        (ResultGone("j"), Exit.NOT_FOUND),
        (ServerUnreachable("Kafka", "a", "b"), Exit.UNREACHABLE),
        (TopicsMissing(["t"]), Exit.UNREACHABLE),
        (ResultTimeout("j", 1), Exit.TIMED_OUT),
        (TopicRefused("x"), Exit.FAILED),
    ],
)
def test_each_error_has_its_exit_status(error: HeadraceError, status: Exit) -> None:
    assert exit_of(error) is status


def test_the_exit_statuses_are_those_that_scripts_rely_on() -> None:
    assert [int(status) for status in Exit] == [0, 1, 2, 3, 4, 124, 130]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["submit"],
        ["submit", "translate"],
        ["submit", "generate", "--max-tokens", "many"],
        ["submit", "generate", "--model", "m", "--prompt", "p", "--max-tokens", "0"],
        ["submit", "generate", "--model", "m", "--prompt", ""],
        ["submit", "generate", "--prompt", "p"],
        ["submit", "generate", "--model", "../m", "--prompt", "p"],
        ["submit", "finetune", "--model", "m"],
        ["submit", "finetune", "--model", "m", "--dataset", "d", "--epochs", "1", "--max-steps", "1"],
        ["submit", "evaluate", "--model", "m", "--dataset", "d", "--metric", "beauty"],
        ["submit", "generate", "--model", "m", "--prompt", "p", "--deadline", "tomorrow"],
        ["submit", "generate", "--model", "m", "--prompt", "p", "--priority", "urgent"],
        ["submit", "generate", "--file", "/no/such/file"],
        ["status", "--last", "0"],
        ["watch"],
        ["topics", "destroy"],
        ["status", "-o", "xml"],
    ],
)
def test_a_wrong_call_is_explained_on_stderr_and_ends_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    # A port where nothing answers: whoever asks a server before looking at the arguments ends with 4.
    kafka = ["--kafka", "127.0.0.1:1"] if arguments[:1] not in ([], ["frobnicate"]) and len(arguments) > 1 else []

    assert main([*arguments, *kafka]) == Exit.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err


@pytest.mark.parametrize("arguments", [["-h"], ["--version"], ["submit", "generate", "-h"], ["doctor", "--help"]])
def test_help_goes_to_stdout(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == Exit.OK
    assert capsys.readouterr().out
