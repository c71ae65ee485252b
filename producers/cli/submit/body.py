"""A request put together from a file and options, checked by the codec that the intake uses."""

from collections.abc import Mapping
from typing import BinaryIO

import msgspec

from schemas.codec import decode_request
from schemas.requests import Request
from schemas.topics import Kind

#: JSON as options give it: None is an option that was not given.
Fields = Mapping[str, object]


def read_request(kind: Kind, file: BinaryIO | None, fields: Fields) -> Request:
    """The request in ``file``, or an empty one, with the given ``fields`` put over its own.

    Raises:
        RequestRefused: the intake would refuse it, and why.
    """
    given = pruned(fields)
    if file is None:
        return decode_request(kind, msgspec.json.encode(given), {})
    value = file.read()
    if not given:
        return decode_request(kind, value, {})
    try:
        body = msgspec.json.decode(value, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The codec says what is wrong with it.
        return decode_request(kind, value, {})
    return decode_request(kind, msgspec.json.encode(merged(body, given)), {})


def pruned(fields: Fields) -> dict[str, object]:
    """The fields without those that were not given, and without objects that are left empty."""
    nested = {name: pruned(value) if isinstance(value, Mapping) else value for name, value in fields.items()}
    return {name: value for name, value in nested.items() if value is not None and value not in ({}, ())}


def merged(body: Fields, given: Fields) -> dict[str, object]:
    """``body`` with ``given`` over it, object by object."""
    result = dict(body)
    for name, value in given.items():
        below = body.get(name)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            result[name] = merged(below, value)
        else:
            result[name] = value
    return result
