"""A server of connections that are numbers of their own, and a clock that is set by hand."""

import itertools
import threading


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class Connection:
    """One that knows its number, and who uses it now."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.open = True
        self.good = True

    def __repr__(self) -> str:
        return f"<{self.number}>"


class Server:
    """Opens connections, counts them, and refuses ``refusals`` of them."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self.refusals = 0
        self.checks = 0
        self.open: list[Connection] = []
        self.most_open = 0

    def connect(self) -> Connection:
        with self._lock:
            if self.refusals:
                self.refusals -= 1
                raise ConnectionRefusedError("the server refuses")
            connection = Connection(next(self._numbers))
            self.open.append(connection)
            self.most_open = max(self.most_open, len(self.open))
            return connection

    def close(self, connection: Connection) -> None:
        with self._lock:
            assert connection.open
            connection.open = False
            self.open.remove(connection)

    def check(self, connection: Connection) -> bool:
        self.checks += 1
        return connection.good
