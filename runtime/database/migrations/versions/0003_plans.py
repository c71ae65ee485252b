"""An index of a tenant's jobs by age that foreign keys can't use.

On a table without statistics it promises as much as the primary key for "this tenant and this id", and the plan of a
foreign key is kept by its connection: each new result then read all jobs of its tenant. A foreign key says nothing of
``submitted_at``, so an index with a condition on it is not considered.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS: list[str | sa.TextClause] = ["tenant", sa.text("submitted_at DESC")]


def upgrade() -> None:
    op.drop_index("jobs_recent", table_name="jobs")
    op.create_index("jobs_recent", "jobs", COLUMNS, postgresql_where=sa.text("submitted_at IS NOT NULL"))


def downgrade() -> None:
    op.drop_index("jobs_recent", table_name="jobs")
    op.create_index("jobs_recent", "jobs", COLUMNS)
