"""The ledger's part about data sets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, select

from service.batch_models import DatasetRecord, datasets
from service.database import insert_new
from service.errors import NotFoundError

__all__ = ["Datasets"]


class Datasets:
    """Records of uploaded data sets; a part of `service.ledger.Ledger`."""

    def __init__(self, engine: Engine, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    def add(
        self, sha256: str, *, artifact: str, size: int, name: str, summary: dict[str, Any]
    ) -> tuple[DatasetRecord, bool]:
        """Record a data set; returns its record and whether it is new. What is known already stays as it is."""
        values = {"sha256": sha256, "artifact": artifact, "size": size, "name": name[:255], "summary": summary}
        with self._engine.begin() as connection:
            added = connection.execute(insert_new(connection, datasets).values(created_at=self._now(), **values))
        return self.get(sha256), added.rowcount == 1

    def get(self, sha256: str) -> DatasetRecord:
        """Raises NotFoundError if the data set was never uploaded."""
        with self._engine.connect() as connection:
            row = connection.execute(select(datasets).where(datasets.c.sha256 == sha256)).mappings().first()
        if row is None:
            raise NotFoundError(sha256, kind="data set")
        return DatasetRecord.of(row)

    def newest(self, *, limit: int = 50) -> list[DatasetRecord]:
        """The newest data sets first."""
        query = select(datasets).order_by(datasets.c.created_at.desc(), datasets.c.sha256).limit(limit)
        with self._engine.connect() as connection:
            return [DatasetRecord.of(row) for row in connection.execute(query).mappings()]
