"""How far outputs go over a region: `ranges`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networks
import solver
from networks import Network
from networks.errors import PropertyError
from solver import Backend, Budget, Engine, Options, Progress, Verdict

__all__ = ["Range", "ranges"]


@dataclass(frozen=True, eq=False)
class Range:
    """The range of one output over a region.

    Attributes:
        output: which one.
        least: the verdict about its least value, of kind ``margin``: that is the margin.
        greatest: the verdict about its greatest value: that is minus the margin.
    """

    output: int
    least: Verdict
    greatest: Verdict

    @property
    def enclosure(self) -> tuple[float, float]:
        """No input of the region takes the output out of it: proven."""
        return self.least.margin[0], -self.greatest.margin[0]

    @property
    def attained(self) -> tuple[float, float]:
        """The least and the greatest value that were replayed; infinite ends where none was."""
        return self.least.margin[1], -self.greatest.margin[1]

    def to_json(self) -> dict[str, Any]:
        """Proven and replayed ends, and both verdicts; ends that are infinite are null."""
        least, greatest = self.least.to_json(), self.greatest.to_json()
        above, below = ([None if end is None else -end for end in reversed(greatest["margin"])], least["margin"])
        return {
            "output": self.output,
            "least": below,
            "greatest": above,
            "verdicts": {"least": least, "greatest": greatest},
        }


def ranges(
    network: str | Path | Network,
    *,
    outputs: Sequence[int] | None = None,
    time_limit: float = 300.0,
    engine: Engine | str = Engine.AUTO,
    backend: Backend | str = Backend.AUTO,
    threads: int | None = None,
    seed: int = 0,
    certificate: bool = False,
    progress: Callable[[Progress], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    **region: Any,
) -> Iterator[Range]:
    """The ranges of a network's outputs over a region, one after the other.

    >>> import numpy as np, netproof
    >>> image = np.load("examples/digits.npz")["images"][10]
    >>> (found,) = netproof.ranges(
    ...     "examples/digits_plain.onnx", outputs=[3], input=image, epsilon="0.01", domain=(0, 1), threads=1
    ... )
    >>> low, high = found.enclosure
    >>> low <= found.attained[0] <= found.attained[1] <= high
    True

    Args:
        network: an ONNX file, or a network that `netproof.load` returned.
        outputs: which; by default all.
        time_limit: seconds for each end of each range.
        engine, backend, threads, seed, certificate, progress, cancel: see `netproof.verify`.
        region: region and ``tolerance``, by the names and in the forms of `netproof.verify`.

    Raises:
        InputError: the network, the region or an output cannot be used.
    """
    loaded = network if isinstance(network, Network) else networks.load(network)
    chosen = range(loaded.outputs) if outputs is None else outputs
    for output in chosen:
        if not 0 <= output < loaded.outputs:
            msg = f"output {output} does not exist: the network has {loaded.outputs} outputs, counted from 0"
            raise PropertyError(msg)
    options = Options(Engine(engine), Backend(backend), seed, certificate)
    budget = Budget(time_limit) if threads is None else Budget(time_limit, threads)
    for output in chosen:
        found = []
        for end in ("least", "greatest"):
            asked = {"output": output, "end": end}
            question = solver.pose(loaded, **region, output_range=asked, kind="margin")
            found.append(solver.answer(question, options=options, budget=budget, progress=progress, cancel=cancel))
            if cancel is not None and cancel():
                return
        yield Range(output, *found)
