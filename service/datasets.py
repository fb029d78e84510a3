"""The ledger's part about data sets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from service.access.grants import give, held
from service.access.principal import LOCAL
from service.batch_models import DatasetRecord, datasets
from service.database import insert_new
from service.errors import NotFoundError
from service.retention import spared

__all__ = ["Datasets"]


class Datasets:
    """Records of uploaded data sets; a part of `service.ledger.Ledger`."""

    def __init__(self, engine: Engine, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    def add(
        self, sha256: str, *, artifact: str, size: int, name: str, summary: dict[str, Any], owner: str = LOCAL
    ) -> tuple[DatasetRecord, bool]:
        """Record a data set; returns its record and whether it is new to ``owner``. What is known stays as it is."""
        moment = self._now()
        values = {"sha256": sha256, "artifact": artifact, "size": size, "name": name[:255], "summary": summary}
        with self._engine.begin() as connection:
            connection.execute(insert_new(connection, datasets).values(created_at=moment, **values))
            new = give(connection, "dataset", sha256, owner=owner, name=name, moment=moment)
            spared(connection, "dataset", [sha256])
            spared(connection, "artifact", [artifact])
        return self.get(sha256, owner=owner), new

    def get(self, sha256: str, *, owner: str | None = None) -> DatasetRecord:
        """A data set, if ``owner`` has it; None sees all. Raises NotFoundError."""
        query = held(datasets, "dataset", owner).where(datasets.c.sha256 == sha256)
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            raise NotFoundError(sha256, kind="data set")
        return DatasetRecord.of(row)

    def newest(self, *, limit: int = 50, owner: str | None = None) -> list[DatasetRecord]:
        """The newest data sets first, those of ``owner`` or all."""
        query = held(datasets, "dataset", owner).limit(limit)
        with self._engine.connect() as connection:
            return [DatasetRecord.of(row) for row in connection.execute(query).mappings()]
