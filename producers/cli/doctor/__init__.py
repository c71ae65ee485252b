"""``headrace doctor``: what is there, what is wrong with it, and the line that mends it."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from typing import Final

import click

from producers.cli.doctor.advice import examine_advice
from producers.cli.doctor.finding import Finding, Health
from producers.cli.doctor.kafka import examine_kafka
from producers.cli.doctor.servers import examine_dispatcher, examine_postgres, examine_redis, examine_stack
from producers.cli.exits import Exit
from producers.cli.output import Format, Table, form_option, note, show
from producers.cli.target import Target, targeted
from schemas.errors import HeadraceError, printable

#: Each examination has its own time limits; this one is for what hangs in spite of them.
PATIENCE_S: Final = 10.0
Examination = Callable[[Target], list[Finding]]
EXAMINATIONS: Final[Mapping[str, Examination]] = {
    "kafka": examine_kafka,
    "redis": examine_redis,
    "postgres": examine_postgres,
    "advice": examine_advice,
    "dispatcher": examine_dispatcher,
    "stack": examine_stack,
}
#: Where an address comes from, for servers.
VARIABLES: Final[Mapping[str, str]] = {"kafka": "KAFKA", "redis": "REDIS", "postgres": "DATABASE", "advice": "DATABASE"}


@click.command()
@targeted
@form_option
def doctor(target: Target, form: Format) -> int:
    """Examine the servers, the topics, the tables and the processes.

    Exit 4 if something can't be reached, 1 if something else is wrong; advice on Postgres' indexes and upkeep is none
    of both. -o name lists what is not ok.
    """
    note(f"Addresses: {target.origin}.")
    findings = examine(target)
    ill = [item for item in findings if item.health is not Health.OK]
    show(form, findings, [item.name for item in ill], lambda: _table(findings))
    if form is Format.TABLE:
        for item in ill:
            verb = "next step" if item.health is Health.ADVICE else "mend it"
            note(f"{item.name}: {item.problem}\n    {verb}: {item.repair}")
    return verdict(findings)


def verdict(findings: Sequence[Finding]) -> Exit:
    """The exit status: advice is nothing wrong."""
    found = {item.health for item in findings}
    if Health.UNREACHABLE in found:
        return Exit.UNREACHABLE
    return Exit.FAILED if Health.WRONG in found else Exit.OK


def examine(
    target: Target, examinations: Mapping[str, Examination] = EXAMINATIONS, patience_s: float = PATIENCE_S
) -> list[Finding]:
    """Examine everything at once; the findings come in a fixed order."""
    running = {name: _started(name, examination, target) for name, examination in examinations.items()}
    wait(running.values(), patience_s)
    findings: list[Finding] = []
    for name, answer in running.items():
        findings.extend(answer.result() if answer.done() else [_hanging(name, target, patience_s)])
    return findings


def _started(name: str, examination: Examination, target: Target) -> Future[list[Finding]]:
    answer: Future[list[Finding]] = Future()

    def run() -> None:
        try:
            answer.set_result(examination(target))
        # Whatever it is, it is a finding: the others are needed all the more.
        except Exception as error:
            answer.set_result([_unexpected(name, error)])

    # Not a pool, which would wait at exit for what hangs.
    threading.Thread(target=run, daemon=True).start()
    return answer


def _unexpected(name: str, error: Exception) -> Finding:
    reason = str(error) if isinstance(error, HeadraceError) else f"{type(error).__name__}: {printable(str(error))}"
    return Finding(name, "", Health.WRONG, problem=f"its examination failed: {reason}", repair=f"see the log of {name}")


def _hanging(name: str, target: Target, patience_s: float) -> Finding:
    repair = target.start(VARIABLES[name]) if name in VARIABLES else f"see the log of {name}"
    return Finding(name, "", Health.UNREACHABLE, "", f"no answer within {patience_s:g} s", repair)


def _table(findings: Sequence[Finding]) -> Table:
    rows = [(item.name, item.health.value, item.version, item.address) for item in findings]
    return Table(("WHAT", "HEALTH", "VERSION", "WHERE"), rows)
