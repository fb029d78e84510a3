"""What collections found unreferenced."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "storage"
down_revision = "ops"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "condemned",
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
    )
