"""Bytes to events and back, with the CloudEvents 1.0 envelope in Kafka's binary mode.

Source of the header names: CloudEvents Kafka Protocol Binding 1.0.2, section 3.2; of
``traceparent``: W3C Trace Context, section 3.2.
"""

import random
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from schemas.errors import InvalidEnvelope, InvalidRequest, MalformedRequest, RequestTooLarge, shown
from schemas.events import ControlEvent
from schemas.explain import explain
from schemas.limits import REQUEST_BYTES
from schemas.requests import DEFAULT_TENANT, REQUEST_TYPES, JobId, Request, Tenant
from schemas.topics import CONTROL, REQUESTS, Kind, Topic

Event = TypeVar("Event")
Headers = Sequence[tuple[str, bytes]]

SPEC_VERSION: Final = "1.0"
CONTENT_TYPE: Final = "application/json"
#: Version, trace id, span id, flags; a later version may append to it.
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_SPEC_VERSION_HEADER: Final = ("ce_specversion", SPEC_VERSION.encode())
_CONTENT_TYPE_HEADER: Final = ("content-type", CONTENT_TYPE.encode())
_encoder: Final = msgspec.json.Encoder()


class Envelope(Struct, frozen=True, kw_only=True, gc=False):
    """The attributes of one event; every copy has the same ``id``.

    ``type`` is the topic's name, but for an event that shares its topic with another (``STOP_TYPE``).
    """

    id: str
    source: str
    type: str
    subject: str
    time: datetime
    traceparent: str

    def headers(self) -> list[tuple[str, bytes]]:
        """The envelope as Kafka headers."""
        return [
            _SPEC_VERSION_HEADER,
            ("ce_id", self.id.encode()),
            ("ce_source", self.source.encode()),
            ("ce_type", self.type.encode()),
            # RFC 3339, as JSON has it between quotes.
            ("ce_time", _encoder.encode(self.time.astimezone(UTC))[1:-1]),
            ("ce_subject", self.subject.encode()),
            _CONTENT_TYPE_HEADER,
            ("traceparent", self.traceparent.encode()),
        ]


def new_traceparent() -> str:
    """A trace of its own: version 00, random trace and span ids, sampled."""
    return f"00-{_hex(16)}-{_hex(8)}-01"


def child_traceparent(parent: str) -> str:
    """A new span in the parent's trace; a trace of its own where the parent is not a traceparent."""
    trace_id = trace_id_of(parent)
    return f"00-{trace_id}-{_hex(8)}-01" if trace_id else new_traceparent()


def _hex(size_bytes: int) -> str:
    # Not from the system's secure source, which is a call to the kernel for each event: nobody has to guess it.
    # All zeros is no id, says W3C.
    return f"{random.getrandbits(8 * size_bytes) or 1:0{2 * size_bytes}x}"


def trace_id_of(traceparent: str) -> str | None:
    """The 32 hex digits of the trace id, or None where the text is not a traceparent."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return found[1] if found else None


def encode(event: object) -> bytes:
    """An event as compact JSON. A float that is not finite would become ``null``: events hold none."""
    return _encoder.encode(event)


@cache
def _decoder(event_type: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(event_type)


def decode(event_type: Any, value: bytes) -> Any:
    """An internal event from its bytes; unknown fields are ignored.

    Raises:
        msgspec.DecodeError: the bytes are not such an event.
    """
    try:
        return _decoder(event_type).decode(value)
    except (UnicodeDecodeError, RecursionError) as error:
        # msgspec lets both pass: bytes inside of a string that are no text, and an unknown field that is nested deeply.
        raise msgspec.DecodeError(str(error)) from None


def digest(value: bytes) -> str:
    """The SHA-256 of an event's bytes, in hex."""
    return sha256(value).hexdigest()


def decode_request(kind: Kind, value: bytes | None, headers: Mapping[str, bytes]) -> Request:
    """A client's request, wholly validated.

    Raises:
        RequestTooLarge: the value is over ``REQUEST_BYTES``.
        InvalidEnvelope: a CloudEvents header contradicts the topic.
        MalformedRequest: the bytes are not JSON.
        InvalidRequest: a field is missing, unknown, of a wrong type or out of range.
    """
    return _decode_clients(REQUEST_TYPES[kind], REQUESTS[kind], value, headers)  # type: ignore[no-any-return]


def decode_control(value: bytes | None, headers: Mapping[str, bytes]) -> ControlEvent:
    """A client's wish about a job, wholly validated.

    Raises: as ``decode_request``.
    """
    return _decode_clients(ControlEvent, CONTROL, value, headers)  # type: ignore[no-any-return]


def _decode_clients(event_type: type, topic: Topic, value: bytes | None, headers: Mapping[str, bytes]) -> Any:
    if value is None or not value.strip():
        raise MalformedRequest("The value is empty. Send one JSON object a record.")
    if len(value) > REQUEST_BYTES:
        raise RequestTooLarge(len(value), REQUEST_BYTES)
    _check_envelope(topic, headers)
    try:
        return _decoder(event_type).decode(value)
    except msgspec.ValidationError as error:
        raise InvalidRequest(explain(error, event_type, value)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedRequest(f"The value is not JSON: {error}. It begins {shown(value[:40])}.") from None
    except RecursionError:
        raise MalformedRequest(
            f"The value is nested too deeply to be read; it begins {shown(value[:40])}. Flatten it."
        ) from None


def readable_id(value: bytes | None) -> tuple[str, str] | None:
    """Tenant and id of a request that can't be admitted, where both can be read."""
    try:
        found = decode(_Identity, value or b"")
    except msgspec.DecodeError:
        return None
    return (found.tenant, found.id) if found.id else None


def derived_id(topic: str, partition: int, offset: int) -> str:
    """The id of a request that brings none: the same each time the record is read."""
    return f"{topic}-{partition}-{offset}"


def _check_envelope(topic: Topic, headers: Mapping[str, bytes]) -> None:
    expected = {"ce_specversion": SPEC_VERSION, "ce_type": topic.name}
    for name, wanted in expected.items():
        given = headers.get(name)
        if given is not None and given != wanted.encode():
            raise InvalidEnvelope(f"Header {name} is {shown(given)}; on this topic it is {wanted!r} or left out.")


class _Identity(Struct):
    id: JobId | None = None
    tenant: Tenant = DEFAULT_TENANT
