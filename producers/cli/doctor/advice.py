"""What would make Postgres faster; it is nothing that is wrong."""

from producers.cli.doctor.finding import Finding, Health
from producers.cli.target import Target
from schemas.errors import ServerUnreachable


def examine_advice(target: Target) -> list[Finding]:
    """Missing, unused and doubled indexes, and the upkeep of the tables; nothing where Postgres is away."""
    from runtime.database import Database
    from runtime.database.advice import TooBusy, advise

    database = Database(target.settings.database, "headrace-doctor")
    try:
        report = advise(database)
    except ServerUnreachable:
        # It is told by its own examination.
        return []
    except TooBusy as error:
        return [
            Finding("advice", database.address, Health.ADVICE, "", str(error), "headrace doctor, when it is less busy")
        ]
    finally:
        database.close()
    looked = f"{report.planned} statements" + (f", {report.skipped} skipped" if report.skipped else "")
    if not report.advice:
        return [Finding("advice", database.address, Health.OK, looked)]
    return [
        Finding(
            item.topic.value,
            _escaped(item.subject),
            Health.ADVICE,
            looked,
            _escaped(f"{item.seen}; {item.why}"),
            _escaped(item.step),
        )
        for item in report.advice
    ]


def _escaped(text: str) -> str:
    """Without control characters, which a name or a statement may hold; not cut, for it is to be run."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
