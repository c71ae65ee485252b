"""``headrace topics``: compare Kafka's topics with what ``schemas/topics.py`` says, create and mend them."""

from collections.abc import Sequence
from enum import StrEnum

import click

from producers.cli.choices import ChoiceOf
from producers.cli.exits import Exit
from producers.cli.output import Format, Table, form_option, note, show
from producers.cli.target import Target, targeted
from runtime.topic_admin import Difference, TopicAdmin


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
    as they are. mend also gives them the contract's settings and number of partitions.
    """
    admin = TopicAdmin(target.settings.kafka)
    match action:
        case Action.COMPARE:
            return _compare(admin, form)
        case Action.CREATE:
            _list(form, [topic.name for topic in admin.create_missing()])
            for item in admin.differences():
                note(f"{item.topic.name}: {item.setting} is {item.found}, not {item.wanted}: `headrace topics mend`")
        case Action.MEND:
            found = admin.differences()
            admin.mend(found)
            _list(form, sorted({item.topic.name for item in found}))
    return Exit.OK


def repair(found: Sequence[Difference]) -> str:
    """The line that mends the differences."""
    return f"headrace topics {'create' if all(item.found is None for item in found) else 'mend'}"


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
