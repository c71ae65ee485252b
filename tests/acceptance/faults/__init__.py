"""Seeded schedules of faults against the real stack, judged by a ledger that reads only topics and SQL.

``python -m tests.acceptance.faults --seeds A..B`` prints one JSON line a run. A schedule is drawn by
``schedule``, inflicted by ``strikes`` on the processes of ``stack`` while ``load`` submits jobs; ``ledger``
collects what topics and tables say in the end, and ``verdict`` compares it with what was submitted. ``zoo``
plants bugs, to show that they are seen.

As root it runs in network and mount namespaces of its own, so that no rule, route or disk of it outlives it;
an ordinary user's schedules leave those faults out, and all leave out what strace or libfaketime would make where they
are missing: a fault without effect breaks a run, too. What it does not show: a machine that loses its power
(tmpfs forgets nothing that a process wrote), packets that are delayed or doubled by a network (the kernel here
has no netem; lost ones come late), disks that return other bytes than were written, and the models'
own code: its workers' handlers only wait, and pass bytes through the artifact store.
"""
