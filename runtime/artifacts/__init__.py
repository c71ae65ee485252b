"""Artifacts: directories of plain files, named by digest and kept on disk, in Redis and in a store.

A tuned model is published once and fetched by any worker; ``ArtifactStore`` is the way in.
"""

from pathlib import Path

from runtime.artifacts.redis_tier import RedisTier
from runtime.artifacts.remote import RemoteStore
from runtime.artifacts.store import Artifact, ArtifactGone, ArtifactStore, ArtifactUnreachable
from runtime.monitoring import Metrics

__all__ = ["Artifact", "ArtifactGone", "ArtifactStore", "ArtifactUnreachable", "open_artifacts"]


def open_artifacts(store_uri: str, cache_dir: Path, redis_url: str, metrics: Metrics) -> ArtifactStore:
    """The store of a process with all its tiers; nothing is connected before it is needed.

    What processes that were killed have left on the disk is deleted.
    """
    artifacts = ArtifactStore(RemoteStore(store_uri), cache_dir, RedisTier.connect(redis_url), metrics)
    artifacts.sweep()
    return artifacts
