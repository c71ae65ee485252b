"""Programs that a benchmark starts beside itself, in Headrace's own environment."""
