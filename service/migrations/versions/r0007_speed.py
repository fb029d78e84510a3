"""Counting the items of a batch without reading their verdicts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "speed"
down_revision = "subtrees"


def upgrade() -> None:
    """Say of each item whether its answer was taken from another, and index all that counts are made of."""
    op.add_column("items", sa.Column("cached", sa.Boolean, nullable=False, server_default=sa.false()))
    items = sa.table("items", sa.column("cached", sa.Boolean), sa.column("cached_from", sa.JSON(none_as_null=True)))
    op.execute(items.update().where(items.c.cached_from.is_not(None)).values(cached=True))
    counted = ["batch", "epsilon", "state", "outcome", "trust", "swept", "cached"]
    op.create_index("ix_items_counted", "items", [*counted, "decided_by", "search_seconds", "sweep_seconds"])
    op.create_index("ix_items_finished", "items", ["batch", "finished_at"])
