"""Batched decoding and scoring: start reading in ``engine.py``, then ``lane.py``."""

from workers.engine.engine import Engine, EngineClosed
from workers.engine.row import Completion, CutShort
from workers.engine.sampling import Sampling

__all__ = ["Completion", "CutShort", "Engine", "EngineClosed", "Sampling"]
