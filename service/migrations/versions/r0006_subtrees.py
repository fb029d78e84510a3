"""Parts of jobs: subtrees of one query that other workers search."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "subtrees"
down_revision = "storage"


def upgrade() -> None:
    """Let a job be a part of another."""
    op.add_column("jobs", sa.Column("parent", sa.String(26)))
    op.create_index("ix_jobs_parent", "jobs", ["parent", "state"])
