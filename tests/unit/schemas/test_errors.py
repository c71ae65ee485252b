"""The tree of errors is the one that is drawn, and each error says what its sender needs."""

import re
from collections.abc import Iterator

import pytest

from schemas import errors
from schemas.errors import HeadraceError, printable, shown

BRANCH = re.compile(r"(?P<indent>[│ ]*)[├└]── (?P<name>\w+)(?P<rest>.*)")


def tree(error: type[HeadraceError]) -> Iterator[type[HeadraceError]]:
    yield error
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


def drawn() -> Iterator[tuple[str, str, str]]:
    """Name, parent's name and remark of every branch in the module's docstring."""
    above = ["HeadraceError"]
    for line in (errors.__doc__ or "").splitlines():
        if found := BRANCH.fullmatch(line.removeprefix("    ")):
            depth = len(found["indent"]) // 4 + 1
            del above[depth:]
            yield found["name"], above[-1], found["rest"]
            above.append(found["name"])


def test_the_drawn_tree_is_the_real_one() -> None:
    real = {error.__name__: error.__bases__[0].__name__ for error in tree(HeadraceError) if error is not HeadraceError}
    assert {name: parent for name, parent, _ in drawn()} == real


def test_the_drawn_tree_says_what_may_be_retried() -> None:
    retryable = {error.__name__ for error in tree(HeadraceError) if error.retryable}
    assert {name for name, _, remark in drawn() if remark.endswith("(retryable)")} == retryable


def test_every_error_has_a_code_of_its_own() -> None:
    found = list(tree(HeadraceError))
    assert len({error.code for error in found}) == len(found)
    assert all(re.fullmatch(r"[a-z_]+", error.code) for error in found)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.RequestTooLarge(2_000_000, 1_048_576), ["2,000,000", "1,048,576", "URI"]),
        (errors.IdConflict("acme", "job-1"), ["'acme'", "'job-1'", "new id"]),
        (errors.ModelNotFound("nope", "examples/models"), ["'nope'", "examples/models", "Check the id"]),
        (errors.AdapterMismatch("a", "base-1", "base-2"), ["'a'", "'base-1'", "'base-2'"]),
        (errors.PromptTooLong(5_000, 100, 4_096), ["5,000", "100", "4,096", "Shorten"]),
        (errors.DatasetUnreachable("s3://x", "no such bucket"), ["'s3://x'", "no such bucket"]),
        (errors.DatasetInvalid("not JSON", line=1_234), ["Line 1,234", "not JSON"]),
        (errors.DatasetInvalid("it is empty"), ["The dataset: it is empty"]),
        (errors.TrainingDiverged(7, float("nan"), 0.5), ["nan", "step 7", "0.5", "Lower"]),
        (errors.PoisonJob(3), ["3 attempts", "new id"]),
        (errors.ServerUnreachable("Kafka", "127.0.0.1:1", "refused"), ["Kafka", "127.0.0.1:1", "refused", "doctor"]),
        (errors.JobNotFound("acme", "job-1"), ["'acme'", "'job-1'", "dead letter"]),
        (errors.ResultTimeout("job-1", 2.5), ["'job-1'", "2.5 s", "cancel"]),
    ],
)
def test_a_message_shows_the_value_the_limit_and_the_next_step(error: HeadraceError, said: list[str]) -> None:
    for words in said:
        assert words in str(error)


def test_a_long_value_is_shown_cut_with_its_length() -> None:
    assert shown("a" * 1_000).endswith("… (1,002 characters)")
    assert len(shown("a" * 1_000)) < 200


def test_a_value_that_is_nested_too_deeply_is_named_by_its_type() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert "list" in shown(nested)


def test_control_characters_are_escaped() -> None:
    assert printable("a\x00b\n\x1b") == r"a\x00b\n\x1b"
