"""What delivery under faults needs: costs, wishes, checkpoints, an outbox in commit order, reconciled offsets."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TRANSACTION = sa.text("(pg_current_xact_id()::text)::bigint")
QUEUED = sa.text("state = 'queued'")
CONTROLLED = sa.text("control IS NOT NULL AND state = 'queued'")
WAITING_WITH_DEADLINE = sa.text("deadline IS NOT NULL AND state IN ('queued', 'paused')")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("cost", sa.BigInteger(), server_default="1", nullable=False))
    op.add_column("jobs", sa.Column("control", sa.JSON()))
    op.add_column("jobs", sa.Column("lost_attempts", sa.Integer(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("reached", sa.BigInteger(), server_default="0", nullable=False))
    op.drop_index("jobs_queued", table_name="jobs")
    op.create_index("jobs_queued", "jobs", ["kind", "available_at", "tenant", "id"], postgresql_where=QUEUED)
    op.create_index("jobs_deadlines", "jobs", ["deadline"], postgresql_where=WAITING_WITH_DEADLINE)
    op.create_index("jobs_controlled", "jobs", ["id"], postgresql_where=CONTROLLED)
    op.create_table(
        "wishes",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("control", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "job_id"),
    )
    op.create_index("wishes_created", "wishes", ["created_at"])
    op.add_column("outbox", sa.Column("transaction", sa.BigInteger(), server_default=TRANSACTION, nullable=False))
    op.create_index("outbox_order", "outbox", ["transaction", "tenant", "job_id"])
    op.drop_index("outbox_created", table_name="outbox")
    op.create_table(
        "checkpoints",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.JSON()),
        sa.Column("artifact_uri", sa.Text()),
        sa.Column("artifact_sha256", sa.Text()),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant", "job_id"], ["jobs.tenant", "jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant", "job_id"),
    )
    op.create_table(
        "reconciled",
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition"),
    )


def downgrade() -> None:
    op.drop_table("reconciled")
    op.drop_table("checkpoints")
    op.create_index("outbox_created", "outbox", ["created_at"])
    op.drop_index("outbox_order", table_name="outbox")
    op.drop_column("outbox", "transaction")
    op.drop_table("wishes")
    op.drop_index("jobs_controlled", table_name="jobs", postgresql_where=CONTROLLED)
    op.drop_index("jobs_deadlines", table_name="jobs", postgresql_where=WAITING_WITH_DEADLINE)
    op.drop_column("jobs", "reached")
    op.drop_column("jobs", "lost_attempts")
    op.drop_column("jobs", "control")
    op.drop_column("jobs", "cost")
