"""What becomes of one request: admitted, refused with a code, or expired. Pure functions."""

import logging
import re
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from runtime.database.admissions import Admission, Admitted, Source, request_digest
from runtime.settings import CODE_VERSION
from schemas.codec import child_traceparent, decode_request, derived_id, digest, new_traceparent, readable_id
from schemas.dead_letters import HEADERS, DeadLetter
from schemas.errors import HeadraceError, IdConflict, JobExpired, QuotaExceeded, RequestRefused
from schemas.requests import Request
from schemas.results import ErrorInfo, Lineage, ResultEvent, Terminal
from schemas.topics import Kind
from streams.chunks import Record
from streams.costs import cost_of

log = logging.getLogger(__name__)

#: A number of refusals that a client may have written itself: short, so that it is cheap to read.
_COUNT: Final = re.compile(rb"[0-9]{1,6}")
Headers = list[tuple[str, bytes | None]]


class Verdict(Struct, frozen=True):
    """A record, judged.

    ``refusal`` makes it a dead letter. ``admission`` is what the database gets and the world is told:
    None where neither the request nor its id could be read.
    """

    record: Record
    admission: Admission | None
    refusal: RequestRefused | None = None


def judge(kind: Kind, record: Record, now: datetime) -> Verdict:
    """Admit the request of a record, or say why not."""
    case = _Case(kind, record, now)
    headers = {name: value for name, value in record.headers if value is not None}
    try:
        return case.accepted(decode_request(kind, record.value, headers))
    except RequestRefused as refusal:
        return case.refused(refusal)
    except Exception:
        # The bytes are anybody's. If the decoder does not survive one, that is a bug of ours, but the
        # others' requests behind it must not wait until it is mended; the dead letter keeps it.
        log.exception("%s-%s-%s broke the decoder", record.topic, record.partition, record.offset)
        unread = RequestRefused("The request could not be read, by a fault of Headrace. Report it, then replay it.")
        return case.refused(unread)


def confirm(verdict: Verdict, fate: Admitted) -> Verdict:
    """The verdict once the database has compared it with what it knows; what is left of it is to be published.

    A record that was refused and is read again repeats its dead letter and its state, for a crash may have
    come before them. One that was admitted does not say that it is queued, for the job may be further by now;
    what is said of it this time (that it is late, or over a quota) comes too late to count.
    """
    admission = verdict.admission
    match fate:
        case Admitted.NEW:
            return verdict
        case Admitted.REREAD:
            return Verdict(verdict.record, None)
        case Admitted.REFUSED:
            if admission and admission.rejection:
                return verdict
            # Only where it was over its tenant's quota the first time.
            return Verdict(verdict.record, None, RequestRefused("It was refused before; its job's result tells why."))
        case Admitted.REPEATED:
            return Verdict(verdict.record, None, _of_itself(verdict))
        case Admitted.CONFLICT:
            assert admission is not None
            refusal = _of_itself(verdict) or IdConflict(admission.tenant, admission.id)
            return Verdict(verdict.record, None, refusal)


def _of_itself(verdict: Verdict) -> RequestRefused | None:
    """Why the request is refused, but for a quota: its job is there already, and asks for no room."""
    return None if isinstance(verdict.refusal, QuotaExceeded) else verdict.refusal


def is_late(verdict: Verdict) -> bool:
    """Whether the request's deadline had passed by the time at which it was judged."""
    row = verdict.admission
    return bool(row and row.rejection and row.rejection.status is Terminal.EXPIRED)


def refuse(verdict: Verdict, refusal: RequestRefused) -> Verdict:
    """The verdict on a request that is valid, and refused all the same."""
    admission = verdict.admission
    assert admission is not None
    return Verdict(verdict.record, _ended(admission, Terminal.FAILED, refusal), refusal)


def dead_letter_headers(record: Record, refusal: RequestRefused) -> Headers:
    """The headers of the record's dead letter; its key and its value stay as they are."""
    letter = DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        attempts=_attempts(record),
        error_code=refusal.code,
        error_message=str(refusal),
    )
    # Those of an earlier refusal would pile up with each replay.
    kept = [(name, value) for name, value in record.headers if name not in HEADERS.values()]
    return [*kept, *letter.headers()]


def submitted_at(record: Record, now: datetime) -> datetime:
    """The record's time, or now where its sender's clock is ahead or wrote none."""
    at_s = record.timestamp / 1e3
    return datetime.fromtimestamp(at_s, UTC) if 0 < at_s <= now.timestamp() else now


def traceparent_of(record: Record) -> str:
    """A span in the trace that the request came with, or a trace of its own."""
    given = [value for name, value in record.headers if name == "traceparent" and value is not None]
    return child_traceparent(given[0].decode(errors="replace")) if given else new_traceparent()


def _attempts(record: Record) -> int:
    """How often the request was refused, this time included."""
    before = [value for name, value in record.headers if name == HEADERS["attempts"] and value is not None]
    return 1 + (int(before[-1]) if before and _COUNT.fullmatch(before[-1]) else 0)


class _Case(Struct, frozen=True):
    kind: Kind
    record: Record
    now: datetime

    def accepted(self, request: Request) -> Verdict:
        record = self.record
        key = (request.tenant, request.id or derived_id(record.topic, record.partition, record.offset))
        sha256 = request_digest(request)[1]
        admission = self._admission(key, request, sha256)
        if request.deadline is None or request.deadline > self.now:
            return Verdict(record, admission)
        late = JobExpired(
            f"The deadline {request.deadline.isoformat()} had passed when the request was admitted, at "
            f"{self.now.isoformat(timespec='seconds')}. Submit it again under a new id with a later one."
        )
        return Verdict(record, _ended(admission, Terminal.EXPIRED, late))

    def refused(self, refusal: RequestRefused) -> Verdict:
        key = readable_id(self.record.value)
        if key is None:
            return Verdict(self.record, None, refusal)
        admission = self._admission(key, None, digest(self.record.value or b""))
        return Verdict(self.record, _ended(admission, Terminal.FAILED, refusal), refusal)

    def _admission(self, key: tuple[str, str], request: Request | None, sha256: str) -> Admission:
        return Admission(
            tenant=key[0],
            id=key[1],
            kind=self.kind,
            request=request,
            request_sha256=sha256,
            traceparent=traceparent_of(self.record),
            source=Source(self.record.topic, self.record.partition, self.record.offset),
            submitted_at=submitted_at(self.record, self.now),
            queued_at=self.now,
            cost=cost_of(request) if request else 1,
        )


def _ended(admission: Admission, status: Terminal, reason: HeadraceError) -> Admission:
    """The admission of a request that will not run."""
    end = ResultEvent(
        job_id=admission.id,
        tenant=admission.tenant,
        kind=admission.kind,
        status=status,
        attempt=1,
        finished_at=admission.queued_at,
        error=ErrorInfo(reason.code, str(reason), reason.retryable),
        lineage=Lineage(request=admission.request_sha256, code=CODE_VERSION),
    )
    return replace(admission, rejection=end)
