"""Tensors in the cache, as safetensors. Not imported by ``runtime.cache``, so that only who needs it loads numpy."""

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from runtime.cache.codecs import Codec, UnreadableValue, schema_digest
from runtime.cache.keys import NotCacheable
from schemas.errors import shown

Tensors = dict[str, NDArray[np.generic]]


class TensorsCodec(Codec[Tensors]):
    """Named numpy arrays as safetensors (torch's: ``tensor.numpy()`` and ``torch.from_numpy``, which share memory)."""

    schema = schema_digest("safetensors", "1")

    def encode(self, value: Tensors) -> bytes:
        """The arrays, as C has them in memory."""
        try:
            return save({name: np.ascontiguousarray(array) for name, array in value.items()})
        except (SafetensorError, AttributeError, TypeError, ValueError, KeyError) as error:
            raise NotCacheable(f"{shown(value)} can't be kept as tensors: {error}.") from error

    def decode(self, data: memoryview) -> Tensors:
        """The arrays, each with memory of its own."""
        try:
            return load(bytes(data))
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise UnreadableValue(str(error)) from error
