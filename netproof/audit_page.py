"""The page that ``netproof audit --report`` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from networks import Dataset
from networks.errors import InputError

__all__ = ["write_audit_page"]


def write_audit_page(
    path: Path,
    records: Sequence[dict[str, Any]],
    *,
    asked: dict[str, Any] | None,
    dataset: Dataset | None = None,
    total: int | None = None,
) -> None:
    """Write an audit as one page with drawings and pictures, which needs no network and no script.

    Args:
        path: the file, ``.html``.
        records: see `netproof.Audit`.
        asked: the heading of the file of records, where there is one.
        dataset: that was audited; with it, counterexamples are shown beside their inputs.
        total: inputs of the audit, where more were asked about than have a record.

    Raises:
        InputError: the data set is another one than the records are about, or the page cannot be written.
    """
    from service.dashboard.audit_report import audit_report

    known = (asked or {}).get("audit", {}).get("data", {}).get("sha256")
    if dataset is not None and known not in {None, dataset.sha256}:
        msg = f"the records are about data set {known}, but {dataset.name} is {dataset.sha256}; give the one they name"
        raise InputError(msg)

    def center(index: int) -> tuple[list[float], list[int]] | None:
        if dataset is None or not 0 <= index < len(dataset):
            return None
        return dataset.input(index).tolist(), list(dataset.stored.shape[1:])

    try:
        page = audit_report(records, asked=asked, total=total, center=center)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        msg = f"the report cannot be written to {path}: {error.strerror}; name another file"
        raise InputError(msg) from error
