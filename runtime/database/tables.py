"""The tables, as the migrations make them; ``tenant`` leads the key of what is of a job: it is the shard key too."""

from typing import Final

from sqlalchemy import (
    JSON,
    TIMESTAMP,
    BigInteger,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)

metadata: Final = MetaData()


def _time(name: str, *, nullable: bool = True) -> Column[object]:
    return Column(name, TIMESTAMP(timezone=True), nullable=nullable)


#: ``request`` is json, not jsonb: jsonb refuses the NUL characters that a prompt may hold.
jobs: Final = Table(
    "jobs",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    #: 0 high, 1 normal, 2 batch.
    Column("priority", SmallInteger, nullable=False),
    Column("model", Text, nullable=False),
    Column("request", JSON, nullable=True),
    Column("request_sha256", Text, nullable=False),
    Column("traceparent", Text, nullable=False),
    Column("source_topic", Text, nullable=False),
    Column("source_partition", Integer, nullable=False),
    Column("source_offset", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False, server_default="1"),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Column("worker_id", Text),
    _time("lease_expires_at"),
    _time("deadline"),
    _time("submitted_at", nullable=False),
    _time("queued_at", nullable=False),
    #: Not before this: the backoff after a lost attempt.
    _time("available_at", nullable=False),
    _time("scheduled_at"),
    _time("finished_at"),
    Column("error_code", Text),
    #: What it counts for when tenants take turns: about its tokens.
    Column("cost", BigInteger, nullable=False, server_default="1"),
    #: The client's last wish, as it came, while the job has a worker that may not have seen it.
    Column("control", JSON),
    #: How many attempts in a row have lost their worker and checkpointed no further than those before, and how
    #: far the checkpoint was by then.
    Column("lost_attempts", Integer, nullable=False, server_default="0"),
    Column("reached", BigInteger, nullable=False, server_default="0"),
    Index("jobs_queued", "kind", "available_at", "tenant", "id", postgresql_where=text("state = 'queued'")),
    Index("jobs_leased", "lease_expires_at", postgresql_where=text("state IN ('scheduled', 'running')")),
    Index(
        "jobs_deadlines",
        "deadline",
        postgresql_where=text("deadline IS NOT NULL AND state IN ('queued', 'paused')"),
    ),
    Index("jobs_controlled", "id", postgresql_where=text("control IS NOT NULL AND state = 'queued'")),
    #: With a condition that is always true, so that no foreign key takes it for the primary key.
    Index("jobs_recent", "tenant", text("submitted_at DESC"), postgresql_where=text("submitted_at IS NOT NULL")),
)

_job_key: Final = ("tenant", "job_id")


def _of_job() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(_job_key, ("jobs.tenant", "jobs.id"), ondelete="CASCADE")


#: The terminal event as it was published, one a job.
results: Final = Table(
    "results",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("job_id", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("event", JSON, nullable=False),
    _time("finished_at", nullable=False),
    _of_job(),
)

#: Terminal events that Kafka has not acknowledged yet; a row goes once its event is delivered.
outbox: Final = Table(
    "outbox",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("job_id", Text, primary_key=True),
    Column("traceparent", Text, nullable=False),
    Column("event", JSON, nullable=False),
    _time("created_at", nullable=False),
    #: Who wrote it. Rows are read in the order of their transactions, and only of those before every one that
    #: still runs: a row of theirs could come to lie before one that was read.
    Column("transaction", BigInteger, nullable=False, server_default=text("(pg_current_xact_id()::text)::bigint")),
    Index("outbox_order", "transaction", "tenant", "job_id"),
)

#: What to bill, once an item of a job however often it ran.
usage: Final = Table(
    "usage",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("job_id", Text, primary_key=True),
    Column("item", Text, primary_key=True),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("train_tokens", BigInteger, nullable=False),
    Column("gpu_s", Double, nullable=False),
    _of_job(),
)

#: Tuned models, adapters and whole ones, with what they were made from.
adapters: Final = Table(
    "adapters",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("base", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("artifact_uri", Text, nullable=False),
    Column("artifact_sha256", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("request_sha256", Text, nullable=False),
    Column("dataset_sha256", Text, nullable=False),
    Column("code", Text, nullable=False),
    _time("created_at", nullable=False),
    _of_job(),
)

#: How far a long job is, the latest of each: its small state, and the artifact of its large one.
checkpoints: Final = Table(
    "checkpoints",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("job_id", Text, primary_key=True),
    #: The attempt that wrote it.
    Column("attempt", Integer, nullable=False),
    #: Steps or batches that are done.
    Column("position", BigInteger, nullable=False),
    Column("state", JSON),
    Column("artifact_uri", Text),
    Column("artifact_sha256", Text),
    Column("size_bytes", BigInteger, nullable=False),
    _time("created_at", nullable=False),
    _of_job(),
)

#: What clients want of jobs that are not admitted yet: requests and wishes are read from topics of their own,
#: so a wish may come first. No foreign key: there is no job.
wishes: Final = Table(
    "wishes",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("job_id", Text, primary_key=True),
    Column("control", JSON, nullable=False),
    _time("created_at", nullable=False),
    Index("wishes_created", "created_at"),
)

#: Up to where the request topics were compared with the jobs.
reconciled: Final = Table(
    "reconciled",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, nullable=False),
)

#: Up to where the wishes of the control topic were carried out, and when the latest of them was written.
carried_out: Final = Table(
    "carried_out",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, nullable=False),
    Column("written_ms", BigInteger, nullable=False),
)

#: Who reads which partition of the work topic, for as long as the lease lasts.
workers: Final = Table(
    "workers",
    metadata,
    Column("partition", Integer, primary_key=True),
    Column("worker_id", Text, nullable=False),
    Column("host", Text, nullable=False),
    _time("lease_expires_at", nullable=False),
)

#: The history of the processes' metrics, one sample a series and minute at most. A partition a day of UTC, made ahead
#: and dropped by ``partitions``; ``source``, a process' life, is the shard key.
metric_samples: Final = Table(
    "metric_samples",
    metadata,
    Column("source", Text, primary_key=True),
    #: The sample's name with its labels, as Prometheus writes it.
    Column("series", Text, primary_key=True),
    Column("at", TIMESTAMP(timezone=True), primary_key=True),
    Column("value", Double, nullable=False),
    postgresql_partition_by="RANGE (at)",
)
