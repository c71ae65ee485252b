"""An entry as Redis holds it: what it is, for how long it is good, what it depends on, and a digest over all of it.

::

    "HC" | layout: 1 byte | digest: 16 | length of the header: 2, little endian | header: MessagePack | payload

The digest is the first half of SHA-256 over the entry's name and everything behind the digest, so a value that lies
under another's name is damaged as well. SHA-256, because processors have instructions for it: 0.9 ms for 1 MB where
BLAKE2b takes 3.2; 128 bits, because it guards against accidents: whoever can write to Redis can write a digest too.
"""

import struct
from enum import IntEnum
from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct

MAGIC: Final = b"HC\x01"
DIGEST_BYTES: Final = 16
_BODY: Final = len(MAGIC) + DIGEST_BYTES
_LENGTH: Final = struct.Struct("<H")


class Damaged(Exception):
    """Bytes that nobody has written like this."""


class Kind(IntEnum):
    """What the payload is."""

    VALUE = 0
    #: The loader gave None; no payload.
    NOTHING = 1
    #: The message of the error that says that there is nothing.
    ABSENT = 2


class Header(Struct, frozen=True, array_like=True):
    """What an entry says of itself."""

    #: What wrote the payload; see ``Codec.schema``.
    schema: bytes
    #: When its loader had ended, by the wall clock of the process that ran it.
    born_s: float
    #: For how long it is the answer from then on, and how long it may stand in for a loader that fails.
    ttl_s: float
    stale_s: float
    #: How long its loader took.
    load_s: float
    kind: Kind
    #: The versions of what it depends on, in the key's order.
    versions: tuple[bytes, ...]


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Header)


def seal(name: str, header: Header, payload: bytes) -> bytes:
    """The entry as bytes."""
    head = _encoder.encode(header)
    length = _LENGTH.pack(len(head))
    digest = sha256(name.encode())
    for part in (length, head, payload):
        digest.update(part)
    return b"".join((MAGIC, digest.digest()[:DIGEST_BYTES], length, head, payload))


def unseal(name: str, sealed: bytes) -> tuple[Header, memoryview]:
    """The entry's header and its payload, which refers to ``sealed``.

    Raises:
        Damaged: these bytes were not sealed under this name.
    """
    if not sealed.startswith(MAGIC):
        raise Damaged("not an entry")
    body = memoryview(sealed)[_BODY:]
    digest = sha256(name.encode())
    digest.update(body)
    if digest.digest()[:DIGEST_BYTES] != sealed[len(MAGIC) : _BODY]:
        raise Damaged("not what its digest says")
    try:
        (length,) = _LENGTH.unpack_from(body)
        head, payload = body[_LENGTH.size : _LENGTH.size + length], body[_LENGTH.size + length :]
        return _decoder.decode(head), payload
    except (struct.error, msgspec.MsgspecError) as error:
        # Its digest is right, so this is another program's idea of an entry.
        raise Damaged(str(error)) from error
