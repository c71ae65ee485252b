"""From a model's id to its files: the model roots, this tenant's tuned models, and the hub where it is on."""

import errno
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from runtime.artifacts import ArtifactStore
from runtime.database.queries import TunedModel
from runtime.io_errors import is_no_room
from schemas.errors import (
    AdapterMismatch,
    ModelNotFound,
    ModelRejected,
    ModelUnavailable,
    ServerUnreachable,
    shown,
)
from workers.models.directory import check_directory, fingerprint, inside, read_from, weights_bytes

#: What every tuned model's id begins with.
TUNED_PREFIX: Final = "ft:"
#: Tuned models whose place is remembered, about a kilobyte each; beyond, it is asked for again.
KNOWN_MODELS: Final = 10_000
#: What a model needs; above all no pickles.
HUB_FILES: Final = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")


class TunedModels(Protocol):
    """The tuned models in the database. Called from threads."""

    def find(self, tenant: str, model_id: str) -> TunedModel | None:
        """The tenant's tuned model of this id, or None.

        Raises:
            ServerUnreachable: the database is away (retryable).
        """
        ...


class Hub(Protocol):
    """Where models come from that no root has."""

    def fetch(self, model_id: str) -> Path | None:
        """A local directory with the model's files, or None where there is no such model.

        Raises:
            ModelUnavailable: the hub does not answer (retryable).
            ServerUnreachable: this machine's disk is full (retryable).
        """
        ...


@dataclass(frozen=True)
class Weights:
    """Files that can be loaded: their key, their size, and how to get them onto this disk (blocking)."""

    key: str
    size_bytes: int
    fetch: Callable[[], Path]


@dataclass(frozen=True)
class Source:
    """A base model's weights, and an adapter's on top where there is one."""

    base_id: str
    base: Weights
    adapter_id: str | None = None
    adapter: Weights | None = None


class HuggingFaceHub:
    """The Hugging Face hub: ``owner/name``, or ``owner/name@revision``."""

    def __init__(self, cache_dir: Path, endpoint: str | None = None) -> None:
        self._cache_dir = cache_dir
        self._endpoint = endpoint
        #: Asked for once a process: a model in use does not change under its users.
        self._fetched: dict[str, Path] = {}

    def fetch(self, model_id: str) -> Path | None:
        """See ``Hub``. Files that are on disk and have not changed are not downloaded again."""
        if model_id not in self._fetched:
            directory = self._download(model_id)
            if directory is None:
                return None
            self._fetched[model_id] = directory
        return self._fetched[model_id]

    def _download(self, model_id: str) -> Path | None:
        name, _, revision = model_id.partition("@")
        try:
            directory = snapshot_download(
                name,
                revision=revision or None,
                cache_dir=self._cache_dir,
                endpoint=self._endpoint,
                allow_patterns=list(HUB_FILES),
            )
        except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
            return None
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            if is_no_room(error):
                raise ServerUnreachable("The disk of the hub's models", str(self._cache_dir), str(error)) from error
            raise ModelUnavailable(f"The hub does not give {shown(model_id)} now: {error}") from error
        return Path(directory)


class Sources:
    """Resolves ids. Blocking and thread-safe; it asks again each time but for tuned models, which never change."""

    def __init__(
        self, roots: Sequence[Path], tuned: TunedModels, artifacts: ArtifactStore, hub: Hub | None = None
    ) -> None:
        self._roots = tuple(roots)
        self._tuned = tuned
        self._artifacts = artifacts
        self._hub = hub
        self._known: dict[tuple[str, str], TunedModel] = {}
        self._lock = threading.Lock()

    def find(self, tenant: str, model_id: str, adapter_id: str | None = None) -> Source:
        """What has to be loaded for a model, or for a base with one of its adapters.

        Raises:
            ModelNotFound: nothing that this tenant may see has the id (final).
            ModelRejected: the model may not be loaded (final).
            AdapterMismatch: the adapter was made for another base (final).
            ServerUnreachable: the disk with the model's files fails, or is full (retryable).
            ModelUnavailable: the hub does not answer (retryable).
            ServerUnreachable: the database is away (retryable).
        """
        asked = adapter_id or model_id
        if not asked.startswith(TUNED_PREFIX):
            if adapter_id:
                raise ModelNotFound(adapter_id, f"the tuned models of tenant {tenant!r}")
            return Source(asked, self._untuned(asked))
        tuned = self._find_tuned(tenant, asked)
        if adapter_id and model_id not in (tuned.base, tuned.id):
            raise AdapterMismatch(adapter_id, tuned.base, model_id)
        if tuned.method == "full":
            return Source(tuned.id, self._artifact(tuned))
        # A base is never an adapter: tuning one further continues it, on the same base.
        base = self.find(tenant, tuned.base)
        return Source(base.base_id, base.base, tuned.id, self._artifact(tuned))

    def _find_tuned(self, tenant: str, model_id: str) -> TunedModel:
        with self._lock:
            known = self._known.get((tenant, model_id))
        if known:
            return known
        found = self._tuned.find(tenant, model_id)
        if found is None:
            raise ModelNotFound(model_id, f"the tuned models of tenant {tenant!r}")
        with self._lock:
            if len(self._known) >= KNOWN_MODELS:
                self._known.clear()
            self._known[tenant, model_id] = found
        return found

    def _artifact(self, tuned: TunedModel) -> Weights:
        fetch = partial(self._artifacts.fetch, tuned.artifact_sha256, tuned.artifact_uri)
        return Weights(tuned.artifact_sha256, tuned.size_bytes, fetch)

    def _untuned(self, model_id: str) -> Weights:
        for root in self._roots:
            if weights := _below(root, model_id):
                return weights
        if self._hub and "/" in model_id and (fetched := self._hub.fetch(model_id)):
            return _weights(fetched)
        roots = ", ".join(map(str, self._roots))
        hub = "on the hub" if self._hub else "on the hub, which is off (HEADRACE_HUB=1 asks it)"
        raise ModelNotFound(model_id, f"{roots}, nor {hub}")


def _below(root: Path, model_id: str) -> Weights | None:
    directory = root / model_id
    with read_from(directory):
        if not _is_directory(directory):
            return None
        if not inside(root, directory):
            raise ModelRejected(f"Model {shown(model_id)} has files outside of its model root.")
    return _weights(directory)


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        # A model's id may be longer than the name of a file.
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def _weights(directory: Path) -> Weights:
    check_directory(directory)
    with read_from(directory):
        return Weights(fingerprint(directory), weights_bytes(directory), lambda: directory)
