"""What was once written is read for ever: every golden file, by today's types, without loss.

A file under ``tests/golden/v1`` is never changed; a new field or variant comes with a new file.
"""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from schemas.codec import Envelope, decode, decode_control, decode_request, encode
from schemas.dead_letters import HEADERS, DeadLetter
from schemas.topics import kind_of
from scripts.json_schemas import EVENTS, Event, json_schema

GOLDEN = Path(__file__).parents[2] / "golden/v1"
BY_NAME = {event.name: event for event in EVENTS}
CASES = sorted(path for path in GOLDEN.glob("*.json") if not path.name.endswith(".headers.json"))
HEADER_FILES = sorted(path for path in GOLDEN.glob("*.headers.json") if not path.name.startswith("dead-letter"))


def event_of(case: Path) -> Event:
    return BY_NAME[case.name.partition(".")[0]]


def headers_of(case: Path) -> dict[str, bytes]:
    path = case.with_suffix(".headers.json")
    headers: dict[str, str] = json.loads(path.read_bytes()) if path.exists() else {}
    return {name: value.encode() for name, value in headers.items()}


def read(case: Path) -> Any:
    event = event_of(case)
    if event.name.endswith("-request"):
        return decode_request(kind_of(event.topic.name), case.read_bytes(), headers_of(case))
    if event.name == "control":
        return decode_control(case.read_bytes(), headers_of(case))
    return decode(event.type, case.read_bytes())


def lost(before: Any, after: Any, path: str = "$") -> Iterator[str]:
    """The paths whose value ``before`` is not ``after``; what was added is no loss."""
    match before, after:
        case dict(), dict():
            for name, value in before.items():
                if name in after:
                    yield from lost(value, after[name], f"{path}.{name}")
                else:
                    yield f"{path}.{name}"
        case list(), list() if len(before) == len(after):
            for index, (value, kept) in enumerate(zip(before, after, strict=True)):
                yield from lost(value, kept, f"{path}[{index}]")
        case _ if before != after or type(before) is bool is not type(after):
            yield path


def filled(value: Any, raw: Any) -> Iterator[tuple[str, str]]:
    """Type and field of everything that the raw JSON gives to a decoded value."""
    match value, raw:
        case msgspec.Struct(), dict():
            for name in value.__struct_fields__:
                if name in raw:
                    yield type(value).__name__, name
                    yield from filled(getattr(value, name), raw[name])
        case tuple(), list():
            for item, given in zip(value, raw, strict=True):
                yield from filled(item, given)


def fields_of(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for part in (schema, *schema["$defs"].values()):
        for name, field in part.get("properties", {}).items():
            # A variant's tag is an enum of one value, and no field of the type.
            if len(field.get("enum", ())) != 1:
                yield part["title"], name


@pytest.mark.parametrize("case", CASES, ids=[path.stem for path in CASES])
def test_golden_bytes_are_read_and_written_again_without_loss(case: Path) -> None:
    event = read(case)
    written = encode(event)
    assert list(lost(json.loads(case.read_bytes()), json.loads(written))) == []
    assert decode(event_of(case).type, written) == event


@pytest.mark.parametrize("case", CASES, ids=[path.stem for path in CASES])
def test_golden_bytes_fit_the_json_schema(case: Path) -> None:
    schema = json_schema(event_of(case))
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(json.loads(case.read_bytes()))


def test_every_event_and_every_field_of_the_contract_is_in_some_golden_file() -> None:
    assert {event_of(case).name for case in CASES} == set(BY_NAME)
    seen = {field for case in CASES for field in filled(read(case), json.loads(case.read_bytes()))}
    assert {field for event in EVENTS for field in fields_of(json_schema(event))} - seen == set()


@pytest.mark.parametrize("path", HEADER_FILES, ids=[path.name for path in HEADER_FILES])
def test_golden_headers_are_those_of_todays_envelope(path: Path) -> None:
    headers: dict[str, str] = json.loads(path.read_bytes())
    attributes = {name: headers[f"ce_{name}"] for name in ("id", "source", "type", "subject", "time")}
    envelope = msgspec.convert(attributes | {"traceparent": headers["traceparent"]}, Envelope)
    assert {name: value.decode() for name, value in envelope.headers()} == headers
    assert headers["ce_type"] == BY_NAME[path.name.partition(".")[0]].ce_type


def test_golden_headers_of_a_dead_letter_are_those_of_today() -> None:
    headers: dict[str, str] = json.loads((GOLDEN / "dead-letter.malformed.headers.json").read_bytes())
    fields = {name: headers[header] for name, header in HEADERS.items()}
    letter = msgspec.convert(fields, DeadLetter, strict=False)
    assert {name: value.decode() for name, value in letter.headers()} == headers


@pytest.mark.parametrize("case", CASES, ids=[path.stem for path in CASES])
def test_readers_ignore_unknown_fields_of_events_and_requests_refuse_them(case: Path) -> None:
    event = event_of(case)
    newer = json.loads(case.read_bytes()) | {"field_of_a_later_version": {"a": 1}}
    if event.by_clients:
        with pytest.raises(msgspec.ValidationError, match="field_of_a_later_version"):
            decode(event.type, json.dumps(newer).encode())
    else:
        assert decode(event.type, json.dumps(newer).encode()) == read(case)


def test_no_golden_file_was_changed() -> None:
    lines = [line.split("  ") for line in (GOLDEN / "SHA256SUMS").read_text().splitlines()]
    known = {name: digest for digest, name in lines}
    files = [path for path in GOLDEN.rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
    assert {str(path.relative_to(GOLDEN)): sha256(path.read_bytes()).hexdigest() for path in files} == known


@pytest.mark.parametrize(
    ("before", "after", "paths"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, []),
        ({"a": {"b": 1}}, {"a": {}}, ["$.a.b"]),
        ({"a": [1, 2]}, {"a": [1]}, ["$.a"]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, ["$.a[0].b"]),
        ({"a": 1}, {"a": None}, ["$.a"]),
        ({"a": True}, {"a": 1}, ["$.a"]),
    ],
)
def test_a_loss_is_found(before: object, after: object, paths: list[str]) -> None:
    assert list(lost(before, after)) == paths
