"""A manager beside a model of it: whatever is done in whatever order, both agree on every task."""

from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.tasks import Limits, QueueFull, Task, TaskManager, TaskNotFound, TasksClosed
from runtime.tasks.status import State
from runtime.tasks.timers import Timers
from tests.unit.runtime.gates import PATIENCE_S, Clock, Command, Gate, gated

LIMITS = Limits(threads=2, queued=2, keep=3, keep_s=50.0, grace_s=10.0)
DEADLINE_S = 30.0


@dataclass(eq=False)
class Modelled:
    """What has become of a task, as far as the model knows."""

    task: Task[str]
    gate: Gate
    state: State = "queued"
    reason: State | None = None
    ended_s: float | None = None

    @property
    def ended(self) -> bool:
        return self.ended_s is not None


@dataclass
class Model:
    """Two threads, a queue of two, and a clock."""

    clock: Clock
    all: list[Modelled] = field(default_factory=list)
    #: Whose thread is busy: a task that was given up keeps its own.
    busy: list[Modelled] = field(default_factory=list)
    #: Ended ones, in their order.
    ended: list[Modelled] = field(default_factory=list)
    #: When a deadline passes, and when a thread is given up (which has no reason).
    to_come: list[tuple[float, Modelled, State | None]] = field(default_factory=list)

    @property
    def queued(self) -> list[Modelled]:
        return [one for one in self.all if one.state == "queued"]

    def end(self, one: Modelled, state: State) -> None:
        one.state, one.ended_s = state, self.clock.now_s
        self.ended.append(one)

    def stop(self, one: Modelled, reason: State) -> None:
        if one.ended or one.reason is not None:
            return
        one.reason = reason
        if one.state == "queued":
            self.end(one, reason)
        else:
            self.to_come.append((self.clock.now_s + LIMITS.grace_s, one, None))

    def pass_time(self) -> None:
        due = [entry for entry in self.to_come if entry[0] <= self.clock.now_s]
        self.to_come = [entry for entry in self.to_come if entry not in due]
        # What comes at the same moment comes in the order in which it was begun.
        for _, one, reason in due:
            if reason is not None:
                self.stop(one, reason)
            elif not one.ended:
                self.end(one, one.reason or "cancelled")

    def kept(self) -> list[Modelled]:
        return [
            one
            for one in self.ended[-LIMITS.keep :]
            if one.ended_s is not None and one.ended_s + LIMITS.keep_s > self.clock.now_s
        ]


class TasksAgainstModel(RuleBasedStateMachine):
    """Every step waits for what the model says must happen, and no longer."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.timers = Timers(self.clock, threaded=False)
        self.tasks = TaskManager(LIMITS, timers=self.timers)
        self.model = Model(self.clock)
        self.closed = False

    @rule(with_deadline=st.booleans())
    def submit(self, with_deadline: bool) -> None:
        gate = Gate()
        function = gated.options(when_full="raise", deadline_s=DEADLINE_S if with_deadline else None)
        if self.closed:
            with pytest.raises(TasksClosed):
                self.tasks.submit(function, gate)
            return
        if len(self.model.queued) == LIMITS.queued:
            with pytest.raises(QueueFull):
                self.tasks.submit(function, gate)
            return
        one = Modelled(self.tasks.submit(function, gate), gate)
        if with_deadline:
            self.model.to_come.append((self.clock.now_s + DEADLINE_S, one, "expired"))
        self.model.all.append(one)
        self._start()

    @precondition(lambda self: self.model.busy)
    @rule(data=st.data(), command=st.sampled_from(["return", "raise", "check", "report"]))
    def command(self, data: st.DataObject, command: Command) -> None:
        one = data.draw(st.sampled_from(self.model.busy))
        one.gate.commands.put(command)
        leaves = command in ("return", "raise") or (command == "check" and one.reason is not None)
        if not leaves:
            assert one.gate.obeyed.get(timeout=PATIENCE_S) == command
            return
        assert one.gate.left.wait(PATIENCE_S)
        self.model.busy.remove(one)
        if not one.ended:
            assert one.task.wait(PATIENCE_S)
            end: State = "succeeded" if command == "return" else "failed"
            if command == "check" or one.reason == "expired":
                end = one.reason or end
            self.model.end(one, end)
        self._start()

    @precondition(lambda self: self.model.all)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.model.all))
        assert one.task.cancel() is not one.ended
        self.model.stop(one, "cancelled")

    @rule(seconds=st.sampled_from([1.0, 5.0, 20.0]))
    def wait(self, seconds: float) -> None:
        # In steps, for what is due at one moment puts off what comes of it by a grace.
        until_s = self.clock.now_s + seconds
        while self.clock.now_s < until_s:
            self.clock.now_s += 1.0
            self.timers.run_due()
            self.model.pass_time()

    @precondition(lambda self: not self.model.busy)
    @rule()
    def close(self) -> None:
        self.tasks.close()
        self.closed = True

    @invariant()
    def every_task_is_in_its_state(self) -> None:
        for one in self.model.all:
            assert one.task.status().state == one.state, one
            assert one.gate.started.is_set() == (one.task.started_at is not None)
            assert one.task.ended == one.ended

    @invariant()
    def those_that_are_open_or_kept_are_found_and_no_others(self) -> None:
        found = {one.task.id for one in self.model.all if not one.ended}
        found |= {one.task.id for one in self.model.kept()}
        for one in self.model.all:
            with suppress(TaskNotFound):
                assert self.tasks.get(one.task.id) is one.task
                assert one.task.id in found, one
                continue
            assert one.task.id not in found, one

    @invariant()
    def nothing_is_lost(self) -> None:
        counts = self.tasks.counts()
        ends = counts.succeeded + counts.failed + counts.cancelled + counts.expired
        assert (counts.open, ends) == (len(self.model.all) - len(self.model.ended), len(self.model.ended))

    def teardown(self) -> None:
        for one in self.model.all:
            one.gate.open()
        self.tasks.close(PATIENCE_S)

    def _start(self) -> None:
        """Free threads take the oldest."""
        while len(self.model.busy) < LIMITS.threads and (queued := self.model.queued):
            one = queued[0]
            assert one.gate.started.wait(PATIENCE_S), one
            one.state = "running"
            self.model.busy.append(one)


TestTasksAgainstModel = TasksAgainstModel.TestCase
TestTasksAgainstModel.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
