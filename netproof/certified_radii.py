"""Up to which ε inputs of a data set are certified: `largest_epsilons`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networks
import solver
from networks import Dataset, Network, read_dataset
from networks.exact import Number
from solver import Backend, Budget, Engine, Kind, Options, Verdict

__all__ = ["CertifiedRadius", "largest_epsilons"]


@dataclass(frozen=True, eq=False)
class CertifiedRadius:
    """Up to which ε one input keeps its class.

    Attributes:
        index: of the input.
        label: its class.
        epsilon: no input within it has another class, as is proven; 0 where nothing is.
        verdict: of kind ``distance``, with the certificate if one was asked for.
    """

    index: int
    label: int
    epsilon: float
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """The record of one input."""
        document = self.verdict.to_json()
        kept = ("certificate", "seconds", "reason", "decided_by")
        record = {"index": self.index, "label": self.label, "epsilon": self.epsilon}
        return record | {name: document[name] for name in kept}


def largest_epsilons(
    network: str | Path | Network,
    data: str | Path | Dataset,
    indices: Sequence[int],
    *,
    epsilon: Number | None = None,
    norm: str = "linf",
    domain: tuple[Number, Number] | None = None,
    tolerance: Number | None = None,
    time_limit: float = 60.0,
    engine: Engine | str = Engine.AUTO,
    backend: Backend | str = Backend.AUTO,
    threads: int | None = None,
    seed: int = 0,
    certificate: bool = False,
    cancel: Callable[[], bool] | None = None,
) -> Iterator[CertifiedRadius]:
    """The largest ε that is proven for each of some inputs of a data set, one after the other.

    Args:
        network: an ONNX file, or a network that `netproof.load` returned.
        data: an ``.npz`` file with ``images`` and ``labels``, or a `networks.Dataset`.
        indices: which inputs.
        epsilon: the largest one that is looked at; may be left out where there is a domain.
        norm: ``linf``, ``l2``, ``l1`` or ``l0``.
        domain: least and greatest value of every input entry; by default (0, 1) for uint8 images, else unlimited.
        tolerance: how far below the largest ε it may stay; by default 1e-5.
        time_limit: seconds for each input.
        engine: with ``bounds``, an ε counts only if bounds alone prove it, which is fast.
        backend, threads, seed, certificate, cancel: see `netproof.verify`.

    Raises:
        InputError: the network, the data set or their combination cannot be used.
    """
    loaded = network if isinstance(network, Network) else networks.load(network)
    dataset = data if isinstance(data, Dataset) else read_dataset(Path(data))
    if domain is None and dataset.stored.dtype == "uint8":
        domain = (0, 1)
    questions = [
        solver.pose(
            loaded,
            input=dataset.input(index),
            label=dataset.label(index),
            epsilon=epsilon,
            norm=norm,
            domain=domain,
            kind=Kind.DISTANCE,
            tolerance=tolerance,
        )
        for index in indices
    ]
    found = solver.largest_epsilon(
        loaded,
        (question.query for question in questions),
        norm=norm,
        tolerance=questions[0].tolerance if questions else None,
        options=Options(Engine(engine), Backend(backend), seed, certificate),
        budget=Budget(time_limit) if threads is None else Budget(time_limit, threads),
        cancel=cancel,
    )
    for index, verdict in zip(indices, found, strict=True):
        assert verdict.distance is not None
        yield CertifiedRadius(index, dataset.label(index), max(0.0, verdict.distance[0]), verdict)
        if cancel is not None and cancel():
            return
