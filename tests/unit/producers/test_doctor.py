"""The doctor, when an examination itself is ill."""

import threading
from pathlib import Path

import pytest

from producers.cli.doctor import examine, verdict
from producers.cli.doctor.finding import Finding, Health
from producers.cli.exits import Exit
from producers.cli.target import Target
from runtime.topic_admin import TopicRefused

TARGET = Target.resolve({}, Path("/no/stack.env"), "127.0.0.1:1", None, "default")
WELL = Finding("redis", "", Health.OK)


def refused(target: Target) -> list[Finding]:
    raise TopicRefused(f"Topic t at {target.settings.kafka}: no access")


def broken(target: Target) -> list[Finding]:
    raise KeyError(target.tenant)


def test_an_examination_that_fails_is_a_finding_and_hides_no_other() -> None:
    found = examine(TARGET, {"kafka": refused, "postgres": broken, "redis": lambda _: [WELL]})

    assert [(item.name, item.health) for item in found] == [
        ("kafka", Health.WRONG), ("postgres", Health.WRONG), ("redis", Health.OK),
    ]  # fmt: skip
    assert "Topic t at 127.0.0.1:1: no access" in found[0].problem
    assert "KeyError" in found[1].problem


def test_what_hangs_is_told_with_a_variable_that_there_is() -> None:
    over = threading.Event()

    def hangs(_target: Target) -> list[Finding]:
        over.wait()
        return []

    found = examine(TARGET, {"postgres": hangs, "dispatcher": hangs}, patience_s=0.0)
    over.set()
    assert {item.health for item in found} == {Health.UNREACHABLE}
    assert "HEADRACE_DATABASE" in found[0].repair
    assert "HEADRACE" not in found[1].repair


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ([], Exit.OK),
        ([Health.OK, Health.ADVICE], Exit.OK),
        ([Health.ADVICE, Health.WRONG], Exit.FAILED),
        ([Health.WRONG, Health.UNREACHABLE, Health.ADVICE], Exit.UNREACHABLE),
    ],
)
def test_advice_is_nothing_wrong(found: list[Health], status: Exit) -> None:
    assert verdict([Finding("x", "", health) for health in found]) is status
