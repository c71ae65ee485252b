"""Every bound of the contract, each with its reason; a request beyond one is refused with the number."""

#: A request's value, in bytes. Larger inputs go by reference (a dataset URI).
REQUEST_BYTES = 1_048_576
#: What the broker takes on a request topic: room above ours, so that it is we who explain the limit.
REQUEST_TOPIC_BYTES = 2_097_152
#: Work, results and dead letters carry a request or its answer plus their own fields.
DERIVED_TOPIC_BYTES = 8_388_608
#: Partitions of the work topic: one worker owns one, so this bounds the workers of a cluster.
WORKER_PARTITIONS = 64

#: Prompts in one generate request, and chat messages in one conversation.
PROMPTS = 1_024
MESSAGES = 1_024
#: Stop strings, and the characters of one (as in OpenAI's API, with room).
STOP_STRINGS = 8
STOP_CHARS = 256
#: Answers per prompt.
CHOICES = 128
#: New tokens of one answer.
NEW_TOKENS = 131_072
#: New tokens of one request (prompts x n x max_tokens): keeps a result event below DERIVED_TOPIC_BYTES.
REQUEST_NEW_TOKENS = 1_048_576
#: A seed fits Postgres' bigint and torch's generator.
SEED = 2**63 - 1

TRAIN_EPOCHS = 1_000
TRAIN_STEPS = 10_000_000
TRAIN_BATCH = 4_096
#: Examples and tokens of one fine-tune's dataset, which it holds in its worker's memory: 2 GB of tokens.
TRAIN_EXAMPLES = 10_000_000
TRAIN_TOKENS = 500_000_000
LORA_RANK = 1_024
SEQUENCE_TOKENS = 1_048_576
#: Examples that one evaluation scores, whose marks are in its worker's memory: about 100 MB.
EVALUATION_EXAMPLES = 1_000_000
RECORDS = 10_000
#: One line of a JSONL dataset, in bytes.
DATASET_LINE_BYTES = 1_048_576
#: One dataset, in bytes, all of which are hashed as they are read.
DATASET_BYTES = 4_294_967_296

#: A job that has lost its worker so often in a row, without getting further, does not get another one; the last of
#: these attempts has a worker for itself.
ATTEMPTS = 3

JOB_ID_CHARS = 128
TENANT_CHARS = 64
MODEL_CHARS = 256
SUFFIX_CHARS = 40
URI_CHARS = 2_048
#: Of a histogram: each is a series in Prometheus' memory, whether the event tells of it or not.
BUCKETS = 64
