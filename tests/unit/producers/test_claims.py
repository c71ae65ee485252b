"""Results under ids that a client gave."""

from datetime import UTC, datetime
from typing import Any

import pytest

from producers.claims import Claims
from producers.sender import Sender
from schemas.errors import IdConflict
from schemas.requests import Dataset, EvaluateRequest, FineTuneRequest, GenerateRequest, Request
from schemas.results import Lineage, ResultEvent, Terminal
from schemas.topics import Kind
from streams.admission import judge
from tests.unit.streams.records import FakeRecord

PROMPT = GenerateRequest(model="m", prompt="p", id="mine")


def ended(digest: str, job_id: str = "mine") -> ResultEvent:
    return ResultEvent(
        job_id=job_id,
        tenant="default",
        kind=Kind.GENERATE,
        status=Terminal.SUCCEEDED,
        attempt=1,
        finished_at=datetime.now(UTC),
        lineage=Lineage(request=digest),
    )


class Kept:
    """A publisher that keeps the values."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    def publish(self, topic: object, event: Any, **fields: object) -> None:  # noqa: ARG002
        self.values.append(bytes(event))

    def close(self, timeout_s: float) -> None:
        """Nothing is open."""


def digest_of(request: Request, kind: Kind, claims: Claims) -> str:
    """What the dispatcher takes for the request's digest once this client has sent it."""
    sender, kept = Sender("127.0.0.1:1", "default", claims), Kept()
    vars(sender)["_publisher"].close(0)
    vars(sender)["_publisher"] = kept
    sender.send(request, request.id or "new", None)
    admission = judge(kind, FakeRecord(kept.values[0]), datetime.now(UTC)).admission
    assert admission is not None
    return admission.request_sha256


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (PROMPT, Kind.GENERATE),
        # Whole numbers where there may be fractions, another time zone, and a default that is written out.
        (GenerateRequest(model="m", prompt="p", id="mine", temperature=1, top_p=1), Kind.GENERATE),
        (GenerateRequest(model="m", prompt="p", id="mine", deadline=datetime.now().astimezone()), Kind.GENERATE),
        (FineTuneRequest(model="m", dataset=Dataset(uri="d"), id="mine"), Kind.FINETUNE),
        (EvaluateRequest(model="m", dataset=Dataset(uri="d"), id="mine"), Kind.EVALUATE),
    ],
)
def test_the_result_of_ones_own_request_is_no_conflict(request_: Request, kind: Kind) -> None:
    claims = Claims()
    assert claims.conflict(ended(digest_of(request_, kind, claims))) is None


def test_the_result_of_another_request_is_a_conflict_that_is_told_once() -> None:
    claims = Claims()
    other = digest_of(GenerateRequest(model="m", prompt="another", id="mine"), Kind.GENERATE, Claims())
    digest_of(PROMPT, Kind.GENERATE, claims)

    assert isinstance(claims.conflict(ended(other)), IdConflict)
    assert claims.conflict(ended(other)) is None


def test_ids_that_were_not_given_and_results_that_tell_no_request_are_no_conflict() -> None:
    claims = Claims()
    digest_of(GenerateRequest(model="m", prompt="p"), Kind.GENERATE, claims)
    digest_of(PROMPT, Kind.GENERATE, claims)

    assert claims.conflict(ended("0" * 64, "new")) is None
    assert claims.conflict(ended("")) is None
