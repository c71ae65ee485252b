"""The AsyncAPI 3.1 document: every topic, who writes and reads it, and what its records look like.

https://www.asyncapi.com/docs/reference/specification/v3.1.0; Kafka bindings 0.5.0.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from schemas import dead_letters, topics
from schemas.errors import HeadraceError, RequestRefused
from schemas.topics import Topic
from scripts.json_schemas import EVENTS, Event, Schema

ASYNCAPI: Final = "3.1.0"
BINDING: Final = {"bindingVersion": "0.5.0"}

#: Who sends to each topic, and who receives from it.
PROCESSES: Final[dict[Topic, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    **{topic: (("client",), ("dispatcher",)) for topic in (*topics.REQUESTS.values(), topics.CONTROL)},
    topics.WORK: (("dispatcher",), ("worker",)),
    topics.WORKERS: (("worker",), ("dispatcher",)),
    topics.PROGRESS: (("worker",), ("client",)),
    topics.STATUS: (("dispatcher", "worker"), ("client",)),
    topics.RESULTS: (("dispatcher", "worker"), ("client",)),
    topics.METRICS: (("dispatcher", "worker"), ("dispatcher",)),
    **{topic: (("dispatcher",), ("client",)) for topic in topics.DEAD_LETTERS.values()},
}

CLOUD_EVENTS: Final = {
    "ce_specversion": "The version of CloudEvents; always 1.0.",
    "ce_id": "The event's id. Every copy of one event has the same.",
    "ce_source": "Which process made the event.",
    "ce_type": "The name of the topic; of a stop on the work topic, headrace.work.stop.v1.",
    "ce_time": "When the event was made (RFC 3339).",
    "ce_subject": "The id of the job, worker or process that the event is about.",
    "content-type": "Always application/json.",
    "traceparent": "The trace that the event belongs to (W3C Trace Context).",
}
DEAD_LETTER: Final = {
    dead_letters.HEADERS["topic"]: "The topic that the record came on.",
    dead_letters.HEADERS["partition"]: "Its partition there.",
    dead_letters.HEADERS["offset"]: "Its offset there.",
    dead_letters.HEADERS["timestamp_ms"]: "Its timestamp there, in milliseconds since the Unix epoch.",
    dead_letters.HEADERS["attempts"]: "How often it was tried.",
    dead_letters.HEADERS["error_code"]: "Why it was refused, for programs.",
    dead_letters.HEADERS["error_message"]: "Why it was refused, for people.",
}


def document(golden: Path) -> Schema:
    """The whole document; the examples are the golden bytes in the folder ``golden``."""
    return {
        "asyncapi": ASYNCAPI,
        "id": "urn:headrace:v1",
        "info": {
            "title": "Headrace",
            "version": "1.0.0",
            "description": (
                "Fine-tuning, generation and evaluation of language models as events on Kafka. Values are "
                "JSON; the envelope is CloudEvents 1.0 in Kafka's binary mode. Within v1 only optional fields "
                "are added, and readers of events ignore fields that they don't know; requests and control "
                "events with unknown fields are refused."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": _server()},
        "channels": {_channel_id(topic): _channel(topic) for topic in topics.ALL},
        "operations": dict(_operations()),
        "components": {
            "messages": {event.title: _message(event, golden) for event in EVENTS}
            | {"DeadLetter": _dead_letter(golden)},
            "schemas": {
                "Envelope": _headers(CLOUD_EVENTS, required=True),
                "OptionalEnvelope": _headers(CLOUD_EVENTS, required=False),
                "DeadLetterHeaders": _dead_letter_headers(),
            },
        },
    }


def _server() -> Schema:
    address = {"default": "127.0.0.1:9092", "description": "What HEADRACE_KAFKA says in var/stack.env."}
    return {"host": "{address}", "protocol": "kafka", "variables": {"address": address}}


def _channel_id(topic: Topic) -> str:
    return topic.name.removeprefix("headrace.").replace(".v1", "")


def _channel(topic: Topic) -> Schema:
    settings: dict[str, object] = dict(topic.config())
    settings["cleanup.policy"] = [settings["cleanup.policy"]]
    for name in {"retention.ms", "max.message.bytes"} & settings.keys():
        settings[name] = int(str(settings[name]))
    return {
        "address": topic.name,
        "description": f"Keyed by: {topic.key}.",
        "messages": {title: {"$ref": f"#/components/messages/{title}"} for title in _titles(topic)},
        "bindings": {"kafka": {"partitions": topic.partitions, "topicConfiguration": settings} | BINDING},
    }


def _titles(topic: Topic) -> list[str]:
    return [event.title for event in EVENTS if event.topic == topic] or ["DeadLetter"]


def _operations() -> Iterator[tuple[str, Schema]]:
    for topic in topics.ALL:
        channel = _channel_id(topic)
        senders, receivers = PROCESSES[topic]
        for action, processes in (("send", senders), ("receive", receivers)):
            for process in processes:
                yield (
                    f"{process}-{action}-{channel}",
                    {
                        "action": action,
                        "channel": {"$ref": f"#/channels/{channel}"},
                        "tags": [{"name": process}],
                        "messages": [{"$ref": f"#/channels/{channel}/messages/{title}"} for title in _titles(topic)],
                    },
                )


def _message(event: Event, golden: Path) -> Schema:
    envelope = "OptionalEnvelope" if event.by_clients else "Envelope"
    cases = sorted(golden.glob(f"{event.name}.*.json"))
    return {
        "name": event.name,
        "title": event.title,
        "contentType": "application/json",
        "headers": {"$ref": f"#/components/schemas/{envelope}"},
        "correlationId": {"location": "$message.header#/traceparent"},
        "payload": {"$ref": f"./{event.name}.json"},
        "bindings": _key(event.topic),
        "examples": [_example(case) for case in cases if not case.name.endswith(".headers.json")],
    }


def _key(topic: Topic) -> Schema:
    return {"kafka": {"key": {"type": "string", "description": topic.key}} | BINDING}


def _example(case: Path) -> Schema:
    headers = case.with_suffix(".headers.json")
    envelope = {"headers": json.loads(headers.read_bytes())} if headers.exists() else {}
    return {"name": case.stem.partition(".")[2]} | envelope | {"payload": json.loads(case.read_bytes())}


def _dead_letter(golden: Path) -> Schema:
    headers = golden / "dead-letter.malformed.headers.json"
    return {
        "name": "dead-letter",
        "title": "DeadLetter",
        "summary": "A record that could not be admitted, with the reason.",
        "contentType": "application/octet-stream",
        "headers": {"$ref": "#/components/schemas/DeadLetterHeaders"},
        "payload": {"description": "The original value, byte for byte; often not JSON."},
        "bindings": _key(next(iter(topics.DEAD_LETTERS.values()))),
        "examples": [{"name": "malformed", "headers": json.loads(headers.read_bytes())}],
    }


def _headers(descriptions: dict[str, str], *, required: bool) -> Schema:
    fields = {name: {"type": "string", "description": text} for name, text in descriptions.items()}
    return {"type": "object", "properties": fields} | ({"required": list(fields)} if required else {})


def _dead_letter_headers() -> Schema:
    schema = _headers(DEAD_LETTER, required=True)
    schema["description"] = "The original's headers, and these."
    schema["properties"]["dlq.error.code"]["enum"] = sorted(_codes(RequestRefused))
    return schema


def _codes(error: type[HeadraceError]) -> Iterator[str]:
    yield error.code
    for kind in error.__subclasses__():
        yield from _codes(kind)
