"""Generate text: one request in, its answers out.

The decoding itself is in ``engine``, where the rows of all jobs share batches.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeVar

from schemas.errors import PromptTooLong, Unsupported
from schemas.requests import GenerateRequest
from schemas.results import Choice, GenerateResult
from workers.context import JobContext
from workers.engine import CutShort, Sampling
from workers.models import LoadedModel
from workers.outages import borrow
from workers.progress import TextChunk
from workers.tally import Tally

#: The pieces of a streamed answer are joined to at most this many a second, fast enough for a reader.
STREAM_PIECES_PER_S: Final = 10
#: Answers that a job asks the engine for at once, in times of those that it decodes at once. So its batches stay full,
#: and a request for 100,000 answers waits as a counter, not as rows.
ASKED_ROWS: Final = 2

Answer = TypeVar("Answer")


async def generate(request: GenerateRequest, ctx: JobContext) -> GenerateResult:
    """Answer each prompt ``n`` times; the answers are ordered by prompt, then by index.

    Raises:
        ModelNotFound, ModelUnavailable, ModelRejected, AdapterMismatch: as ``Models.borrow``.
        ServerUnreachable: the store can't give the model now: the job is put off.
        PromptTooLong: a prompt and its output do not fit the model's window (final).
        Unsupported: the model's tokenizer or architecture can't do it (final).
        OutOfMemory: an answer did not fit the device even by itself (retryable).
        JobStopped, LeaseLost: seen at a decode step; a cancel that keeps what there is leaves it in
            ``ctx.partial``, answers that were not begun without text.
    """
    async with borrow(ctx, request.model, request.adapter) as model:
        ctx.meter.base, ctx.meter.adapter = model.ref.base, model.ref.adapter
        ctx.running()
        prompts = await ctx.models.tokenize(encode_prompts, model, request)
        answers = _Answers(request, ctx, model, Tally(ctx, len(prompts) * request.n, "answers"))
        ctx.meter.prompt_tokens += sum(map(len, prompts))
        choices = await answers.all(prompts)
    result = GenerateResult(choices=tuple(choices))
    if answers.cut:
        ctx.partial = result
        raise answers.cut
    return result


def encode_prompts(model: LoadedModel, request: GenerateRequest) -> list[tuple[int, ...]]:
    """The tokens of each of the request's prompts.

    Raises:
        PromptTooLong: a prompt and its output do not fit the model's window (final).
        Unsupported: a prompt has no token for this tokenizer, or its chat template refuses it (final).
    """
    if request.messages is not None:
        encoded = [model.encode_chat(request.messages)]
    else:
        encoded = [model.encode(text) for text in request.prompts or (request.prompt or "",)]
    for ids in encoded:
        check_room(model, ids, request.max_tokens)
    return [tuple(ids) for ids in encoded]


def check_room(model: LoadedModel, prompt_ids: Sequence[int], max_tokens: int) -> None:
    """Refuse what the model can't continue by ``max_tokens`` tokens.

    Raises:
        PromptTooLong: they do not fit the model's window (final).
        Unsupported: there is no token to continue (final).
    """
    if len(prompt_ids) + max_tokens > model.window:
        raise PromptTooLong(len(prompt_ids), max_tokens, model.window)
    if not prompt_ids:
        raise Unsupported("The model's tokenizer makes no token of the prompt, so nothing can follow it. Send text.")


async def gather(coroutines: Sequence[Coroutine[Any, Any, Answer]]) -> list[Answer]:
    """Await all; once one fails, the others are cancelled, so that no row decodes for nobody."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


class _Answers:
    """The answers of one request: each decoded, metered, and streamed or counted."""

    def __init__(self, request: GenerateRequest, ctx: JobContext, model: LoadedModel, tally: Tally) -> None:
        self._request, self._ctx, self._model, self._tally = request, ctx, model, tally
        #: Why answers end before their end, but with the text that they have.
        self.cut: CutShort | None = None

    async def all(self, prompts: Sequence[tuple[int, ...]]) -> list[Choice]:
        """Every answer to every prompt, in their order."""
        choices = dict[tuple[int, int], Choice]()
        # One at a time, to whoever is next: a list of 100,000 would be kept until the last is answered.
        places = ((prompt, index) for prompt in range(len(prompts)) for index in range(self._request.n))

        async def ask() -> None:
            for prompt, index in places:
                choices[prompt, index] = await self._answer(prompt, prompts[prompt], index)

        asked = min(len(prompts) * self._request.n, ASKED_ROWS * self._ctx.engine.max_rows)
        await gather([ask() for _ in range(asked)])
        return [choices[place] for place in sorted(choices)]

    async def _answer(self, prompt: int, prompt_ids: tuple[int, ...], index: int) -> Choice:
        request, ctx = self._request, self._ctx
        if self.cut:
            return Choice(prompt, index, "", 0, "length")
        stream = TextStream(ctx, prompt, index) if request.stream else None
        sampling = Sampling(
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            choice=index,
            stop=request.stop,
        )
        decoding = ctx.engine.submit(
            self._model,
            prompt_ids,
            sampling,
            check=ctx.check,
            on_text=stream.push if stream else None,
            priority=request.priority,
        )
        try:
            completion = await decoding
            self._tally.add()
        except CutShort as cut:
            self.cut, completion = cut, cut.completion
        if stream:
            stream.flush()
        ctx.meter.completion_tokens += len(completion.token_ids)
        ctx.meter.device_s += completion.device_s
        return Choice(prompt, index, completion.text, len(completion.token_ids), completion.finish_reason)


class TextStream:
    """Reports an answer's text as it comes, joined to pieces of a readable rate."""

    def __init__(self, ctx: JobContext, prompt: int, index: int) -> None:
        self._ctx, self._prompt, self._index = ctx, prompt, index
        self._pieces: list[str] = []
        self._reported_at_s = 0.0

    def push(self, piece: str) -> None:
        """Take a piece of text; called in the engine's thread."""
        self._pieces.append(piece)
        if time.monotonic() - self._reported_at_s >= 1 / STREAM_PIECES_PER_S:
            self.flush()

    def flush(self) -> None:
        """Report what has come; after the last piece, from whichever thread."""
        if self._pieces:
            self._reported_at_s = time.monotonic()
            self._ctx.report(TextChunk(self._prompt, self._index, "".join(self._pieces)))
            self._pieces.clear()
