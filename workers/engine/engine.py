"""The thread that decodes for every job of a worker: all rows of all models, a step at a time."""

import asyncio
import logging
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Final, Self

import torch

from schemas.errors import OutOfMemory
from schemas.requests import Priority
from workers.broken import WorkerBroken
from workers.engine.admission import Admission
from workers.engine.lane import Lane
from workers.engine.row import Completion, Ended, Row
from workers.engine.sampling import Sampling
from workers.models import LoadedModel
from workers.models.device import check_device
from workers.models.room import is_out_of_memory
from workers.turns import URGENCY

#: How often waiting rows are looked through for stopped jobs; running rows are at every step.
SWEEP_S: Final = 0.1

log = logging.getLogger(__name__)


class EngineClosed(WorkerBroken):
    """Nothing is decoded any more: the job's attempt ends without an outcome, and the job is given to another."""


class Engine:
    """Continuous batching (Yu et al., 2022, Orca): rows join and leave at every step.

    Each model has a lane, and lanes take turns, a step each, so that none starves. At most
    ``max_rows`` rows a lane and ``max_tokens`` tokens of keys and values over all lanes are decoded
    at once; further rows wait, those of urgent jobs the shortest, and those of equal jobs in turns.
    """

    def __init__(self, *, max_rows: int = 64, max_tokens: int = 262_144) -> None:
        self.max_rows: Final = max_rows
        self._admission = Admission(max_rows, max_tokens)
        self._inbox: SimpleQueue[Row | None] = SimpleQueue()
        self._lanes: dict[str, Lane] = {}
        self._closing = Lock()
        self._closed = False
        self._reason = "the worker leaves"
        self._swept_at_s = 0.0
        self._submitted = self._ended = 0
        self._active = 0  # as of the last step
        self._thread = Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to decode."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the step that runs; what has not ended fails with ``EngineClosed``. Idempotent.

        The engine ends by itself where the device computes no more, or by a bug of its own.
        """
        with self._closing:
            if not self._closed:
                self._closed = True
                self._inbox.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def active(self) -> int:
        """Rows that are decoded at this moment."""
        return self._active

    @property
    def waiting(self) -> int:
        """Rows that wait for room."""
        return max(0, self._submitted - self._ended - self._active)

    def submit(
        self,
        model: LoadedModel,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        *,
        check: Callable[[], None],
        on_text: Callable[[str], None] | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> "asyncio.Future[Completion]":
        """Continue a prompt of at least one token; called on an event loop, which gets the answer.

        ``check`` is called before every step, in the engine's thread: what it raises ends the row and
        comes out of the future. Rows of one job pass an equal ``check``, by which they are known: it is
        called once for all. Cancelling the future ends the row too. ``on_text`` gets the text piece by
        piece, in the engine's thread. The rows of one prompt should share one tuple of its tokens.

        Raises:
            EngineClosed: the engine was closed, or has ended by itself.
        """
        if not prompt_ids:
            raise ValueError("A prompt has at least one token; an empty one has nothing to continue")
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        ids = tuple(prompt_ids)
        with self._closing:
            if self._closed:
                raise self._closed_by()
            self._submitted += 1
            urgency = URGENCY[priority]
            self._inbox.put(Row(self._submitted, model, ids, sampling, check, on_text, future, urgency))
        return future

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while self._receive():
                    self._turn()
        except WorkerBroken as error:
            log.error("%s", error)
            self._give_up(str(error), self._closed_by)
        except Exception as error:
            log.exception("The engine ends by a bug of its own")
            # Any row that it had may be the cause.
            self._give_up(f"it ended by a bug of its own: {error}", partial(_ended_by, "The engine", error))
        else:
            self._give_up(self._reason, self._closed_by)

    def _turn(self) -> None:
        """A step of every lane. Afterwards nothing here refers to a model without rows."""
        self._sweep()
        self._admission.admit(self._lanes.values())
        for lane in self._lanes.values():
            self._step(lane)
        ended = [row for lane in self._lanes.values() for row in lane.take_ended()]
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.active or lane.waiting}
        self._active = sum(lane.active for lane in self._lanes.values())
        self._deliver(ended)  # last: who has an answer sees its room free

    def _receive(self) -> bool:
        """Sort new rows into lanes; waits for one where there is nothing to do. False once closed."""
        try:
            row = self._inbox.get(block=not self._lanes)
            while row is not None:
                self._line_up(row)
                row = self._inbox.get_nowait()
        except Empty:
            return True
        return False

    def _line_up(self, row: Row) -> None:
        lane = self._lanes.get(row.model.key)
        if lane is None:
            try:
                lane = Lane(row.model)
            except Exception as error:  # a model that can't be decoded fails this row alone
                self._deliver([(row, error)])
                return
            self._lanes[row.model.key] = lane
        lane.waiting.append(row)

    def _sweep(self) -> None:
        now_s = time.monotonic()
        if now_s - self._swept_at_s >= SWEEP_S:
            self._swept_at_s = now_s
            for lane in self._lanes.values():
                lane.sweep()

    def _step(self, lane: Lane) -> None:
        """A step that fails, fails the lane's rows; other lanes and waiting rows go on.

        Raises:
            WorkerBroken: they can't, for the device computes no more.
        """
        try:
            lane.step()
        except Exception as error:
            # Frames hold the step's tensors, and the error may live long; memory may be what is short.
            traceback.clear_frames(error.__traceback__)
            if is_out_of_memory(error):
                self._make_room(lane, str(error))
                torch.cuda.empty_cache()
            else:
                lane.fail(partial(_ended_by, f"A decoding step of model {lane.model.key}", error))
                check_device(lane.model.device)

    def _make_room(self, lane: Lane, reason: str) -> None:
        """Decode less at once: whoever asked for too much is found out once it is alone, and costs nobody an answer."""
        if sum(each.active for each in self._lanes.values()) > 1:
            reserved = sum(each.reserved() for each in self._lanes.values())
            log.warning("Memory ran out with %d tokens of keys and values: %s", reserved, reason)
            self._admission.overflowed(reserved)
            lane.put_back()
        else:
            lane.fail(lambda: OutOfMemory(f"Decoding this answer needs more memory than there is: {reason}"))

    def _deliver(self, ended: Sequence[Ended]) -> None:
        """Hand rows to those who wait for them: one call into each event loop for all of a step."""
        self._ended += len(ended)
        by_loop: dict[asyncio.AbstractEventLoop, list[Ended]] = defaultdict(list)
        for row, outcome in ended:
            by_loop[row.future.get_loop()].append((row, outcome))
        for loop, its_rows in by_loop.items():
            try:
                loop.call_soon_threadsafe(_settle, its_rows)
            except RuntimeError:  # the loop is closed, and with it all that waited
                log.warning("%d answers came after their event loop was closed", len(its_rows))

    def _closed_by(self) -> EngineClosed:
        return EngineClosed(f"The engine is closed: {self._reason}")

    def _give_up(self, reason: str, ending: Callable[[], BaseException]) -> None:
        """Take no more, and end every row: who waited for a thread that is gone would wait for ever."""
        with self._closing:
            self._closed, self._reason = True, reason
        with suppress(Empty):
            while True:
                row = self._inbox.get_nowait()
                if row is not None:
                    self._line_up(row)
        for lane in self._lanes.values():
            lane.joining += lane.waiting
            lane.fail(ending)
            self._deliver(lane.take_ended())
        self._lanes = {}


def _ended_by(what: str, cause: Exception) -> RuntimeError:
    error = RuntimeError(f"{what} failed: {cause}")
    error.__cause__ = cause
    return error


def _settle(ended: list[Ended]) -> None:
    for row, outcome in ended:
        if row.future.done():  # cancelled by whoever waited
            continue
        if isinstance(outcome, Completion):
            row.future.set_result(outcome)
        else:
            row.future.set_exception(outcome)
