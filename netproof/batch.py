"""A batch as the service describes it."""

from __future__ import annotations

from dataclasses import dataclass

from netproof.answers import Document

__all__ = ["Batch"]


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the service described it in ``document``."""

    document: Document

    @property
    def id(self) -> str:
        return str(self.document["id"])

    @property
    def state(self) -> str:
        """One of running, cancelling, cancelled, exhausted, finished."""
        return str(self.document["state"])

    @property
    def ended(self) -> bool:
        """Whether nothing happens until somebody resumes or retries it."""
        return self.state in {"cancelled", "exhausted", "finished"}

    @property
    def counts(self) -> dict[str, int]:
        """Items by state and by verdict."""
        return dict(self.document["counts"])

    @property
    def items(self) -> int:
        """Inputs times epsilons."""
        return int(self.document["items"])

    @property
    def undecided(self) -> int:
        """Items that are neither robust nor have a counterexample."""
        return self.items - self.counts["robust"] - self.counts["counterexample"]

    @property
    def curve(self) -> list[tuple[str, float, float]]:
        """For each epsilon, ascending: it, and the least and greatest share of inputs that can be robust."""
        return [(point["epsilon"], *point["robust_accuracy"]) for point in self.document["curve"]]

    @property
    def robust_accuracy(self) -> tuple[float, float] | None:
        """The interval of the robust accuracy; None with several epsilons, see `curve`."""
        found = self.document["robust_accuracy"]
        return None if found is None else (found[0], found[1])

    @property
    def seconds_left(self) -> tuple[float, bool] | None:
        """An estimate, and whether it is only an upper bound; None where there is nothing to go by."""
        left = self.document["left"]
        return None if left is None or left["seconds"] is None else (left["seconds"], left["at_most"])
