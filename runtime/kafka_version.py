"""Which release of Kafka a broker runs, which no client library tells: asked in Kafka's own protocol.

Sources: KIP-511 and KIP-584 (ApiVersions 3 with supported features), KIP-482 (compact and tagged fields);
the levels are those of ``org.apache.kafka.server.common.MetadataVersion`` in Kafka 4.3.
"""

import socket
import struct
from typing import Final

from schemas.errors import ServerUnreachable

API_VERSIONS: Final = 18
REQUEST_VERSION: Final = 3
#: No broker's answer is longer.
ANSWER_BYTES: Final = 65_536
SUPPORTED_FEATURES: Final = 0
#: The first level of ``metadata.version`` that each release supports, the newest first.
RELEASES: Final = (
    (31, "4.4"), (30, "4.3"), (28, "4.2"), (26, "4.1"), (22, "4.0"), (21, "3.9"), (20, "3.8"), (15, "3.7"),
    (12, "3.6"), (9, "3.5"), (8, "3.4"), (7, "3.3"),
)  # fmt: skip


def kafka_version(address: str, timeout_s: float) -> str:
    """The release of the broker at ``address`` (``host:port``), as 4.3; a newer one as the newest known here.

    Raises:
        ServerUnreachable: nothing answers there, or it is not a broker.
    """
    host, _, port = address.rpartition(":")
    client = b"headrace"
    body = struct.pack(">hhih", API_VERSIONS, REQUEST_VERSION, 0, len(client)) + client + b"\0"
    # Name and version of the client's software as compact strings, whose length is written plus one.
    body += bytes([len(client) + 1]) + client + bytes([2]) + b"1" + b"\0"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            with connection.makefile("rb") as answer:
                (size_bytes,) = struct.unpack(">i", answer.read(4))
                level = _metadata_level(_Reader(answer.read(min(size_bytes, ANSWER_BYTES))))
    except (OSError, ValueError, struct.error, IndexError) as error:
        raise ServerUnreachable("Kafka", address, str(error)) from error
    return next((release for first, release in RELEASES if level >= first), "older than 3.3")


def _metadata_level(reader: "_Reader") -> int:
    """The highest ``metadata.version`` that the broker supports; 0 where it tells none."""
    reader.take(">ih")  # the correlation id and the error code
    for _ in range(reader.number() - 1):
        reader.take(">hhh")  # an API with its lowest and highest version
        reader.skip_tags()
    reader.take(">i")  # the throttle time
    for _ in range(reader.number()):
        tag, _size_bytes = reader.number(), reader.number()
        if tag == SUPPORTED_FEATURES:
            return _features(reader).get("metadata.version", 0)
        reader.bytes(_size_bytes)
    return 0


def _features(reader: "_Reader") -> dict[str, int]:
    levels = {}
    for _ in range(reader.number() - 1):
        name = reader.bytes(reader.number() - 1).decode()
        _lowest, highest = reader.take(">hh")
        reader.skip_tags()
        levels[name] = highest
    return levels


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def bytes(self, size_bytes: int) -> bytes:
        """The next bytes as they are."""
        self._at += size_bytes
        return self._data[self._at - size_bytes : self._at]

    def take(self, layout: str) -> tuple[int, ...]:
        """The next numbers, laid out as ``struct`` says it."""
        return struct.unpack(layout, self.bytes(struct.calcsize(layout)))

    def number(self) -> int:
        """An unsigned number of seven bits a byte, the lowest first."""
        value = shift = 0
        while True:
            (byte,) = self.take(">B")
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def skip_tags(self) -> None:
        """Leave out optional fields."""
        for _ in range(self.number()):
            self.number()
            self.bytes(self.number())
