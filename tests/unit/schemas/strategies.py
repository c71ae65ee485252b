"""Values of every event: requests from their rules, the other events from their JSON Schemas."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from schemas import limits
from schemas.requests import (
    Dataset,
    EvaluateRequest,
    FineTuneRequest,
    Gate,
    GenerateRequest,
    Hyperparameters,
    Message,
    Method,
    Metric,
    Priority,
    Record,
    Request,
)

TEXTS = st.text(min_size=1, max_size=20)
JOB_IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,100}", fullmatch=True)
TENANTS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}", fullmatch=True)
MODELS = st.sampled_from(["example-base", "ft:example-base:dates:0a1b2c3d", "owner/name@main", "a"])
SEEDS = st.integers(0, limits.SEED)
TIMES = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC))
MESSAGES = st.builds(
    Message, role=st.sampled_from(["system", "user", "assistant", "tool"]), content=st.text(max_size=20)
)
LAST_MESSAGE = st.builds(Message, role=st.just("assistant"), content=TEXTS)
CONVERSATIONS = st.tuples(MESSAGES, LAST_MESSAGE)
RECORDS = st.builds(Record, prompt=TEXTS, completion=st.text(max_size=20)) | st.builds(Record, messages=CONVERSATIONS)
DATASETS = st.builds(Dataset, uri=TEXTS) | st.builds(
    Dataset, records=st.lists(RECORDS, min_size=1, max_size=3).map(tuple)
)
COMMON = {
    "model": MODELS,
    "id": st.none() | JOB_IDS,
    "tenant": TENANTS,
    "priority": st.sampled_from(Priority),
    "deadline": st.none() | TIMES,
}
INPUTS = st.one_of(
    st.fixed_dictionaries({"prompt": TEXTS}),
    st.fixed_dictionaries({"messages": st.lists(MESSAGES, min_size=1, max_size=3).map(tuple)}),
    st.fixed_dictionaries({"prompts": st.lists(TEXTS, min_size=1, max_size=3).map(tuple)}),
)
SAMPLING = st.fixed_dictionaries(
    COMMON
    | {
        "max_tokens": st.integers(1, 1_000),
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1, exclude_min=True),
        "seed": st.none() | SEEDS,
        "stop": st.lists(TEXTS, max_size=limits.STOP_STRINGS).map(tuple),
        "n": st.integers(1, limits.CHOICES),
        "stream": st.booleans(),
        "adapter": st.none() | MODELS,
    }
)
GENERATE = st.builds(lambda given, sampling: GenerateRequest(**given, **sampling), INPUTS, SAMPLING)

METHODS = st.builds(
    Method,
    type=st.sampled_from(["lora", "full"]),
    rank=st.integers(1, limits.LORA_RANK),
    alpha=st.none() | st.floats(0, 4 * limits.LORA_RANK, exclude_min=True),
    target_modules=st.none() | st.lists(TEXTS, min_size=1, max_size=3).map(tuple),
)
HYPERPARAMETERS = st.builds(
    Hyperparameters,
    max_steps=st.none() | st.integers(1, limits.TRAIN_STEPS),
    batch_size=st.integers(1, limits.TRAIN_BATCH),
    learning_rate=st.floats(0, 1, exclude_min=True),
    schedule=st.sampled_from(["linear", "cosine", "constant"]),
    warmup_steps=st.integers(0, limits.TRAIN_STEPS),
    weight_decay=st.floats(0, 1),
    max_grad_norm=st.floats(0, 1_000, exclude_min=True),
    max_length=st.none() | st.integers(2, limits.SEQUENCE_TOKENS),
    packing=st.booleans(),
)
FINETUNE = st.builds(
    FineTuneRequest,
    **COMMON,
    dataset=DATASETS,
    validation=st.none() | DATASETS,
    method=METHODS,
    hyperparameters=HYPERPARAMETERS,
    suffix=st.from_regex(r"[a-z0-9][a-z0-9-]{0,30}", fullmatch=True),
    seed=SEEDS,
)
EVALUATE = st.builds(
    EvaluateRequest,
    **COMMON,
    dataset=DATASETS,
    metrics=st.just(tuple(Metric)),
    baseline=MODELS,
    gate=st.none() | st.builds(Gate, metric=st.sampled_from(Metric), minimum=st.floats(0, 1)),
    max_examples=st.none() | st.integers(1, limits.EVALUATION_EXAMPLES),
    max_tokens=st.integers(1, limits.NEW_TOKENS),
    seed=SEEDS,
)
REQUESTS: SearchStrategy[Request] = st.one_of(GENERATE, FINETUNE, EVALUATE)

JSON_VALUES: SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


def matching(node: Any, root: Any) -> SearchStrategy[Any]:
    """JSON values that the JSON Schema ``node`` of the document ``root`` allows."""
    match node:
        case {"$ref": reference}:
            return matching(root["$defs"][reference.rpartition("/")[2]], root)
        case {"anyOf": options}:
            return st.one_of(*(matching(option, root) for option in options))
        case {"enum": values}:
            return st.sampled_from(values)
        case {"type": "object", "properties": fields}:
            required = set(node.get("required", ()))
            return st.fixed_dictionaries(
                {name: matching(field, root) for name, field in fields.items() if name in required},
                optional={name: matching(field, root) for name, field in fields.items() if name not in required},
            )
        case {"type": "object", "additionalProperties": field}:
            return st.dictionaries(st.text(max_size=10), matching(field, root), max_size=3)
        case {"type": "array", "items": item}:
            return st.lists(
                matching(item, root), min_size=node.get("minItems", 0), max_size=node.get("minItems", 0) + 2
            )
        case {"type": "string", "format": "date-time"}:
            return TIMES.map(datetime.isoformat)
        case {"type": "string", "pattern": pattern}:
            return st.from_regex(pattern).filter(lambda text: len(text) <= node["maxLength"])
        case {"type": "string"}:
            return st.text(min_size=node.get("minLength", 0), max_size=20)
        case {"type": "integer"}:
            return st.integers(node.get("minimum", -(2**63)), node.get("maximum", 2**63 - 1))
        case {"type": "number"}:
            return st.floats(
                node.get("minimum", node.get("exclusiveMinimum")),
                node.get("maximum"),
                exclude_min="exclusiveMinimum" in node,
                allow_nan=False,
                allow_infinity=False,
            )
        case {"type": "boolean"}:
            return st.booleans()
        case {"type": "null"}:
            return st.none()
        case unknown:
            raise TypeError(f"no strategy for {unknown}")
