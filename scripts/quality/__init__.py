"""How well a project's tests hold it: what they run, what they notice, and where to look next.

``scripts/test_coverage.py`` is its command line. A measure that was not taken is ``None`` everywhere here, with
the reason beside it: never a zero.
"""
