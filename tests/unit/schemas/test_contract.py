"""The generated contract: up to date, the same at each run, and sound as a document."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from schemas.errors import RequestRefused
from schemas.topics import ALL, DEAD_LETTERS
from scripts.asyncapi import PROCESSES
from scripts.contract import CONTRACT, RELEASED, ROOT, check, drift, rendered, write
from scripts.json_schemas import EVENTS

FILES = rendered()
DOCUMENT: dict[str, Any] = yaml.safe_load(FILES["asyncapi.yaml"])
SCHEMAS: dict[str, Any] = {name: json.loads(text) for name, text in FILES.items() if name.endswith(".json")}


def references(node: object) -> Iterator[str]:
    match node:
        case {"$ref": str(reference)}:
            yield reference
        case dict():
            for value in node.values():
                yield from references(value)
        case list():
            for item in node:
                yield from references(item)


def at(document: Any, reference: str) -> Any:
    for step in reference.removeprefix("#/").split("/"):
        document = document[step]
    return document


def test_the_committed_contract_is_up_to_date() -> None:
    finished = subprocess.run(
        [sys.executable, str(ROOT / "scripts/contract.py"), "--check"],
        cwd=ROOT / "tests", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (finished.returncode, finished.stdout) == (0, ""), finished.stderr


def test_generating_twice_gives_the_same_text() -> None:
    assert rendered() == FILES


def test_a_changed_a_missing_and_a_stale_file_are_shown_as_a_diff(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, FILES)
    (tmp_path / "status.json").write_text(FILES["status.json"].replace('"string"', '"integer"', 1))
    (tmp_path / "result.json").unlink()
    (tmp_path / "stale.json").write_text("{}\n")
    assert check(tmp_path, FILES, RELEASED) == 1
    shown = capsys.readouterr().out
    assert '-      "type": "integer"' in shown
    assert "+++ generated/result.json" in shown
    assert "-{}" in shown


def test_writing_mends_the_drift(tmp_path: Path) -> None:
    (tmp_path / "stale.json").write_text("{}\n")
    write(tmp_path, FILES)
    assert drift(tmp_path, FILES) == ""
    assert check(tmp_path, FILES, RELEASED) == 0


def test_a_break_of_the_last_release_fails_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newer = {name: text.replace('"max_tokens"', '"new_tokens"') for name, text in FILES.items()}
    write(tmp_path, newer)
    assert check(tmp_path, newer, RELEASED) == 1
    assert "generate-request.json: $.max_tokens: the field is gone" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_is_valid_and_complete_in_itself(name: str) -> None:
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:headrace:v1:{name.removesuffix('.json')}"
    assert schema["title"]
    for reference in references(schema):
        assert reference.startswith("#/$defs/")
        assert at(schema, reference)


def test_every_event_has_a_schema_and_the_folder_nothing_else() -> None:
    assert {path.name for path in CONTRACT.iterdir()} == {f"{event.name}.json" for event in EVENTS} | {"asyncapi.yaml"}


def test_every_topic_is_a_channel_with_its_settings() -> None:
    channels = {channel["address"]: channel for channel in DOCUMENT["channels"].values()}
    assert set(channels) == {topic.name for topic in ALL}
    for topic in ALL:
        kafka = channels[topic.name]["bindings"]["kafka"]
        assert kafka["partitions"] == topic.partitions
        settings = kafka["topicConfiguration"]
        assert settings.get("retention.ms") == topic.retention_ms
        assert settings["max.message.bytes"] == topic.max_message_bytes
        assert settings["cleanup.policy"] == [topic.config()["cleanup.policy"]]
        assert topic.key in channels[topic.name]["description"]


def test_every_channel_is_written_and_read_by_some_process() -> None:
    assert set(PROCESSES) == set(ALL)
    for channel in DOCUMENT["channels"]:
        actions = [
            operation["action"]
            for operation in DOCUMENT["operations"].values()
            if operation["channel"]["$ref"] == f"#/channels/{channel}"
        ]
        assert {"send", "receive"} == set(actions)


def test_every_reference_of_the_document_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        if reference.startswith("#/"):
            assert at(DOCUMENT, reference)
        else:
            assert reference.removeprefix("./") in SCHEMAS


def test_an_operation_names_messages_of_its_channel() -> None:
    for operation in DOCUMENT["operations"].values():
        channel = at(DOCUMENT, operation["channel"]["$ref"])
        for message in operation["messages"]:
            assert message["$ref"].startswith(f"{operation['channel']['$ref']}/messages/")
            assert message["$ref"].rpartition("/")[2] in channel["messages"]


def test_every_message_has_examples_that_fit_its_schemas() -> None:
    for message in DOCUMENT["components"]["messages"].values():
        headers = Draft202012Validator(at(DOCUMENT, message["headers"]["$ref"]))
        payload = Draft202012Validator(SCHEMAS.get(message["payload"].get("$ref", "").removeprefix("./"), {}))
        assert message["examples"]
        assert any("headers" in example for example in message["examples"])
        for example in message["examples"]:
            payload.validate(example.get("payload"))
            if "headers" in example:
                headers.validate(example["headers"])


def test_dead_letters_tell_every_reason_to_refuse_a_request() -> None:
    code = DOCUMENT["components"]["schemas"]["DeadLetterHeaders"]["properties"]["dlq.error.code"]
    reasons = [RequestRefused.code, *(error.code for error in RequestRefused.__subclasses__())]
    assert code["enum"] == sorted(reasons)
    for topic in DEAD_LETTERS.values():
        channel = topic.name.removeprefix("headrace.").replace(".v1", "")
        assert set(DOCUMENT["channels"][channel]["messages"]) == {"DeadLetter"}


def test_the_envelope_is_required_of_our_own_events_alone() -> None:
    for event in EVENTS:
        reference = DOCUMENT["components"]["messages"][event.title]["headers"]["$ref"]
        assert ("required" in at(DOCUMENT, reference)) is not event.by_clients
