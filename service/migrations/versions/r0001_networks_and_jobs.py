"""Networks, jobs and their attempts: what netproof 0.1 began with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the first tables."""
    time = sa.DateTime(timezone=True)
    op.create_table(
        "networks",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("summary", sa.JSON, nullable=False),
        sa.Column("created_at", time, nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("network", sa.String(64), sa.ForeignKey("networks.sha256"), nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("queue", sa.String(32), nullable=False),
        sa.Column("time_limit", sa.Float, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("losses", sa.Integer, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("progress", sa.JSON),
        sa.Column("verdict", sa.JSON),
        sa.Column("error", sa.JSON),
        sa.Column("idempotency_key", sa.String(255), unique=True),
        sa.Column("fingerprint", sa.String(64)),
        sa.Column("created_at", time, nullable=False),
        sa.Column("queued_at", time, nullable=False),
        sa.Column("started_at", time),
        sa.Column("cancelled_at", time),
        sa.Column("finished_at", time),
    )
    op.create_index("ix_jobs_network", "jobs", ["network"])
    op.create_index("ix_jobs_state_queued", "jobs", ["state", "queued_at"])
    op.create_table(
        "attempts",
        sa.Column("job", sa.String(26), sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("worker", sa.String(128), nullable=False),
        sa.Column("started_at", time, nullable=False),
        sa.Column("lease_until", time, nullable=False),
        sa.Column("ended_at", time),
        sa.Column("outcome", sa.String(16)),
        sa.Column("reason", sa.String(1024)),
    )
