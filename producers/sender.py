"""Requests on their way to Kafka: checked as the intake will check them, then sent once and acknowledged."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Final

import msgspec

from producers.claims import Claims
from producers.errors import ClientClosed
from producers.ids import new_job_id
from runtime.kafka import BufferFull, Delivery, Publisher
from schemas.codec import decode_control, decode_request, encode, new_traceparent
from schemas.errors import InvalidRequest, ServerUnreachable, shown
from schemas.events import ControlEvent
from schemas.requests import DEFAULT_TENANT, REQUEST_TYPES, Request
from schemas.topics import CONTROL, REQUESTS, Kind, Topic

#: What Kafka has not acknowledged by then is reported as not sent.
ACKNOWLEDGE_MS: Final = 10_000
#: What is held for Kafka at most: it takes that within ``ACKNOWLEDGE_MS`` where it takes 7 MB/s.
BUFFERED_KB: Final = 65_536
#: Requests that ``send_all`` has on their way at once.
IN_FLIGHT: Final = 10_000
#: librdkafka looks once a second for what was not acknowledged in time, and tells of it then.
REPORT_S: Final = 2.0
#: Less than a worker's, as a client often sends one request and waits.
LINGER_MS: Final = 1

_KINDS: Final = {request_type: kind for kind, request_type in REQUEST_TYPES.items()}


class Sender:
    """Sends for one tenant; any thread may use it, and none waits."""

    def __init__(self, kafka: str, tenant: str, claims: Claims, acknowledge_ms: int = ACKNOWLEDGE_MS) -> None:
        self._kafka = kafka
        self._tenant = tenant
        self._claims = claims
        self._close_s = acknowledge_ms / 1_000 + REPORT_S
        # Not idempotent: the first event would wait half a second for a producer id, and the intake
        # runs a request once however often its record is there.
        self._publisher = Publisher(
            kafka, "client", LINGER_MS, acknowledge_ms, idempotent=False, buffered_kb=BUFFERED_KB
        )
        self._lock = threading.Lock()
        #: What Kafka has not told of yet; None once the sender is closed.
        self._open: set[Future[str]] | None = set()

    def send(self, request: Request, job_id: str, traceparent: str | None) -> Future[str]:
        """Send a request under this id, which is its key and its idempotency key: a copy of it is run once.

        Raises:
            InvalidRequest: a field is out of range, or the tenant is another.
            RequestTooLarge: it is over the size limit.
            BufferFull: too much waits for Kafka already.
            ClientClosed: the sender is closed.
        """
        kind = kind_of(request)
        return self._publish(REQUESTS[kind], self._checked(request, kind, job_id), job_id, job_id, traceparent)

    def control(self, event: ControlEvent) -> Future[str]:
        """Send a wish about a job. The same wish has the same event id: cancelling twice is cancelling.

        Raises:
            InvalidRequest: an id has the wrong form, or the reason is too long.
            BufferFull, ClientClosed: as ``send``.
        """
        value = encode(event)
        decode_control(value, {})
        event_id = f"{event.tenant}/{event.job_id}/{event.action}"
        return self._publish(CONTROL, value, event.job_id, event_id, None)

    def close(self) -> None:
        """Wait for what is on its way, as long as Kafka may take; whoever waits then gets ``ClientClosed``."""
        self._publisher.close(self._close_s)
        with self._lock:
            left, self._open = self._open, None
        for sent in left or ():
            sent.set_exception(ClientClosed())

    def _checked(self, request: Request, kind: Kind, job_id: str) -> bytes:
        if request.tenant not in (DEFAULT_TENANT, self._tenant):
            raise InvalidRequest(
                f"The request's tenant is {shown(request.tenant)}, this client's is {shown(self._tenant)}. "
                "Leave it out, or connect as that tenant."
            )
        try:
            value = encode(msgspec.structs.replace(request, id=job_id, tenant=self._tenant))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidRequest(f"The request can't be written as JSON: {error}") from error
        # A struct made in Python was never validated; better now than as a dead letter.
        checked = decode_request(kind, value, {})
        if request.id:
            # As the intake reads it, and as it is, where that refuses it.
            self._claims.add(job_id, encode(checked), value)
        return value

    def _publish(self, topic: Topic, value: bytes, job_id: str, event_id: str, traceparent: str | None) -> Future[str]:
        sent: Future[str] = Future()
        # Kafka can't be told to forget it, so it can't be cancelled.
        sent.set_running_or_notify_cancel()
        with self._lock:
            if self._open is None:
                raise ClientClosed
            self._open.add(sent)

        def settle(delivery: Delivery) -> None:
            if not self._forget(sent):
                return
            if delivery.error:
                sent.set_exception(ServerUnreachable("Kafka", self._kafka, delivery.error))
            else:
                sent.set_result(job_id)

        try:
            self._publisher.publish(
                topic,
                msgspec.Raw(value),
                key=job_id,
                event_id=event_id,
                traceparent=traceparent or new_traceparent(),
                on_delivery=settle,
            )
        except BaseException:
            self._forget(sent)
            raise
        return sent

    def _forget(self, sent: "Future[str]") -> bool:
        """Whether it was not told yet what became of it; whoever asks first tells."""
        with self._lock:
            if self._open is None or sent not in self._open:
                return False
            self._open.remove(sent)
            return True


def send_all(sends: Iterable[Callable[[], Future[str]]]) -> list[str]:
    """Send requests in their order, as fast as Kafka takes them, and wait until it has all; their ids.

    Raises: what the first that fails raises.
    """
    ids: list[str] = []
    waiting: deque[Future[str]] = deque()
    for send in sends:
        if len(waiting) == IN_FLIGHT:
            ids.append(waiting.popleft().result())
        while True:
            try:
                waiting.append(send())
                break
            except BufferFull:
                # Large ones fill the buffer before they are many. Where none is ours, room is not ours to wait for.
                if not waiting:
                    raise
                ids.append(waiting.popleft().result())
    return ids + [sent.result() for sent in waiting]


def id_of(request: Request) -> str:
    """The id that the request was given, or a new one.

    Raises:
        InvalidRequest: it is no request.
    """
    kind = kind_of(request)
    return request.id or new_job_id(kind)


def kind_of(request: Request) -> Kind:
    """What is asked for.

    Raises:
        InvalidRequest: it is no request.
    """
    kind = _KINDS.get(type(request))
    if kind is None:
        names = ", ".join(request_type.__name__ for request_type in _KINDS)
        raise InvalidRequest(f"{shown(request)} is not a request: pass one of {names}.")
    return kind
