"""Owners of everything, keys, sessions, the audit log, usage, and grants of networks and data sets."""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "access"
down_revision = "0002"

#: Whose everything is that was made before there were owners.
_LOCAL = "local"
_grants = sa.table("grants", *map(sa.column, ("owner", "kind", "sha256", "name", "created_at")))


def upgrade() -> None:
    """Create the tables, and give what there is to the local owner."""
    time = sa.DateTime(timezone=True)
    op.create_table(
        "keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("quota", sa.JSON, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("expires_at", time),
        sa.Column("revoked_at", time),
        sa.Column("used_at", time),
        sa.Column("successor", sa.String(16)),
    )
    op.create_table(
        "sessions",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("key", sa.String(16), sa.ForeignKey("keys.id"), nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("expires_at", time, nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("at", time, nullable=False),
        sa.Column("key", sa.String(16)),
        sa.Column("owner", sa.String(64)),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("object", sa.String(255), nullable=False),
        sa.Column("outcome", sa.Integer, nullable=False),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
    )
    op.create_index("ix_audit_owner", "audit", ["owner", "id"])
    op.create_table(
        "usage",
        sa.Column("owner", sa.String(64), primary_key=True),
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("seconds", sa.Float, nullable=False),
    )
    op.create_table(
        "grants",
        sa.Column("owner", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("created_at", time, nullable=False),
    )
    for kind in ("network", "dataset"):
        held = sa.table(f"{kind}s", sa.column("sha256"), sa.column("name"), sa.column("created_at"))
        rows = sa.select(sa.literal(_LOCAL), sa.literal(kind), held.c.sha256, held.c.name, held.c.created_at)
        op.execute(sa.insert(_grants).from_select([column.name for column in _grants.c], rows))
    op.add_column("attempts", sa.Column("threads", sa.Integer, nullable=False, server_default="1"))
    for table in ("jobs", "batches"):
        op.add_column(table, sa.Column("owner", sa.String(64), nullable=False, server_default=_LOCAL))
        op.add_column(table, sa.Column("at_once", sa.Integer))
        op.create_index(f"ix_{table}_id_owner", table, ["id", "owner"], unique=True)
        _scope_idempotency_keys(table)
    op.create_index("ix_jobs_owner", "jobs", ["owner", "batch", "id"])
    op.create_index("ix_batches_owner", "batches", ["owner", "id"])
    _own_answers()


def _scope_idempotency_keys(table: str) -> None:
    """Keys are unique for each owner from now on, as digests of owner and key."""
    rows = sa.table(table, sa.column("id"), sa.column("idempotency_key"))
    connection = op.get_bind()
    kept = connection.execute(sa.select(rows).where(rows.c.idempotency_key.is_not(None))).all()
    for identifier, key in kept:
        digest = hashlib.sha256(f"{_LOCAL}\0{key}".encode()).hexdigest()
        connection.execute(sa.update(rows).where(rows.c.id == identifier).values(idempotency_key=digest))


def _own_answers() -> None:
    """Answers serve their owner alone, who becomes a part of their key; SQLite changes no keys in place."""
    op.rename_table("answers", "answers_before")
    columns = ["question", "epsilon", "outcome", "engine", "certified", "over_reals", "job", "batch", "item"]
    columns += ["created_at"]
    op.create_table(
        "answers",
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("question", sa.String(64), nullable=False),
        sa.Column("epsilon", sa.String(160), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("engine", sa.String(16), nullable=False),
        sa.Column("certified", sa.Boolean, nullable=False),
        sa.Column("over_reals", sa.Boolean, nullable=False),
        sa.Column("job", sa.String(26)),
        sa.Column("batch", sa.String(26)),
        sa.Column("item", sa.Integer),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "question", "owner", "epsilon", "outcome", "engine", "certified", name="pk_answers_of_owners"
        ),
    )
    before = sa.table("answers_before", *map(sa.column, columns))
    after = sa.table("answers", *map(sa.column, ("owner", *columns)))
    op.execute(sa.insert(after).from_select(["owner", *columns], sa.select(sa.literal(_LOCAL), *before.c)))
    op.drop_table("answers_before")
