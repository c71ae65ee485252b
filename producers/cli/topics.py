"""``headrace topics``: compare Kafka's topics with what ``schemas/topics.py`` says, create and mend them."""

from collections.abc import Sequence
from enum import StrEnum

import click

from producers.cli.choices import ChoiceOf
from producers.cli.exits import Exit
from producers.cli.output import Format, Table, form_option, note, show
from producers.cli.target import Target, targeted
from runtime.topic_admin import TopicAdmin
from runtime.topic_differences import COPIES, Difference
from schemas import topics as contract

#: Which brokers take more copies, and how fast, nobody but the cluster's operator can say.
REASSIGN = "kafka-reassign-partitions.sh --execute"


class Action(StrEnum):
    """What to do about the topics."""

    COMPARE = "compare"
    CREATE = "create"
    MEND = "mend"


@click.command()
@click.argument("action", type=ChoiceOf(Action), default=Action.COMPARE, metavar="[compare|create|mend]")
@targeted
@form_option
def topics(target: Target, action: Action, form: Format) -> int:
    """Compare the topics with the contract, create those that are missing, or mend all.

    compare lists the differences, and exits with 1 where there are any. create leaves existing topics
    as they are. mend also gives them the contract's settings and number of partitions; what it can't mend
    is the number of copies, and it exits with 1 where there are too few.
    """
    admin = TopicAdmin(target.settings.kafka)
    match action:
        case Action.COMPARE:
            return _compare(admin, form)
        case Action.CREATE:
            created = admin.create_missing()
            _list(form, [topic.name for topic in created])
            if created and (copies := admin.copies()) < contract.COPIES:
                note(f"Copies of each record: {copies}. A cluster of {contract.COPIES} brokers would have more.")
            _tell(admin.differences())
        case Action.MEND:
            found = admin.differences()
            left = admin.mend(found)
            _list(form, sorted({item.topic.name for item in found if item not in left}))
            _tell(left)
            return Exit.FAILED if left else Exit.OK
    return Exit.OK


def repair(found: Sequence[Difference]) -> str:
    """The line that mends the differences."""
    if all(item.setting == COPIES for item in found):
        return REASSIGN
    return f"headrace topics {'create' if all(item.found is None for item in found) else 'mend'}"


def _tell(found: Sequence[Difference]) -> None:
    for item in found:
        note(f"{item.topic.name}: {item.setting} is {item.found}, not {item.wanted}: `{repair([item])}`")


def _compare(admin: TopicAdmin, form: Format) -> int:
    found = admin.differences()
    items = [
        {"topic": item.topic.name, "setting": item.setting, "wanted": item.wanted, "found": item.found}
        for item in found
    ]
    rows = [(item.topic.name, item.setting, item.wanted, item.found or "missing") for item in found]
    names = sorted({item.topic.name for item in found})
    show(form, items, names, lambda: Table(("TOPIC", "SETTING", "WANTED", "FOUND"), rows))
    note(f"`{repair(found)}` mends it." if found else "Every topic is as the contract says.")
    return Exit.FAILED if found else Exit.OK


def _list(form: Format, changed: Sequence[str]) -> None:
    show(form, changed, changed, lambda: Table(("CHANGED",), [(name,) for name in changed]))
