"""What a request costs, about, in tokens: by this tenants and models take turns. Pure functions.

Nobody has seen the dataset or the tokenizer when a request is admitted, so this is an estimate. It has to be
right in proportion, between requests of one kind: each kind has its own queue.
"""

from typing import Final, assert_never

from schemas.requests import Dataset, EvaluateRequest, FineTuneRequest, GenerateRequest, Record, Request

#: Characters of a token, in English text and the usual vocabularies.
TOKEN_CHARS: Final = 4
#: Examples of a dataset that is somewhere else, and the tokens of one.
EXAMPLES: Final = 1_000
EXAMPLE_TOKENS: Final = 512
#: Above this Postgres' bigint and the sum of many are still exact.
MOST: Final = 10**15


def cost_of(request: Request) -> int:
    """Tokens to read and to write, at least 1."""
    match request:
        case GenerateRequest():
            tokens = _generate(request)
        case FineTuneRequest():
            tokens = _finetune(request)
        case EvaluateRequest():
            tokens = _evaluate(request)
        case unknown:
            assert_never(unknown)
    return max(1, min(round(tokens), MOST))


def _generate(request: GenerateRequest) -> float:
    """The prompts are read once, whatever is drawn from them."""
    texts = request.prompts or [request.prompt or ""]
    read = sum(map(len, texts)) + sum(len(message.content) for message in request.messages or ())
    return read / TOKEN_CHARS + len(texts) * request.n * request.max_tokens


def _finetune(request: FineTuneRequest) -> float:
    """Steps by batch by length; where the steps follow from the epochs, examples by length."""
    options = request.hyperparameters
    examples, length = _size(request.dataset)
    if options.max_length is not None:
        length = min(length, options.max_length)
    if options.max_steps is not None:
        return options.max_steps * options.batch_size * length
    return (options.epochs or 1.0) * examples * length


def _evaluate(request: EvaluateRequest) -> float:
    """Each example is read, and answered in up to ``max_tokens``; by the baseline as well."""
    examples, length = _size(request.dataset)
    if request.max_examples is not None:
        examples = min(examples, request.max_examples)
    return examples * (length + request.max_tokens) * (1 if request.baseline is None else 2)


def _size(dataset: Dataset | None) -> tuple[float, float]:
    """The examples of a dataset, and the tokens of one."""
    if dataset is None or dataset.records is None:
        return EXAMPLES, EXAMPLE_TOKENS
    chars = sum(_chars(record) for record in dataset.records)
    return len(dataset.records), chars / TOKEN_CHARS / len(dataset.records)


def _chars(record: Record) -> int:
    texts = [record.prompt or "", record.completion or "", *(message.content for message in record.messages or ())]
    return sum(map(len, texts))
