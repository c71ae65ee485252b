"""The compatibility check lets additions pass and finds each kind of break."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from scripts.compatibility import breaks, breaks_between
from scripts.contract import RELEASED
from scripts.json_schemas import EVENTS, json_schema

Change = Callable[[dict[str, Any]], object]

#: An event that came after the last release has nothing to be compared with.
RELEASED_EVENTS = [event for event in EVENTS if (RELEASED / f"{event.name}.json").exists()]

OLD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 10, "minLength": 1, "pattern": "^a"},
        "count": {"type": "integer", "minimum": 0, "maximum": 9, "default": 3},
        "rate": {"type": "number", "exclusiveMinimum": 0},
        "free": {"type": "number"},
        "text": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "level": {"$ref": "#/$defs/Level"},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 4},
        "labels": {"type": "object", "additionalProperties": {"type": "number"}},
        "choice": {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]},
        "time": {"type": "string"},
    },
    "required": ["name", "level"],
    "$defs": {
        "Level": {"enum": ["high", "low"]},
        "A": {
            "type": "object",
            "properties": {"kind": {"enum": ["a"]}, "x": {"type": "integer"}},
            "required": ["kind"],
        },
        "B": {"type": "object", "properties": {"kind": {"enum": ["b"]}}, "required": ["kind"]},
    },
}


def field(name: str, **changes: object) -> Change:
    return lambda schema: schema["properties"][name].update(changes)


def changed(change: Change) -> dict[str, Any]:
    schema = deepcopy(OLD)
    change(schema)
    return schema


BREAKS: dict[str, tuple[Change, str]] = {
    "a field removed": (lambda s: s["properties"].pop("text"), "$.text: the field is gone"),
    "a field of a variant removed": (lambda s: s["$defs"]["A"]["properties"].pop("x"), "$.choice.x: the field is gone"),
    "a field renamed": (
        lambda s: s["properties"].update(label=s["properties"].pop("name")),
        "$.name: the field is gone",
    ),
    "a name reused for another type": (
        lambda s: s["properties"].update(name={"type": "boolean"}),
        "$.name: string is refused now",
    ),
    "a type narrowed from number to integer": (field("free", type="integer"), "$.free: number is refused now"),
    "null no longer accepted": (
        lambda s: s["properties"].update(text={"type": "string", "default": None}),
        "$.text: null is refused now",
    ),
    "a variant removed": (
        lambda s: s["properties"].update(choice={"$ref": "#/$defs/A"}),
        "$.choice: object b is refused now",
    ),
    "an item's type changed": (field("tags", items={"type": "integer"}), "$.tags[]: string is refused now"),
    "a map's type changed": (
        field("labels", additionalProperties={"type": "string"}),
        "$.labels.*: number is refused now",
    ),
    "a new required field": (
        lambda s: s["required"].append("more") or s["properties"].update(more={"type": "string"}),
        "$.more: the field is required now",
    ),
    "an optional field made required": (lambda s: s["required"].append("rate"), "$.rate: the field is required now"),
    "an enum value removed": (lambda s: s["$defs"]["Level"].update(enum=["high"]), "$.level: 'low' is refused now"),
    "an enum put on a string": (field("time", enum=["now"]), "$.time: only ['now'] are accepted now"),
    "a maximum lowered": (field("count", maximum=8), "$.count: the upper bound was 9 and is 8"),
    "a minimum raised": (field("count", minimum=1), "$.count: the lower bound was 0 and is 1"),
    "a minimum made exclusive": (field("count", exclusiveMinimum=0), "$.count: the lower bound"),
    "a maximum made exclusive": (field("count", exclusiveMaximum=9), "$.count: the upper bound"),
    "a bound put where none was": (field("free", maximum=1e9), "$.free: the upper bound was inf"),
    "a string shortened": (field("name", maxLength=9), "$.name: maxLength was 10 and is 9"),
    "a string lengthened at the least": (field("name", minLength=2), "$.name: minLength was 1 and is 2"),
    "a length put where none was": (field("time", maxLength=99), "$.time: maxLength was open and is 99"),
    "an array shortened": (field("tags", maxItems=3), "$.tags: maxItems was 4 and is 3"),
    "an array lengthened at the least": (field("tags", minItems=2), "$.tags: minItems was 1 and is 2"),
    "a pattern changed": (field("name", pattern="^b"), "$.name: pattern was ^a and is ^b"),
    "a format added": (field("time", format="date-time"), "$.time: format was open and is date-time"),
    "a default changed": (field("count", default=4), "$.count: the default was 3"),
    "a default removed": (lambda s: s["properties"]["count"].pop("default"), "$.count: the default was 3"),
    "unknown fields refused": (lambda s: s.update(additionalProperties=False), "$: unknown fields are refused now"),
    "a keyword that the check does not know": (
        field("count", multipleOf=2),
        "$.count: the keyword `multipleOf` is not known",
    ),
}

ADDITIONS: dict[str, Change] = {
    "nothing": lambda _: None,
    "an optional field": lambda s: s["properties"].update(more={"type": "string", "default": ""}),
    "an enum value": lambda s: s["$defs"]["Level"]["enum"].append("middle"),
    "a variant": lambda s: s["properties"]["choice"]["anyOf"].append(
        {"type": "object", "properties": {"kind": {"enum": ["c"]}}, "required": ["kind"]}
    ),
    "another title and description": lambda s: s.update(title="New", description="Better words."),
    "a type's name": lambda s: (
        s["$defs"].update(Rank=s["$defs"]["Level"]) or s["properties"].update(level={"$ref": "#/$defs/Rank"})
    ),
    "a larger maximum": field("count", maximum=10),
    "a lower exclusive minimum": field("rate", exclusiveMinimum=-1),
    "an exclusive minimum made inclusive": lambda s: s["properties"].update(rate={"type": "number", "minimum": 0}),
    "a longer string": field("name", maxLength=11),
    "a pattern given up": lambda s: s["properties"]["name"].pop("pattern"),
}

READER_BREAKS: dict[str, tuple[Change, str]] = {
    "a required field made optional": (lambda s: s["required"].remove("name"), "$.name: the field may be missing now"),
    "a field that may be null": (
        lambda s: s["properties"].update(free={"anyOf": [{"type": "number"}, {"type": "null"}]}),
        "$.free: may be null now",
    ),
    "a field of a further type": (
        lambda s: s["properties"].update(time={"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        "$.time: may be integer now",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
@pytest.mark.parametrize("read_by_older", [False, True])
def test_a_break_is_found(name: str, read_by_older: bool) -> None:
    change, said = BREAKS[name]
    found = breaks(OLD, changed(change), read_by_older=read_by_older)
    assert any(reason.startswith(said) for reason in found), found


@pytest.mark.parametrize("name", ADDITIONS)
@pytest.mark.parametrize("read_by_older", [False, True])
def test_an_addition_is_no_break(name: str, read_by_older: bool) -> None:
    assert breaks(OLD, changed(ADDITIONS[name]), read_by_older=read_by_older) == []


@pytest.mark.parametrize("name", READER_BREAKS)
def test_what_older_readers_refuse_is_a_break_of_events_but_not_of_requests(name: str) -> None:
    change, said = READER_BREAKS[name]
    assert breaks(OLD, changed(change), read_by_older=False) == []
    found = breaks(OLD, changed(change), read_by_older=True)
    assert any(reason.startswith(said) for reason in found), found


def test_an_integer_may_become_a_number_in_requests() -> None:
    newer = changed(field("count", type="number"))
    assert breaks(OLD, newer, read_by_older=False) == []
    assert breaks(OLD, newer, read_by_older=True) == ["$.count: may be number now, which older readers refuse"]


def test_an_event_that_is_gone_is_a_break(tmp_path: Path) -> None:
    assert f"{EVENTS[0].name}.json: the event is gone" in breaks_between(RELEASED, tmp_path)


def objects(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (part for part in (schema, *schema["$defs"].values()) if "properties" in part)


@pytest.mark.parametrize("event", RELEASED_EVENTS, ids=[event.name for event in RELEASED_EVENTS])
def test_removing_any_field_of_the_real_contract_is_found(event: Any) -> None:
    released = json.loads((RELEASED / f"{event.name}.json").read_bytes())
    for number, part in enumerate(objects(released)):
        for name in part["properties"]:
            newer = deepcopy(released)
            list(objects(newer))[number]["properties"].pop(name)
            found = breaks(released, newer, read_by_older=not event.by_clients)
            assert any(name in reason or "refused now" in reason for reason in found), (part["title"], name)


@pytest.mark.parametrize("event", RELEASED_EVENTS, ids=[event.name for event in RELEASED_EVENTS])
def test_todays_types_understand_what_the_last_release_wrote(event: Any) -> None:
    released = json.loads((RELEASED / f"{event.name}.json").read_bytes())
    assert breaks(released, json_schema(event), read_by_older=not event.by_clients) == []
