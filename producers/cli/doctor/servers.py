"""Postgres with its schema, Redis, the dispatcher, and the processes of the local stack."""

import http.client
import urllib.request
from typing import Final
from urllib.error import URLError

from deploy.local.paths import DEFAULT_STACK, StackPaths
from deploy.local.state import Phase, read_state
from producers.cli.doctor.finding import Finding, Health
from producers.cli.target import Target
from runtime.settings import CODE_VERSION
from schemas.errors import ServerUnreachable

TIMEOUT_S: Final = 5.0
#: No metrics page is longer.
PAGE_BYTES: Final = 16 * 1024 * 1024


def examine_postgres(target: Target) -> list[Finding]:
    """Postgres, and if it is there, the revision of its tables."""
    from runtime.database import Database
    from runtime.database.migrate import revisions
    from runtime.probes import postgres_version

    database = Database(target.settings.database, "headrace-doctor")
    address = database.address
    try:
        server = Finding("postgres", address, Health.OK, postgres_version(database))
        found, wanted = revisions(database)
    except ServerUnreachable as error:
        return [Finding("postgres", address, Health.UNREACHABLE, "", error.reason, target.start("DATABASE"))]
    finally:
        database.close()
    if found == wanted:
        return [server, Finding("schema", address, Health.OK, found or "")]
    problem = f"the tables are at revision {found or 'none'}, this code needs {wanted}"
    return [
        server,
        Finding("schema", address, Health.WRONG, found or "", problem, "python -m runtime.database upgrade"),
    ]


def examine_redis(target: Target) -> list[Finding]:
    """Redis."""
    from runtime.probes import redis_version

    address = target.settings.redis.rpartition("@")[2].removeprefix("redis://")
    try:
        return [Finding("redis", address, Health.OK, redis_version(target.settings.redis))]
    except ServerUnreachable as error:
        return [Finding("redis", address, Health.UNREACHABLE, "", error.reason, target.start("REDIS"))]


def examine_dispatcher(target: Target) -> list[Finding]:
    """The dispatcher, by its metrics page."""
    url = f"{target.metrics_url}/metrics"
    try:
        # The operator's own address; other schemes than http fail below.
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310
            page = answer.read(PAGE_BYTES)
    except (URLError, OSError, ValueError, http.client.HTTPException) as error:
        return [Finding("dispatcher", url, Health.UNREACHABLE, "", str(error), target.run("streams"))]
    if b"headrace_" not in page:
        problem = "a server answers there, but it is not the dispatcher"
        return [Finding("dispatcher", url, Health.WRONG, "", problem, "set HEADRACE_METRICS_PORT to a free port")]
    return [Finding("dispatcher", url, Health.OK, CODE_VERSION)]


def examine_stack(target: Target) -> list[Finding]:
    """The stack of ``headrace up``, if that is what the addresses belong to."""
    paths = StackPaths(DEFAULT_STACK)
    state = read_state(paths.state) if target.is_local_stack else None
    if state is None:
        return []
    address = str(paths.directory)
    ended = [service for service in state.services if service.exit_code is not None]
    if not state.supervisor.runs():
        return [Finding("stack", address, Health.WRONG, "", "it does not run", "headrace up")]
    if ended:
        problem = "; ".join(f"{service.name} ended with {service.exit_code}, log {service.log}" for service in ended)
        return [Finding("stack", address, Health.WRONG, "", problem, "headrace down && headrace up")]
    health = Health.OK if state.phase is Phase.READY else Health.WRONG
    return [Finding("stack", address, health, state.phase.value)]
