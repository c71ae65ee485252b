"""The base model of the example, and the script that pre-trains it."""
