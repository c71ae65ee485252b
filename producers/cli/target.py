"""Which stack a command talks to: options, else the environment, else the stack that ``make up`` started."""

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec

import click

from deploy.local.paths import DEFAULT_STACK, StackPaths
from producers.client import Headrace
from runtime.settings import Settings
from schemas.requests import DEFAULT_TENANT

Options = ParamSpec("Options")


@dataclass(frozen=True, kw_only=True)
class Target:
    """The servers of one stack, and for which tenant they are asked."""

    settings: Settings
    tenant: str
    #: Where the addresses were read, for ``headrace doctor``.
    origin: str
    #: None: the topics alone are read.
    database: str | None
    metrics_url: str
    #: Whether the addresses are those of `headrace up`.
    is_local_stack: bool = False

    @classmethod
    def resolve(
        cls, env: Mapping[str, str], stack_file: Path, kafka: str | None, database: str | None, tenant: str
    ) -> "Target":
        """The stack that the options name, else the environment, else the file.

        The first that names Kafka gives all addresses: those of two stacks are never mixed.

        Raises:
            InvalidSetting: an address has the wrong form.
        """
        is_local_stack = False
        if kafka:
            env, origin = {**env, "HEADRACE_KAFKA": kafka, "HEADRACE_DATABASE": database or ""}, "--kafka"
        elif env.get("HEADRACE_KAFKA"):
            origin = "the environment"
        elif stack_file.exists():
            env, origin, is_local_stack = {**env, **read_env(stack_file.read_text())}, str(stack_file), True
        else:
            origin = "no setting: the default"
        if database:
            env = {**env, "HEADRACE_DATABASE": database}
        settings = Settings.from_env(env)
        return cls(
            settings=settings,
            tenant=tenant,
            origin=origin,
            database=settings.database if env.get("HEADRACE_DATABASE") else None,
            is_local_stack=is_local_stack,
            metrics_url=env.get("HEADRACE_METRICS") or f"http://127.0.0.1:{settings.metrics_port}",
        )

    def connect(self) -> Headrace:
        """A client for this stack.

        Raises:
            ServerUnreachable: Kafka does not answer.
            TopicsMissing: the topics were not created.
        """
        return Headrace(self.settings.kafka, self.tenant, self.database)

    def start(self, variable: str) -> str:
        """The line that brings a missing server."""
        return "headrace up" if self.is_local_stack else f"headrace up, or set HEADRACE_{variable} to the right address"

    def run(self, module: str) -> str:
        """The line that starts a missing process of ours."""
        return "headrace down && headrace up" if self.is_local_stack else f"python -m {module}"


def read_env(text: str) -> dict[str, str]:
    """The variables of a ``stack.env``: one ``NAME=value`` a line."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def targeted(command: Callable[Concatenate[Target, Options], int]) -> Callable[..., int]:
    """Add the options that choose a stack, and pass what they come to as the first argument."""

    @click.option("--kafka", metavar="HOST:PORT", help="[default: HEADRACE_KAFKA, else var/stack.env]")
    @click.option("--database", metavar="URL", help="[default: HEADRACE_DATABASE, else var/stack.env]")
    @click.option(
        "--tenant",
        envvar="HEADRACE_TENANT",
        default=DEFAULT_TENANT,
        show_default=True,
        help="Whose jobs they are.",
    )
    @functools.wraps(command)
    def with_target(
        kafka: str | None, database: str | None, tenant: str, *args: Options.args, **kwargs: Options.kwargs
    ) -> int:
        file = StackPaths(DEFAULT_STACK).environment
        return command(Target.resolve(os.environ, file, kafka, database, tenant), *args, **kwargs)

    return with_target
