"""Postgres, as a user that is not root, with its data where that user can reach it."""

import getpass
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from deploy.local.ports import LOOPBACK
from deploy.local.service import Command, Creation, Service, StackError, being_made
from deploy.local.state import write_private

#: The home in a directory that the server's user can reach; the file that says where it is otherwise; and the one in
#: such a home that says whose it is.
PRIVATE = "private"
POINTER = "home"
OWNER = "owner"

#: Where data outlive a boot of the machine, and nobody tidies up.
LASTING = Path("/var/lib")

ANEW = "Begin anew with `make clean`."

ROLE = "headrace"
DATABASE = "headrace"

#: Debian keeps the server's programs off the PATH, in a directory of the version.
DEBIAN_PROGRAMS = Path("/usr/lib/postgresql")

#: Every process may hold 20 + 30 connections, few hold more than two at a time.
MAX_CONNECTIONS = 200

#: What `headrace doctor` reads its advice from. Debian's server package brings it, others have it in one of their own.
STATEMENTS = "pg_stat_statements"

#: Run in single-user mode on new data, so that data which exist hold the database too.
CREATE_DATABASE = f"""exec "$0" --single -F -D "$1" postgres <<end
CREATE DATABASE {DATABASE}
end
"""


@dataclass(frozen=True)
class PostgresHome:
    """Where one Postgres lives: a directory that belongs to ``user`` alone."""

    directory: Path
    user: str

    @property
    def data(self) -> Path:
        """The data directory (PGDATA)."""
        return self.directory / "data"

    @property
    def password_file(self) -> Path:
        """The role's password, made with the home."""
        return self.directory / "password"

    def url(self, port: int) -> str:
        """The SQLAlchemy address of the database."""
        password = self.password_file.read_text().strip()
        return f"postgresql+psycopg2://{ROLE}:{password}@{LOOPBACK}:{port}/{DATABASE}"


def postgres(home: PostgresHome, port: int, *, durable: bool) -> Service:
    """Describe a Postgres on ``home``. Not durable means: no fsync, for data that nobody needs."""
    programs = find_programs()
    settings = {
        "listen_addresses": LOOPBACK,
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": str(MAX_CONNECTIONS),
    }
    if has_library(programs, STATEMENTS):
        settings["shared_preload_libraries"] = STATEMENTS
    if not durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return Service(
        name="postgres",
        command=as_user(home, str(programs / "postgres"), "-D", str(home.data), *options),
        is_healthy=lambda: says_ready(home.data / "postmaster.pid"),
        creations=(creation(home, programs),),
        # "Fast": open connections are ended, then a clean stop. Left alone, "immediate": its own
        # children end too, and the next start recovers from the log.
        stop_signal=signal.SIGINT,
        death_signal=signal.SIGQUIT,
        stop_s=15.0,
    )


def creation(home: PostgresHome, programs: Path) -> Creation:
    """How the data directory is made: a cluster with one role that has a password, and one database."""
    data = str(being_made(home.data))
    role = ("--username", ROLE, "--pwfile", str(home.password_file), "--auth", "scram-sha-256")
    text = ("--encoding", "UTF8", "--locale", "C.UTF-8")
    initdb = as_user(home, str(programs / "initdb"), "--pgdata", data, *role, *text, "--no-sync")
    create_database = as_user(home, "sh", "-c", CREATE_DATABASE, str(programs / "postgres"), data)
    return Creation(home.data, (initdb, create_database))


def as_user(home: PostgresHome, *argv: str) -> Command:
    """A command that runs as the home's user, in a directory which that user can read."""
    return Command(argv, user=home.user if os.geteuid() == 0 else "", cwd=home.directory)


async def says_ready(status_file: Path) -> bool:
    """Whether the postmaster wrote "ready", as pg_ctl looks for it (line 8 of postmaster.pid)."""
    try:
        lines = status_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready"


def find_programs() -> Path:
    """The directory that holds ``postgres`` and ``initdb``, of the newest version installed."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    installed = [path.parent for path in DEBIAN_PROGRAMS.glob("*/bin/initdb")]
    if not installed:
        raise StackError(f"no initdb on PATH or under {DEBIAN_PROGRAMS}: run `make setup`")
    return max(installed, key=lambda programs: float(programs.parent.name))


def has_library(programs: Path, name: str) -> bool:
    """Whether the server with these programs can load a library; it would not start with one that is missing."""
    folder = programs.parent / "lib"
    return any((place / f"{name}.so").exists() for place in (folder, folder / "postgresql"))


def find_home(directory: Path) -> PostgresHome:
    """The home of the stack whose directory for Postgres this is; made on the first call.

    It lies in ``directory`` if the server's user can get there, else in a directory of its own (a checkout under a
    private home directory is out of reach). It stays the same when ``directory`` is moved.

    Raises:
        StackError: it lay elsewhere, and is gone or belongs to another stack.
    """
    directory.mkdir(parents=True, exist_ok=True)
    user, pointer = server_user(), directory / POINTER
    known = home_of(directory)
    if known is None and pointer.exists():
        raise StackError(f"{directory} is a copy: the data in {pointer.read_text()} are its original's. {ANEW}")
    if known is not None and not known.is_dir():
        raise StackError(f"Postgres's data in {known} are gone. {ANEW}")
    home = PostgresHome(known or make_private(directory, user), user)
    if pointer.exists():
        (home.directory / OWNER).write_text(str(directory))
    if not home.password_file.exists():
        write_private(home.password_file, secrets.token_urlsafe(24).encode())
    shutil.chown(home.password_file, user)
    return home


def home_of(directory: Path) -> Path | None:
    """Where the home of ``directory`` lies; None if none was made, or if it is the one of what ``directory`` copies."""
    private, pointer = directory / PRIVATE, directory / POINTER
    if private.is_dir():
        return private
    if not pointer.exists():
        return None
    home = Path(pointer.read_text())
    return home if is_owned(home, directory) else None


def is_owned(home: Path, directory: Path) -> bool:
    """Whether a home that lies elsewhere belongs to ``directory``, and not to another that points to it, too."""
    note = home / OWNER
    owner = Path(note.read_text()) if note.exists() else directory
    pointer = owner / POINTER
    return owner == directory or not pointer.exists() or pointer.read_text() != str(home)


def make_private(directory: Path, user: str) -> Path:
    """Make a directory for ``user`` alone, in ``directory`` if that user can reach it."""
    if can_reach(directory, user):
        private = directory / PRIVATE
        private.mkdir(mode=0o700)
    else:
        private = Path(tempfile.mkdtemp(prefix="headrace-postgres-", dir=place_elsewhere(directory)))
        (directory / POINTER).write_text(str(private))
    shutil.chown(private, user)
    return private


def place_elsewhere(directory: Path) -> Path:
    """Where a home lasts for as long as ``directory``, whose other data are nothing without it."""
    temporary = Path(tempfile.gettempdir())
    is_temporary = directory.is_relative_to(temporary) or not os.access(LASTING, os.W_OK)
    return temporary if is_temporary else LASTING


def can_reach(directory: Path, user: str) -> bool:
    """Whether ``user`` may enter ``directory`` and everything above it, asked of the kernel."""
    if os.geteuid() != 0:
        return True
    account = pwd.getpwnam(user)
    entered = subprocess.run(
        ("test", "-x", directory), user=account.pw_uid, group=account.pw_gid, extra_groups=(), check=False
    )
    return entered.returncode == 0


def server_user() -> str:
    """Ourselves; for root, which Postgres refuses, the package's own user or else ``nobody``."""
    if os.geteuid() != 0:
        return getpass.getuser()
    names = {account.pw_name for account in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
