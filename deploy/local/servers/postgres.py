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

#: The file that says where the home is.
POINTER = "home"

ROLE = "headrace"
DATABASE = "headrace"

#: Debian keeps the server's programs off the PATH, in a directory of the version.
DEBIAN_PROGRAMS = Path("/usr/lib/postgresql")

#: Every process may hold 20 + 30 connections, few hold more than two at a time.
MAX_CONNECTIONS = 200

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


def find_home(directory: Path) -> PostgresHome:
    """The home that ``directory`` holds or points to; made on the first call.

    It lies in ``directory`` if the server's user can get there, else in a directory of its own under
    the system's temporary one (a checkout under a private home directory is out of reach).
    """
    directory.mkdir(parents=True, exist_ok=True)
    user = server_user()
    known = home_of(directory)
    if known is not None and known.is_dir():
        return PostgresHome(known, user)
    home = PostgresHome(make_private(directory, user), user)
    home.password_file.write_text(secrets.token_urlsafe(24))
    home.password_file.chmod(0o600)
    shutil.chown(home.password_file, user)
    # Last, so that a home which is pointed to has its password.
    (directory / POINTER).write_text(str(home.directory))
    return home


def home_of(directory: Path) -> Path | None:
    """Where the home of ``directory`` lies; None if none was made."""
    pointer = directory / POINTER
    return Path(pointer.read_text()) if pointer.exists() else None


def make_private(directory: Path, user: str) -> Path:
    """Make a directory for ``user`` alone, in ``directory`` if that user can reach it."""
    if can_reach(directory, user):
        private = directory / "private"
        private.mkdir(mode=0o700, exist_ok=True)
    else:
        private = Path(tempfile.mkdtemp(prefix="headrace-postgres-"))
    shutil.chown(private, user)
    return private


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
