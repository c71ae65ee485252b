"""The tier that machines share: small artifacts in Redis, as chunks of at most 1 MiB that carry their digest.

A cache, never the authority: Redis empty, slow or away means the next tier, not an error.
"""

import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from runtime.artifacts.manifest import MANIFEST_NAME, ArtifactFile, Manifest, decode_manifest
from runtime.artifacts.tier import Damaged, Missed

#: A chunk as stored, its digest included: small enough that no command blocks Redis for long.
CHUNK_BYTES: Final = 1_048_576
DIGEST_BYTES: Final = 32
PAYLOAD_BYTES: Final = CHUNK_BYTES - DIGEST_BYTES
#: Chunks a command: 4 MiB take about 18 ms by redis-py.
CHUNKS_PER_READ: Final = 4
#: A model that nobody has asked for in a day is read from the store instead.
KEPT_S: Final = 86_400
#: How long one command may take before the next tier is asked.
ANSWER_S: Final = 1.0
#: A transfer below this rate is slower than the store would be.
SLOWEST_BYTES_PER_S: Final = 8 * 1024 * 1024
#: For how long Redis is left alone after it has failed, so that not every fetch waits for it.
LEFT_ALONE_S: Final = 5.0


class RedisTier:
    """Artifacts of at most ``limit_bytes`` in Redis. Thread-safe, as its client is."""

    name: Final = "redis"

    def __init__(self, client: "Redis", limit_bytes: int = 64 * 1024 * 1024) -> None:
        self._client = client
        self._limit_bytes = limit_bytes
        self._left_alone_until = 0.0

    @classmethod
    def connect(cls, url: str) -> Self:
        """A tier whose commands fail within ``ANSWER_S``; the connection is made by the first one."""
        client = Redis.from_url(
            url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S, retry=Retry(NoBackoff(), 0)
        )
        return cls(client)

    def download(self, artifact_sha256: str, into: Path) -> None:
        """Write the artifact's files and its manifest into an empty directory.

        Raises:
            Missed: Redis has not all of it, or does not answer in time.
            Damaged: a chunk is not what its digest says.
        """
        self._check_awake()
        try:
            value = self._client.get(_manifest_key(artifact_sha256))
            if not isinstance(value, bytes):
                raise Missed("not in Redis")
            manifest = decode_manifest(value, artifact_sha256)
            deadline_s = time.monotonic() + ANSWER_S + manifest.size_bytes / SLOWEST_BYTES_PER_S
            for file in manifest.files:
                self._download_file(artifact_sha256, file, into, deadline_s)
            (into / MANIFEST_NAME).write_bytes(value)
        except RedisError as error:
            raise self._fallen_asleep(error) from None

    def upload(self, directory: Path, manifest: Manifest) -> None:
        """Copy an artifact into Redis, unless it is too large or Redis is away.

        The manifest is written last: a reader that finds it finds the chunks.
        """
        if manifest.size_bytes > self._limit_bytes:
            return
        artifact_sha256 = manifest.sha256
        deadline_s = time.monotonic() + ANSWER_S + manifest.size_bytes / SLOWEST_BYTES_PER_S
        try:
            self._check_awake()
            for file in manifest.files:
                for index, payload in enumerate(_payloads(directory / file.name)):
                    _check_time(deadline_s)
                    value = sha256(payload).digest() + payload
                    self._client.set(_chunk_key(artifact_sha256, file, index), value, ex=KEPT_S)
            self._client.set(_manifest_key(artifact_sha256), manifest.encode(), ex=KEPT_S)
        except Missed:
            return
        except RedisError as error:
            self._fallen_asleep(error)

    def remove(self, artifact_sha256: str) -> None:
        """Delete the artifact; where Redis is away, it runs out by itself."""
        key = _manifest_key(artifact_sha256)
        try:
            self._check_awake()
            value = self._client.get(key)
            if isinstance(value, bytes):
                self._client.delete(key)
                for file in decode_manifest(value, artifact_sha256).files:
                    for index in range(-(-file.size_bytes // PAYLOAD_BYTES)):
                        self._client.unlink(_chunk_key(artifact_sha256, file, index))
        except (Missed, Damaged):
            return
        except RedisError as error:
            self._fallen_asleep(error)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _download_file(self, artifact_sha256: str, file: ArtifactFile, into: Path, deadline_s: float) -> None:
        chunks = range(-(-file.size_bytes // PAYLOAD_BYTES))
        with (into / file.name).open("wb") as out:
            for first in range(0, len(chunks), CHUNKS_PER_READ):
                _check_time(deadline_s)
                group = chunks[first : first + CHUNKS_PER_READ]
                values = self._client.mget([_chunk_key(artifact_sha256, file, index) for index in group])
                for value in values:
                    out.write(_payload(value, file.name))

    def _check_awake(self) -> None:
        if time.monotonic() < self._left_alone_until:
            raise Missed("Redis did not answer a moment ago")

    def _fallen_asleep(self, error: RedisError) -> Missed:
        self._left_alone_until = time.monotonic() + LEFT_ALONE_S
        return Missed(f"Redis does not answer: {error}")


def _payloads(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while payload := file.read(PAYLOAD_BYTES):
            yield payload


def _payload(value: object, name: str) -> bytes:
    if not isinstance(value, bytes):
        raise Missed(f"a chunk of {name} is no longer in Redis")
    digest, payload = value[:DIGEST_BYTES], value[DIGEST_BYTES:]
    if sha256(payload).digest() != digest:
        raise Damaged(f"a chunk of {name} in Redis is damaged")
    return payload


def _check_time(deadline_s: float) -> None:
    if time.monotonic() > deadline_s:
        raise Missed("Redis is slower than the store")


def _manifest_key(artifact_sha256: str) -> str:
    return f"headrace:artifact:{artifact_sha256}"


def _chunk_key(artifact_sha256: str, file: ArtifactFile, index: int) -> str:
    return f"headrace:artifact:{artifact_sha256}:{file.name}:{index}"
