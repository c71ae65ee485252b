"""The model cache: an id to a loaded model, from memory, disk, Redis, the store or the hub, in that order."""

from workers.models.cache import Models
from workers.models.loaded import LoadedModel, ModelRef
from workers.models.loading import choose_device
from workers.models.sources import HuggingFaceHub, Sources, TunedModels

__all__ = [
    "HuggingFaceHub",
    "LoadedModel",
    "ModelRef",
    "Models",
    "Sources",
    "TunedModels",
    "choose_device",
]
