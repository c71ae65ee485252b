"""The platform as a whole, seen from the outside. A package, so that its processes end with its last test."""
