"""Values as bytes and back: typed by msgspec, or bytes as they are. Tensors are in ``runtime.cache.tensors``.

A codec reads nothing but data: no pickle, and no class that the bytes name.
"""

from hashlib import sha256
from typing import Any, Final, Protocol, TypeVar, overload

import msgspec

from runtime.cache.keys import NotCacheable
from schemas.errors import shown

Value = TypeVar("Value")

SCHEMA_BYTES: Final = 8
_PLAIN: Final = (type(None), bool, int, float, str, bytes)


class UnreadableValue(Exception):
    """Bytes that are no value of the codec's type."""


class Codec(Protocol[Value]):
    """Bytes of a value and back."""

    #: ``SCHEMA_BYTES`` that change with the form of the bytes: what another schema wrote is not read.
    schema: bytes

    def encode(self, value: Value) -> bytes:
        """The value as bytes.

        Raises:
            NotCacheable: it is none of the codec's type.
        """

    def decode(self, data: memoryview) -> Value:
        """The value, which does not refer to ``data`` any more.

        Raises:
            UnreadableValue: that are no bytes of such a value.
        """


class MsgspecCodec(Codec[Value]):
    """MessagePack, checked against ``type`` as it is read. Frozen structs are best: callers share what is in memory.

    ``Any`` takes what comes back as it went in: None, booleans, numbers, texts, bytes, and lists and mappings of
    these; a tuple, say, would come back as a list.
    """

    @overload
    def __init__(self, type: type[Value]) -> None: ...
    @overload
    def __init__(self: "MsgspecCodec[Any]", type: Any) -> None: ...
    def __init__(self, type: Any) -> None:
        self._type = type
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Value] = msgspec.msgpack.Decoder(type)
        self.schema = schema_digest("msgpack", _described(type))

    def encode(self, value: Value) -> bytes:
        """The value in MessagePack."""
        if self._type is Any:
            _check_plain(value)
        try:
            return self._encoder.encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            raise NotCacheable(f"{shown(value)} can't be kept: {error}.") from error

    def decode(self, data: memoryview) -> Value:
        """The value, of the type."""
        try:
            return self._decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
            raise UnreadableValue(str(error)) from error


class BytesCodec(Codec[bytes]):
    """Bytes as they are: what a program has encoded itself, safetensors for one."""

    schema = b"bytes..1"

    def encode(self, value: bytes) -> bytes:
        """The value."""
        if type(value) is not bytes:
            raise NotCacheable(f"{shown(value)} is not bytes, which are all that this codec keeps.")
        return value

    def decode(self, data: memoryview) -> bytes:
        """A copy of the bytes."""
        return bytes(data)


def schema_digest(*parts: str) -> bytes:
    """``SCHEMA_BYTES`` that name a form of bytes."""
    return sha256("\0".join(parts).encode()).digest()[:SCHEMA_BYTES]


def _described(type: Any) -> str:
    try:
        return msgspec.json.encode(msgspec.json.schema(type), order="deterministic").decode()
    except (TypeError, ValueError):
        # JSON has no word for it: its name has to do, and a version in the key where its form changes.
        return str(type)


def _check_plain(value: object) -> None:
    kind = type(value)
    if kind is list:
        for each in value:  # type: ignore[attr-defined]  # a list, as was just looked at
            _check_plain(each)
    elif kind is dict:
        for key, each in value.items():  # type: ignore[attr-defined]
            _check_plain(key)
            _check_plain(each)
    elif kind not in _PLAIN:
        raise NotCacheable(
            f"{shown(value)} would come back from Redis as something else. Annotate what the function returns, "
            "or pass codec=MsgspecCodec(type)."
        )
