"""Data sets, batches with their items, and answers that later questions are served from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the tables, and let jobs belong to a batch."""
    time = sa.DateTime(timezone=True)
    op.create_table(
        "datasets",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("artifact", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("summary", sa.JSON, nullable=False),
        sa.Column("created_at", time, nullable=False),
    )
    op.create_table(
        "batches",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("network", sa.String(64), sa.ForeignKey("networks.sha256"), nullable=False),
        sa.Column("dataset", sa.String(64), sa.ForeignKey("datasets.sha256"), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("queue", sa.String(32), nullable=False),
        sa.Column("time_limit", sa.Float, nullable=False),
        sa.Column("total_limit", sa.Float),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("inputs", sa.Integer, nullable=False),
        sa.Column("items", sa.Integer, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("idempotency_key", sa.String(255), unique=True),
        sa.Column("fingerprint", sa.String(64)),
        sa.Column("created_at", time, nullable=False),
        sa.Column("changed_at", time, nullable=False),
        sa.Column("finished_at", time),
    )
    op.create_index("ix_batches_state", "batches", ["state"])
    op.create_table(
        "items",
        sa.Column("batch", sa.String(26), sa.ForeignKey("batches.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("input", sa.Integer, nullable=False),
        sa.Column("epsilon", sa.String(160), nullable=False),
        sa.Column("label", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("job", sa.String(26)),
        sa.Column("outcome", sa.String(16)),
        sa.Column("trust", sa.String(16)),
        sa.Column("decided_by", sa.String(64)),
        sa.Column("lower", sa.Float),
        sa.Column("upper", sa.Float),
        sa.Column("swept", sa.Boolean, nullable=False),
        sa.Column("sweep_seconds", sa.Float, nullable=False),
        sa.Column("search_seconds", sa.Float, nullable=False),
        sa.Column("verdict", sa.JSON),
        sa.Column("error", sa.JSON),
        sa.Column("cached_from", sa.JSON),
        sa.Column("finished_at", time),
    )
    op.create_index("ix_items_state", "items", ["batch", "state", "lower"])
    op.create_index("ix_items_input", "items", ["batch", "input"])
    op.create_index("ix_items_job", "items", ["job"])
    op.create_table(
        "answers",
        sa.Column("question", sa.String(64), primary_key=True),
        sa.Column("epsilon", sa.String(160), primary_key=True),
        sa.Column("outcome", sa.String(16), primary_key=True),
        sa.Column("engine", sa.String(16), primary_key=True),
        sa.Column("certified", sa.Boolean, primary_key=True),
        sa.Column("over_reals", sa.Boolean, nullable=False),
        sa.Column("job", sa.String(26)),
        sa.Column("batch", sa.String(26)),
        sa.Column("item", sa.Integer),
        sa.Column("created_at", time, nullable=False),
    )
    op.add_column("jobs", sa.Column("batch", sa.String(26)))
    op.create_index("ix_jobs_batch", "jobs", ["batch", "state"])
