"""Typed columns: which values they take, and what is said of those that they don't."""

from datetime import UTC, date, datetime
from enum import Enum, StrEnum

import pytest

from runtime.database.batches import copy_lines, unnest
from runtime.database.columns import Columns, UnfitValue


class Colour(str, Enum):  # noqa: UP042  # what str() says of it is not its value
    RED = "red"


class Tone(StrEnum):
    HIGH = "high"


@pytest.mark.parametrize(
    ("type_name", "value", "why"),
    [
        ("text", 5, "it is a int"),
        ("text", "a\0b", "no character 0"),
        ("text", "\ud800", "surrogate"),
        ("text[]", "abc", "it is a str"),
        ("text[]", ["a\0"], "no character 0"),
        ("text[]", [1], "it holds a int"),
        ("integer", True, "it is a bool"),
        ("integer", "1", "it is a str"),
        ("double precision", "1", "it is a str"),
        ("double precision", 10**400, "too large"),
        ("boolean", 1, "it is a int"),
        ("timestamptz", datetime(2026, 1, 1), "no time zone"),
        ("timestamp", datetime(2026, 1, 1, tzinfo=UTC), "has a time zone"),
        ("date", datetime(2026, 1, 1), "has a time too"),
        ("timestamptz", date(2026, 1, 1), "it is a date"),
        ("json", object(), "unsupported"),
        ("json", "\ud800", "surrogate"),
        ("bytea", "text", "it is a str"),
    ],
)
def test_a_value_that_is_not_of_the_columns_type_is_refused_by_name(type_name: str, value: object, why: str) -> None:
    with pytest.raises(UnfitValue, match=rf"(?s)'it' is {type_name.replace('[', '.').replace(']', '.')}.*{why}"):
        Columns(it=type_name).texts([(None,), (value,)])


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(UnfitValue, match="it has 1 values for 2"):
        Columns(a="text", b="text").texts([("x", "y"), ("x",)])


@pytest.mark.parametrize(
    "types", [{"A": "text"}, {'a"b': "text"}, {"a": "varchar"}, {"a": "json[]"}, {"a": "text[][]"}]
)
def test_a_column_that_can_not_be_written_is_a_bug(types: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="a type one of"):
        Columns(**types)


def test_lists_can_not_be_unnested() -> None:
    with pytest.raises(ValueError, match="use Copy"):
        unnest(Columns(id="text", tags="text[]"))


def test_an_enumeration_is_its_value() -> None:
    assert copy_lines(Columns(it="text"), [(Colour.RED,), (Tone.HIGH,), ("plain",)]) == b"red\nhigh\nplain\n"


def test_what_copy_would_read_as_more_is_escaped() -> None:
    rows = [(None, "\\N"), ("\t", "\n\r"), ("\\.", "é\x0b"), ("", "\\")]
    assert copy_lines(Columns(a="text", b="text"), rows) == (
        b"\\N\t\\\\N\n"
        b"\\t\t\\n\\r\n"
        b"\\\\.\t\xc3\xa9\x0b\n"
        b"\t\\\\\n"
    )  # fmt: skip


def test_no_rows_are_no_lines() -> None:
    assert copy_lines(Columns(a="text", b="integer"), []) == b""
