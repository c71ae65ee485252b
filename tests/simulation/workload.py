"""What clients ask for: requests of every sort, and what has to become of each."""

import json
import random
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from schemas.events import ControlEvent
from schemas.topics import REQUESTS, Kind
from tests.simulation.clock import at
from tests.simulation.tables import Key

TENANTS: Final = ("a", "b")
MODELS: Final = ("m1", "m2")
#: Requests come within this time.
SUBMIT_S: Final = 14.0


class Ending(Enum):
    """How a handler ends."""

    SUCCEEDS = "succeeds"
    #: With an error of the job's own making.
    FAILS = "fails"
    #: By killing its process.
    KILLS = "kills"


class Fate(Enum):
    """What the sender of a record is owed."""

    #: A job that runs to its plan's end; or a dead letter, where another request had its id before.
    RUNS = "runs"
    #: A failed result and a dead letter.
    REFUSED = "refused"
    #: A dead letter: no id can be read.
    DEAD_LETTER = "dead letter"
    #: An expired result.
    EXPIRES = "expires"


@dataclass(frozen=True)
class Plan:
    """What a job's handler does: ``steps`` of ``step_s`` each, then its ending.

    With ``keeps`` it leaves checkpoints, and goes on from the last one.
    """

    steps: int
    step_s: float
    ending: Ending
    keeps: bool = False


@dataclass(frozen=True)
class Submission:
    """A record of a request topic, sent at ``at_s``; what it asks for, and what is due."""

    at_s: float
    kind: Kind
    value: bytes
    fate: Fate
    key: Key | None
    plan: Plan | None


@dataclass(frozen=True)
class SentWish:
    """What a client wants of a job, from ``at_s`` on."""

    at_s: float
    event: ControlEvent


@dataclass
class Workload:
    """Everything that is sent in one simulation, and every job's plan."""

    submissions: list[Submission] = field(default_factory=list)
    plans: dict[Key, Plan] = field(default_factory=dict)
    wishes: list[SentWish] = field(default_factory=list)

    def cancelled(self, key: Key) -> bool:
        """Whether a client has cancelled the job."""
        return any(
            (wish.event.tenant, wish.event.job_id) == key and wish.event.action == "cancel" for wish in self.wishes
        )


def draw(rng: random.Random) -> Workload:
    """Requests with all that clients do: the same id in two tenants, repeats, conflicts, nonsense."""
    load = Workload()
    poison = rng.random() < 0.35
    for number in range(rng.randint(6, 18)):
        _add(load, rng, number, poison=poison and number % 8 == 3)
    load.wishes.sort(key=lambda wish: wish.at_s)
    load.submissions.sort(key=lambda submission: submission.at_s)
    return load


def _add(load: Workload, rng: random.Random, number: int, *, poison: bool) -> None:
    kind = rng.choices(list(Kind), (6, 2, 1))[0]
    key = (rng.choice(TENANTS), f"j{number}")
    at_s = rng.uniform(0.0, SUBMIT_S)
    draw_s = rng.random()
    if draw_s < 0.05:
        load.submissions.append(Submission(at_s, kind, b"{not json", Fate.DEAD_LETTER, None, None))
        return
    if draw_s < 0.10:
        value = _body(kind, key, model=7)
        load.submissions.append(Submission(at_s, kind, value, Fate.REFUSED, key, None))
        return
    if draw_s < 0.14:
        value = _body(kind, key, deadline=at(-60.0).isoformat())
        load.submissions.append(Submission(at_s, kind, value, Fate.EXPIRES, key, None))
        return
    plan = _plan(rng, kind, poison=poison)
    priority = rng.choice(("high", "normal", "normal", "batch"))
    limit = {"deadline": at(at_s + rng.uniform(0.5, 10.0)).isoformat()} if rng.random() < 0.12 else {}
    first = Submission(at_s, kind, _body(kind, key, priority=priority, **limit), Fate.RUNS, key, plan)
    load.submissions.append(first)
    load.plans[key] = plan
    _add_wishes(load, rng, key, at_s)
    if rng.random() < 0.15:
        load.submissions.append(replace(first, at_s=at_s + rng.uniform(0.0, 5.0)))
    if rng.random() < 0.10:
        # Whichever is read first owns the id; the other is a conflict.
        rival = _body(kind, key, priority=priority, suffix="r") if kind is Kind.FINETUNE else b""
        rival = rival or _body(kind, key, priority=priority, seed=number + 1)
        load.submissions.append(Submission(at_s + rng.uniform(0.0, 4.0), kind, rival, Fate.RUNS, key, plan))
    if rng.random() < 0.15:
        tenant = TENANTS[1 - TENANTS.index(key[0])]
        twin = (tenant, key[1])
        load.plans[twin] = _plan(rng, kind, poison=False)
        value = _body(kind, twin, priority=priority)
        later_s = at_s + rng.uniform(0.0, 3.0)
        load.submissions.append(Submission(later_s, kind, value, Fate.RUNS, twin, load.plans[twin]))


def _add_wishes(load: Workload, rng: random.Random, key: Key, at_s: float) -> None:
    """Now and then a client changes its mind, also before its request was read."""
    tenant, job_id = key
    draw_s = rng.random()
    wish_s = at_s + rng.uniform(-0.5, 4.0)
    if draw_s < 0.12:
        load.wishes.append(SentWish(wish_s, ControlEvent(action="cancel", tenant=tenant, job_id=job_id)))
    elif draw_s < 0.20:
        resume_s = wish_s + rng.uniform(0.0, 6.0)
        load.wishes.append(SentWish(wish_s, ControlEvent(action="pause", tenant=tenant, job_id=job_id)))
        resume = ControlEvent(action="resume", tenant=tenant, job_id=job_id)
        load.wishes.append(SentWish(resume_s, resume))
        # A second one makes sure that nothing waits for ever: the first may be read before the pause of a late job.
        load.wishes.append(SentWish(resume_s + 8.0, resume))


def _plan(rng: random.Random, kind: Kind, *, poison: bool) -> Plan:
    if poison:
        return Plan(rng.randint(1, 3), rng.uniform(0.05, 0.5), Ending.KILLS)
    ending = Ending.FAILS if rng.random() < 0.1 else Ending.SUCCEEDS
    long = kind is not Kind.GENERATE or rng.random() < 0.2
    if long:
        return Plan(rng.randint(3, 6), rng.uniform(0.5, 2.0), ending, keeps=kind is not Kind.GENERATE)
    return Plan(2, rng.uniform(0.01, 0.3), ending)


def _body(kind: Kind, key: Key, **fields: object) -> bytes:
    what: dict[str, object] = {"prompt": "p"} if kind is Kind.GENERATE else {"dataset": {"uri": "file:d"}}
    return json.dumps({"model": MODELS[len(key[1]) % 2], "tenant": key[0], "id": key[1], **what, **fields}).encode()


def topic_of(submission: Submission) -> str:
    """Where the record goes."""
    return REQUESTS[submission.kind].name
