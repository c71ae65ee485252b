"""Seeded schedules of faults against the real stack, judged by a ledger that reads only topics and SQL.

``python -m tests.acceptance.faults --seeds A..B`` prints one JSON line a run. A schedule is drawn by
``schedule``, inflicted by ``strikes`` on the processes of ``stack`` while ``load`` submits jobs; ``ledger``
collects what topics and tables say in the end, and ``verdict`` compares it with what was submitted.
"""
