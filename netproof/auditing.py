"""One call from Python for many inputs: `audit`."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networks
import solver.audit
from networks import Dataset, Network, read_dataset
from networks.errors import DatasetError, InputError
from networks.exact import Number
from solver import Backend, Engine, Options
from solver.audit import Ball, Outlook, Record
from solver.records import RecordFile, heading
from solver.tally import Tally

__all__ = ["Audit", "AuditProgress", "audit"]


@dataclass(frozen=True, eq=False)
class Audit:
    """The outcome of an audit.

    Attributes:
        records: one for each input that was decided, in the order of their indices, those of earlier runs included.
        tally: what they amount to.
        wall: seconds that this run took.
        cancelled: whether it was stopped before every input had a record.
    """

    records: tuple[Record, ...]
    tally: Tally
    wall: float
    cancelled: bool = False

    @property
    def complete(self) -> bool:
        """Whether every input is robust or has a counterexample."""
        return self.tally.undecided == 0

    @property
    def summary(self) -> dict[str, Any]:
        """Counts, the intervals of robust accuracy and adversarial error, seconds, the slowest inputs."""
        summary = self.tally.to_json()
        summary["seconds"] |= {"wall": round(self.wall, 3)}
        return summary


@dataclass(frozen=True, eq=False)
class AuditProgress:
    """What is known while an audit runs: the tally so far, and what is left."""

    tally: Tally
    outlook: Outlook


def audit(
    network: str | Path | Network,
    data: str | Path | Dataset,
    epsilon: Number,
    *,
    norm: str = "linf",
    domain: tuple[Number, Number] | None = None,
    indices: Sequence[int] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    certificates: str | Path | None = None,
    time_limit: float = 60.0,
    workers: int | None = None,
    engine: Engine | str = Engine.AUTO,
    backend: Backend | str = Backend.AUTO,
    seed: int = 0,
    progress: Callable[[AuditProgress], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Audit:
    """Decide for many inputs of a data set whether the network keeps their label within ``epsilon``.

    >>> import netproof
    >>> result = netproof.audit(
    ...     "examples/digits_robust.onnx", "examples/digits.npz", "0.02", domain=(0, 1), indices=range(4), workers=1
    ... )
    >>> [record["verdict"] for record in result.records], result.tally.robust_accuracy
    (['robust', 'robust', 'robust', 'robust'], (1.0, 1.0))

    Args:
        network: an ONNX file, or a network that `netproof.load` returned.
        data: an ``.npz`` file with ``images`` and ``labels`` (or ``x`` and ``y``), a CSV file with an input on each
            line, its label first, or a `networks.Dataset`.
        epsilon: radius of the ball around each input, in input units; a decimal is taken as written.
        norm: of the ball; ``"linf"``, ``"l2"``, ``"l1"`` or ``"l0"``, where epsilon counts the entries that may change.
        domain: least and greatest value of every input entry; by default (0, 1) for uint8 images, else unlimited.
        indices: which inputs; by default all.
        out: a file of JSON lines that gets each record as it comes.
        resume: continue ``out``: inputs that have a record there are not decided again, except those that ended
            ``unknown`` on another engine or within less time, and robust ones that nobody tried to certify where
            ``certificates`` are wanted.
        certificates: a folder that gets the certificate of each robust input, as ``INDEX.zip``; the checker's time is
            part of the input's. One that holds certificates already is refused, unless ``out`` is continued.
        time_limit: seconds for each input.
        workers: processes, each with one thread; by default one for each core.
        engine: ``auto``, or ``bounds``, ``milp`` or ``bab`` to force one.
        backend: MIP solver of the ``milp`` engine.
        seed: of the attacks' randomness.
        progress: called a few times a second.
        cancel: asked now and then; once it returns true, inputs that are being decided are left without a record.

    Raises:
        InputError: the network, the data set or their combination cannot be used, or ``out`` cannot be continued.
        BackendError: the chosen back end cannot serve.
    """
    begin = time.monotonic()
    loaded = network if isinstance(network, Network) else networks.load(network)
    dataset = data if isinstance(data, Dataset) else read_dataset(Path(data))
    chosen = _chosen(dataset, indices)
    if resume and out is None:
        msg = "there is nothing to resume without a file of records; give out as well"
        raise InputError(msg)
    if domain is None and dataset.stored.dtype == "uint8":
        domain = (0, 1)
    ball = Ball(epsilon, norm, domain)
    folder = None if certificates is None else Path(certificates)
    options = Options(Engine(engine), Backend(backend), seed)
    solver.audit.check(loaded, dataset, chosen, ball)
    continued = resume and out is not None and Path(out).exists()
    if folder is not None and not continued:
        _check_no_certificates(folder)

    tally = Tally(len(chosen))
    records: dict[int, Record] = {}
    with contextlib.ExitStack() as stack:
        file: RecordFile | None = None
        if out is not None:
            head = heading(loaded, dataset, ball)
            file = stack.enter_context(
                RecordFile.open(
                    Path(out), head, resume=resume, engine=str(options.engine), limit=time_limit, certificates=folder
                )
            )
            records = {index: file.known[index] for index in chosen if index in file.known}
            for record in records.values():
                tally.add(record)
        found = solver.audit.audit(
            loaded,
            dataset,
            [index for index in chosen if index not in records],
            ball,
            options=options,
            seconds=time_limit,
            processes=workers or os.cpu_count() or 1,
            certificates=folder,
            progress=None if progress is None else lambda outlook: progress(AuditProgress(tally, outlook)),
            cancel=cancel,
        )
        for record in stack.enter_context(contextlib.closing(found)):
            if file is not None:
                file.append(record)
            records[record["index"]] = record
            tally.add(record)
    ordered = tuple(records[index] for index in sorted(records))
    return Audit(ordered, tally, time.monotonic() - begin, cancelled=tally.done < tally.total)


def _check_no_certificates(folder: Path) -> None:
    """Refuse a folder with certificates of an earlier audit: they would stay among those of this one, and prove too."""
    found = min(folder.glob("*.zip"), default=None)
    if found is not None:
        msg = (
            f"{folder} holds certificates already, such as {found.name}, which may prove another question; name "
            "another folder, or continue the records that they belong to (out and resume)"
        )
        raise InputError(msg)


def _chosen(dataset: Dataset, indices: Sequence[int] | None) -> list[int]:
    chosen = list(range(len(dataset))) if indices is None else [int(index) for index in indices]
    wrong = next((index for index in chosen if not 0 <= index < len(dataset)), None)
    if wrong is not None:
        msg = f"there is no input {wrong} in data set {dataset.name}, which has {len(dataset)}: 0 to {len(dataset) - 1}"
        raise DatasetError(msg)
    if not chosen:
        msg = "there is no input to audit; name at least one index"
        raise DatasetError(msg)
    if len(set(chosen)) < len(chosen):
        msg = "an index occurs twice; each input is decided once"
        raise DatasetError(msg)
    return chosen
