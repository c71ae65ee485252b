"""How a tier says that it can't help; whoever asked goes to the next one."""


class Missed(Exception):
    """The tier does not have the artifact, or can't give it now."""


class Absent(Missed):
    """The tier answers, and does not have the artifact, or not all of it."""


class Damaged(Exception):
    """The tier gave bytes that are not what their digest says."""
