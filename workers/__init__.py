"""GPU consumers: one job at a time to one outcome each, and the only place of torch and transformers."""
