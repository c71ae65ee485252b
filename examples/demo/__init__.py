"""The main job on the example: tune, generate with both models, compare them on held-out data."""
