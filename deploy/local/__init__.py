"""A whole stack on one machine, without containers: `python -m deploy.local --help`."""
