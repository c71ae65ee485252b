"""Why a request was refused, in words that its sender can act on.

msgspec names the field and what it takes, but neither always the value that came nor, for a
choice or a field's name, what would have been right. It also repeats what was sent at any length.
"""

import json
import re
from functools import cache
from typing import Any, Final

import msgspec

from schemas.errors import printable, shown

_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_UNKNOWN_FIELD: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)


def explain(error: msgspec.ValidationError, request_type: type, value: bytes) -> str:
    """The decoder's message with what was sent and what is accepted.

    >>> Expected `int` <= 128 - at `$.n` (got 900)
    >>> Invalid enum value 'urgent' - at `$.priority`; it is one of 'batch', 'high', 'normal'
    """
    message, _, path = str(error).rpartition(" - at `")
    if not message:
        message, path = path, "$`"
    steps = [name or int(index) for name, index in _STEP.findall(path.removesuffix("`"))]
    text = printable(message) + (f" - at `{printable(path)}" if steps else "")

    unknown = _UNKNOWN_FIELD.fullmatch(message)
    sent = _sent(value, [*steps, unknown[1]] if unknown else steps)
    if sent is not None and (steps or unknown):
        text += f" (got {sent})"
    # Only these leave open what would be right; every other message states it.
    if unknown or message.startswith("Invalid ") or message.endswith("out of range"):
        accepted = _accepted(_schema_at(request_type, steps))
        text += f"; {accepted}" if accepted else ""
    return text


class _AsWritten(str):
    """A number as its sender wrote it, which may be beyond what an int or a float holds."""

    def __repr__(self) -> str:
        return str(self)


def _sent(value: bytes, steps: list[str | int]) -> str | None:
    """What the request has at this path, cut to a readable length; None where there is nothing."""
    try:
        node: Any = json.loads(value, parse_int=_AsWritten, parse_float=_AsWritten)
        for step in steps:
            node = node[step]
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    return shown(node)


def _accepted(schema: dict[str, Any]) -> str:
    if "properties" in schema:
        return f"the fields are {', '.join(schema['properties'])}"
    if "enum" in schema:
        return f"it is one of {', '.join(map(repr, schema['enum']))}"
    if "maximum" in schema:
        return f"it is at most {schema['maximum']:,}"
    return ""


@cache
def _schemas(request_type: type) -> tuple[dict[str, Any], dict[str, Any]]:
    (root,), definitions = msgspec.json.schema_components((request_type,), ref_template="{name}")
    return root, definitions


def _schema_at(request_type: type, steps: list[str | int]) -> dict[str, Any]:
    """The JSON Schema of the field at this path; of an optional one, what it is when given."""
    root, definitions = _schemas(request_type)
    node = _resolved(root, definitions)
    for step in steps:
        node = _resolved(node["items"] if isinstance(step, int) else node["properties"][step], definitions)
    return node


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node or "anyOf" in node:
        node = definitions[node["$ref"]] if "$ref" in node else node["anyOf"][0]
    return node
