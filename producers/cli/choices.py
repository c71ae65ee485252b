"""An option that takes one of an enum's values."""

from enum import StrEnum
from typing import TypeVar

import click

Value = TypeVar("Value", bound=StrEnum)


class ChoiceOf(click.Choice[Value]):
    """As ``click.Choice``, which takes an enum's names where the contract has its values."""

    def normalize_choice(self, choice: Value | str, ctx: click.Context | None) -> str:  # noqa: ARG002
        """What the user types for this choice."""
        return str(choice)
