"""How far the queue in the database has been read: the rest of it again and again, its newest jobs at once."""

from dataclasses import dataclass
from typing import Final

from runtime.database.queue import BEGINNING, Mark, Page

#: Transactions that make jobs available seldom last longer. What one of them brings later is found by the
#: sweep, which begins anew whenever it is through.
OVERLAP_S: Final = 3.0


@dataclass
class Sweep:
    """Two places in the queue of a kind.

    ``old`` goes from the beginning to the end and over again, for jobs that there was no room for and for
    those that became available behind the other's back. ``new`` stays near the present, for the jobs of the
    other dispatchers' intakes, of the reapers and of the workers that gave some back; it is None until the
    queue was read once.
    """

    old: Mark = BEGINNING
    new: Mark | None = None

    def went_on(self, page: Page) -> None:
        """Note the page that was read from ``old``."""
        self.old = BEGINNING if page.last else page.end
        if page.last:
            self.new = page.end.before(OVERLAP_S)

    def kept_up(self, page: Page) -> None:
        """Note the page that was read from ``new``."""
        self.new = page.end.before(OVERLAP_S) if page.last else page.end
