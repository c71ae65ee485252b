"""What an operator decides, read from the environment once, at the start of a process."""

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar
from urllib.parse import urlsplit

from schemas.errors import HeadraceError, shown

CODE_VERSION: Final = "0.1.0"
#: Below this a pause of the interpreter or of Postgres costs attempts.
SHORTEST_LEASE_S: Final = 1.0
_PASSWORD: Final = re.compile(r"://[^/]*@")
Device = Literal["auto", "cpu", "cuda"]
Value = TypeVar("Value")


class InvalidSetting(HeadraceError):
    """An environment variable has a value that Headrace can't use."""

    code = "invalid_setting"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one process; the variable of each is ``HEADRACE_`` and its name in capitals, but for
    the servers' addresses, which are the names of ``var/stack.env``.
    """

    kafka: str = "127.0.0.1:9092"
    redis: str = "redis://127.0.0.1:6379/0"
    database: str = "postgresql+psycopg2://postgres@127.0.0.1:5432/headrace"
    #: Where tuned models and evaluation outputs are kept: any fsspec URI that all workers reach.
    store: str = "file://var/store"
    #: This process' own disk cache of artifacts and datasets.
    cache_dir: Path = Path("var/cache")
    #: Directories whose subdirectories are base models, searched in order.
    models: tuple[Path, ...] = (Path("examples/models"),)
    #: Directories that dataset URIs may point into.
    data: tuple[Path, ...] = (Path("examples"),)
    #: Whether a model id that is not found here may be fetched from the Hugging Face hub.
    hub: bool = False
    device: Device = "auto"
    #: Where the dispatcher serves /metrics. The page asks nobody for a password, so by default it is
    #: for this machine alone; a container serves it at 0.0.0.0. Port 0 takes a free one.
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 9464
    #: How often a process publishes its metrics.
    metrics_interval_s: float = 5.0
    #: Days of all processes' metrics that are kept in Postgres, a sample a minute; 0 keeps none.
    samples_days: int = 14
    #: A job or a worker whose lease was not renewed for so long is given to another.
    lease_s: float = 15.0
    #: How often a long job leaves a checkpoint, at most: a large one takes longer, and comes less often.
    checkpoint_s: float = 30.0
    #: How often the request topics are compared with the jobs, for requests that were missed.
    reconcile_s: float = 60.0
    #: Jobs that may wait in all, which the dispatcher holds in memory, about 1 KB each; and of one tenant.
    queue_jobs: int = 100_000
    tenant_jobs: int = 50_000
    #: Jobs that a worker takes at once.
    generate_slots: int = 64
    finetune_slots: int = 1
    evaluate_slots: int = 1
    #: Memory for loaded models, and for the key-value cache of running generations, in tokens.
    model_memory_bytes: int = 8 * 1024**3
    engine_tokens: int = 262_144
    #: Written once the process is ready; for supervisors.
    ready_file: Path | None = None
    host: str = ""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        """The settings of this process.

        Raises:
            InvalidSetting: a variable has a value of the wrong form; the message names it.
        """
        read = _Reader(env)
        default = cls()
        return cls(
            kafka=read("KAFKA", _addresses, default.kafka),
            redis=read("REDIS", str, default.redis),
            database=read("DATABASE", _database_url, default.database),
            store=read("STORE", str, default.store),
            cache_dir=read("CACHE_DIR", Path, default.cache_dir),
            models=read("MODELS", _paths, default.models),
            data=read("DATA", _paths, default.data),
            hub=read("HUB", _flag, default.hub),
            device=read("DEVICE", _device, default.device),
            metrics_host=read("METRICS_HOST", str, default.metrics_host),
            metrics_port=read("METRICS_PORT", _port, default.metrics_port),
            metrics_interval_s=read("METRICS_INTERVAL_S", _positive, default.metrics_interval_s),
            samples_days=read("SAMPLES_DAYS", _count, default.samples_days),
            lease_s=read("LEASE_S", _lease, default.lease_s),
            checkpoint_s=read("CHECKPOINT_S", _positive, default.checkpoint_s),
            reconcile_s=read("RECONCILE_S", _positive, default.reconcile_s),
            queue_jobs=read("QUEUE_JOBS", _at_least_one, default.queue_jobs),
            tenant_jobs=read("TENANT_JOBS", _at_least_one, default.tenant_jobs),
            generate_slots=read("GENERATE_SLOTS", _count, default.generate_slots),
            finetune_slots=read("FINETUNE_SLOTS", _count, default.finetune_slots),
            evaluate_slots=read("EVALUATE_SLOTS", _count, default.evaluate_slots),
            model_memory_bytes=read("MODEL_MEMORY_BYTES", _count, default.model_memory_bytes),
            engine_tokens=read("ENGINE_TOKENS", _count, default.engine_tokens),
            ready_file=read("READY_FILE", Path, default.ready_file),
            host=read("HOST", str, socket.gethostname()),
        )

    def ready(self) -> None:
        """Tell the supervisor, where there is one, that this process does its work from now on."""
        if self.ready_file:
            self.ready_file.write_text(f"{os.getpid()}\n")


class _Reader:
    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def __call__(self, name: str, parse: Callable[[str], Value], default: Value) -> Value:
        text = self._env.get(f"HEADRACE_{name}", "")
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as error:
            raise InvalidSetting(f"HEADRACE_{name} is {shown(_without_password(text))}: {error}") from None


def _without_password(text: str) -> str:
    return _PASSWORD.sub("://***@", text)


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(part) for part in text.split(os.pathsep) if part)


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("it is 0 or 1")
    return text == "1"


def _device(text: str) -> Device:
    match text:
        case "auto" | "cpu" | "cuda":
            return text
        case _:
            raise ValueError("it is auto, cpu or cuda")


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("it is a positive number of seconds")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError("it is a whole number from 0 up")
    return value


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError("it is a whole number from 1 up; nothing would ever be admitted")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65_535:
        raise ValueError("it is a port from 1 to 65535, or 0 for a free one")
    return value


def _lease(text: str) -> float:
    value = _positive(text)
    if value < SHORTEST_LEASE_S:
        raise ValueError(f"it is at least {SHORTEST_LEASE_S:g} s; workers renew their leases in a third of it")
    return value


def _addresses(text: str) -> str:
    addresses = [address.strip() for address in text.split(",")]
    for address in addresses:
        host, colon, port = address.rpartition(":")
        if not (host and colon and port.isascii() and port.isdecimal() and 0 < int(port) <= 65_535):
            raise ValueError(f"{shown(address)} is not host:port; several are separated by commas")
    return ",".join(addresses)


def _database_url(text: str) -> str:
    # SQLAlchemy 2.1 reads a bare postgresql:// as psycopg 3, which is not installed.
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("postgresql", "postgres", "postgresql+psycopg2"):
        raise ValueError("it begins with postgresql+psycopg2://")
    url = f"postgresql+psycopg2://{rest}"
    try:
        _ = urlsplit(url).port
    except ValueError:
        # Without what urllib says, which may quote the password.
        raise ValueError(
            "it is postgresql+psycopg2://user:password@host:port/database, with a number as port"
        ) from None
    return url
