"""The wire contract of Headrace: every topic, event, limit and error. Standard library and msgspec only."""
