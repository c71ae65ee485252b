"""The history of metrics, partitioned by day; its partitions come and go with the days."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Without a default partition: with one, none can be detached beside those who read and write, and each new one
    # would have to look through it under a lock that keeps all of them out.
    op.create_table(
        "metric_samples",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("series", sa.Text(), nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("source", "series", "at"),
        postgresql_partition_by="RANGE (at)",
    )


def downgrade() -> None:
    op.drop_table("metric_samples")
