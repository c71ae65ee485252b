"""Many at once, and for long. A package, so that its processes end with its last test."""
