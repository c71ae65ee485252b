"""The one place where data become text: a table for people, JSON, YAML or names for programs, on stdout."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import click
import msgspec

from producers.cli.choices import ChoiceOf


class Format(StrEnum):
    """How a command writes its data."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


#: The option ``-o``, which a command takes as ``form``.
form_option: Callable[[Callable[..., int]], Callable[..., int]] = click.option(
    "-o",
    "--output",
    "form",
    type=ChoiceOf(Format),
    default=Format.TABLE,
    show_default=True,
)


@dataclass(frozen=True)
class Table:
    """What a person sees: cells by row, under column names if there are any."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def show(form: Format, items: object, names: Sequence[str], table: Callable[[], Table]) -> None:
    """Write ``items`` in the asked form; a table and names are views of the same."""
    match form:
        case Format.TABLE:
            show_table(table())
        case Format.JSON:
            click.echo(msgspec.json.format(msgspec.json.encode(items), indent=2))
        case Format.YAML:
            click.echo(msgspec.yaml.encode(items), nl=False)
        case Format.NAME:
            for name in names:
                click.echo(name)


def show_table(table: Table) -> None:
    """Write aligned columns; on a terminal the names are bold, elsewhere the rows are never cut."""
    if not table.rows:
        return
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(box=None, pad_edge=False, header_style="bold", show_header=bool(table.columns))
    for place in range(len(table.rows[0])):
        grid.add_column(table.columns[place] if table.columns else "", overflow="fold")
    for row in table.rows:
        # Text, not markup: a prompt may hold square brackets.
        grid.add_row(*(Text(cell) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else 100_000)
    console.print(grid, soft_wrap=not sys.stdout.isatty())


def note(text: str) -> None:
    """Tell the person at the terminal; never part of the data."""
    click.echo(text, err=True)
