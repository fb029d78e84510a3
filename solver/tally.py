"""What the records of an audit amount to: counts, the interval of the adversarial error, and where time went."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from solver.audit import Record

__all__ = ["Tally"]

_SLOWEST = 5


@dataclass(eq=False)
class Tally:
    """Counts over ``total`` inputs, of which some have a record.

    Attributes:
        total: inputs of the audit.
        counts: records by verdict.
        misclassified: inputs that the network gets wrong as they are; among the counterexamples.
        certified: robust records whose certificate the checker accepted, by the arithmetic that it covers.
        sizes: bytes of each certificate.
        checking: seconds that the checker took for them, summed.
        costs: (seconds, index, verdict) of each record.
    """

    total: int
    counts: Counter[str] = field(default_factory=Counter)
    misclassified: int = 0
    certified: Counter[str] = field(default_factory=Counter)
    sizes: list[int] = field(default_factory=list)
    checking: float = 0.0
    costs: list[tuple[float, int, str]] = field(default_factory=list)

    def add(self, record: Record) -> None:
        verdict = str(record["verdict"])
        self.counts[verdict] += 1
        self.misclassified += verdict == "counterexample" and record.get("decided_by") == "replay"
        if record.get("trust") == "certified":
            self.certified[str(record["semantics"])] += 1
            self.sizes.append(int(record["certificate"]["bytes"]))
            self.checking += float(record["certificate"]["seconds"])
        self.costs.append((float(record["seconds"]), int(record["index"]), verdict))

    @property
    def done(self) -> int:
        """Inputs that have a record."""
        return sum(self.counts.values())

    @property
    def undecided(self) -> int:
        """Inputs that are neither robust nor have a counterexample, those without a record included."""
        return self.total - self.counts["robust"] - self.counts["counterexample"]

    @property
    def robust_accuracy(self) -> tuple[float, float]:
        """Least and greatest share of the inputs that can be robust: [proven, 1 − refuted]."""
        if not self.total:
            return 0.0, 1.0
        return self.counts["robust"] / self.total, 1 - self.counts["counterexample"] / self.total

    @property
    def adversarial_error(self) -> tuple[float, float]:
        """One minus the robust accuracy."""
        low, high = self.robust_accuracy
        return 1 - high, 1 - low

    def to_json(self) -> dict[str, Any]:
        """The summary as one JSON object; ``seconds`` are those of the inputs, whichever run decided them."""
        costs = [seconds for seconds, _, _ in self.costs]
        return {
            "inputs": self.total,
            "done": self.done,
            **{verdict: self.counts[verdict] for verdict in ("robust", "counterexample", "unknown")},
            "misclassified": self.misclassified,
            "certified": self.certified.total(),
            "certificates": {
                "float32": self.certified["float32"],
                "bytes": sum(self.sizes),
                "median_bytes": int(statistics.median(self.sizes)) if self.sizes else None,
                "check_seconds": round(self.checking, 6),
            },
            "robust_accuracy": [round(end, 9) for end in self.robust_accuracy],
            "adversarial_error": [round(end, 9) for end in self.adversarial_error],
            "seconds": {
                "sum": round(sum(costs), 6),
                "mean": round(statistics.fmean(costs), 6) if costs else None,
                "median": round(statistics.median(costs), 6) if costs else None,
                "max": round(max(costs), 6) if costs else None,
            },
            "slowest": [
                {"index": index, "seconds": seconds, "verdict": verdict}
                for seconds, index, verdict in sorted(self.costs, reverse=True)[:_SLOWEST]
            ],
        }
