"""Which request and trace a job belongs to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "ops"
down_revision = "access"


def upgrade() -> None:
    """Jobs from before belong to none that is known."""
    op.add_column("jobs", sa.Column("origin", sa.JSON))
