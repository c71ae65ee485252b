"""The JSON Schema of every event, made from the types in ``schemas/``."""

from dataclasses import dataclass
from inspect import cleandoc
from typing import Any, Final

import msgspec

from schemas.events import (
    STOP_TYPE,
    ControlEvent,
    Heartbeat,
    MetricsEvent,
    ProgressEvent,
    StatusEvent,
    StopEvent,
    WorkEvent,
)
from schemas.requests import EvaluateRequest, FineTuneRequest, GenerateRequest
from schemas.results import ResultEvent
from schemas.topics import CONTROL, METRICS, PROGRESS, REQUESTS, RESULTS, STATUS, WORK, WORKERS, Kind, Topic

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

#: A part of a JSON document: what it holds is the subject of this module, not of its types.
Schema = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """One event of the contract: the name of its files, its type, and where it travels."""

    name: str
    title: str
    type: Any
    topic: Topic
    #: A client writes it by hand, so every envelope header may be missing.
    by_clients: bool = False
    #: Where two events share a topic, what the second one's ``ce_type`` is.
    own_type: str | None = None

    @property
    def ce_type(self) -> str:
        """The event's CloudEvents type."""
        return self.own_type or self.topic.name


EVENTS: Final = (
    Event("generate-request", "GenerateRequest", GenerateRequest, REQUESTS[Kind.GENERATE], by_clients=True),
    Event("finetune-request", "FineTuneRequest", FineTuneRequest, REQUESTS[Kind.FINETUNE], by_clients=True),
    Event("evaluate-request", "EvaluateRequest", EvaluateRequest, REQUESTS[Kind.EVALUATE], by_clients=True),
    Event("control", "ControlEvent", ControlEvent, CONTROL, by_clients=True),
    Event("work", "WorkEvent", WorkEvent, WORK),
    Event("stop", "StopEvent", StopEvent, WORK, own_type=STOP_TYPE),
    Event("heartbeat", "Heartbeat", Heartbeat, WORKERS),
    Event("progress", "ProgressEvent", ProgressEvent, PROGRESS),
    Event("status", "StatusEvent", StatusEvent, STATUS),
    Event("result", "ResultEvent", ResultEvent, RESULTS),
    Event("metrics", "MetricsEvent", MetricsEvent, METRICS),
)


def json_schema(event: Event) -> Schema:
    """The event's schema, complete in itself; JSON Schema 2020-12."""
    (root,), definitions = msgspec.json.schema_components((event.type,), ref_template="#/$defs/{name}")
    if "$ref" in root:
        root = definitions.pop(root["$ref"].rpartition("/")[2])
    if event.topic in REQUESTS.values():
        # The topic already says what is asked for; inside a work event the field has to be there.
        root = root | {"required": [name for name in root["required"] if name != "kind"]}
    head = {"$schema": DIALECT, "$id": f"urn:headrace:v1:{event.name}", "title": event.title}
    body: Schema = _tidied(root)
    return head | body | {"$defs": {name: _tidied(definitions[name]) for name in sorted(definitions)}}


def _tidied(node: Any) -> Any:
    """The node with readable descriptions, flat alternatives, and nothing but JSON Schema.

    msgspec adds OpenAPI's ``discriminator``, which AsyncAPI defines differently; each variant's tag is
    an enum of one value, which says the same.
    """
    match node:
        case dict():
            tidied = {key: _tidied(value) for key, value in node.items() if key != "discriminator"}
            if "description" in tidied and isinstance(tidied["description"], str):
                tidied["description"] = cleandoc(tidied["description"])
            if "anyOf" in tidied:
                tidied["anyOf"] = [flat for option in tidied["anyOf"] for flat in _alternatives(option)]
            return tidied
        case list() | tuple():
            return [_tidied(item) for item in node]
        case _:
            return node


def _alternatives(option: Schema) -> list[Schema]:
    return option["anyOf"] if set(option) == {"anyOf"} else [option]
