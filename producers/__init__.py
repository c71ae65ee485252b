"""Every write of a request: the Python client and the command line."""
