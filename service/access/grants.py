"""The ledger's part about who has which network or data set.

Content is kept once, whoever sent it; what its holders see of it (its name, and since when) is their own. So nobody
learns from an answer that somebody else has the same content, and an upload is new to everyone who uploads.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, Table, select

from service.access.models import grants
from service.database import insert_new

__all__ = ["give", "held"]


def give(connection: Connection, kind: str, sha256: str, *, owner: str, name: str, moment: datetime) -> bool:
    """Make ``owner`` a holder, in the caller's transaction; returns whether that is new."""
    values = {"owner": owner, "kind": kind, "sha256": sha256, "name": name[:255], "created_at": moment}
    given = insert_new(connection, grants).values(values).returning(grants.c.sha256)
    return connection.execute(given).first() is not None


def held(table: Table, kind: str, owner: str | None) -> Select[Any]:
    """Rows of ``table`` as ``owner`` sees them, newest first; None sees everything, as it first came."""
    if owner is None:
        return select(table).order_by(table.c.created_at.desc(), table.c.sha256)
    own = {"name": grants.c.name, "created_at": grants.c.created_at}
    columns = [own[column.name].label(column.name) if column.name in own else column for column in table.c]
    mine = (grants.c.owner == owner) & (grants.c.kind == kind) & (grants.c.sha256 == table.c.sha256)
    return select(*columns).join(grants, mine).order_by(grants.c.created_at.desc(), table.c.sha256)
