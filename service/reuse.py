"""Which answers serve which questions.

A question is a network, a region, a property and what is claimed about them; how an answer is found (time limit, seed,
back end) is no part of it. Balls that differ in ε alone are nested, so their question is hashed without ε, and

* *robust at ε* serves every ε' ≤ ε: the smaller ball is part of the larger one;
* *a counterexample at ε* serves every ε' ≥ ε: it lies in the larger ball, too.

*Soundness.* This holds for every norm, domain, frozen entry and linear constraint, which are the same on both sides
because they are hashed. A bound of the margin passes in one direction only: the least margin over a ball bounds that of
a smaller ball from below, and a value that is attained in it is attained in every larger one; nothing else is kept.
An exact witness (trust ``exact``) stays where it was found: a larger ball may hold float32 inputs, among which a
counterexample then belongs.

Who names an engine wants that engine's word, and is served by its answers alone.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from networks.exact import exact, written
from solver.options import Engine
from solver.verdict import Outcome, Trust

__all__ = ["Asked", "asked", "canonical", "passes_on", "served"]

#: Members of a query that say where its input comes from and not what it is, or that `asked` treats by itself.
_APART = frozenset({"input", "dataset", "index", "epsilon", "kind"})
#: No number that a request may hold is written with more characters.
_LONGEST_NUMBER = 120


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as answers are looked up by it.

    Attributes:
        question: digest of all that is claimed about, but for ``epsilon``.
        epsilon: radius of the ball, None where the region is not one.
        engine: the engine that was named, or ``auto``.
        certificate: whether a robust answer has to come with a certificate.
    """

    question: str
    epsilon: Fraction | None
    engine: str
    certificate: bool

    @property
    def radius(self) -> str:
        """``epsilon`` as the ledger keeps it, exactly."""
        return "" if self.epsilon is None else written(self.epsilon)


def asked(request: dict[str, Any], center: NDArray[np.floating[Any]] | None = None) -> Asked | None:
    """The question of an admitted request (see `service.request`), or None for one whose answers serve no other.

    Args:
        request: what the ledger keeps of it.
        center: the ball's center, where the request only names it.
    """
    query = request["query"]
    if query.get("kind", "decide") != "decide":
        return None
    claim = {key: canonical(value) for key, value in query.items() if key not in _APART and value is not None}
    if center is None and query.get("input") is not None:
        center = np.asarray(query["input"], dtype=np.float64)
    digest = hashlib.sha256(json.dumps([request["network"], claim], sort_keys=True).encode())
    if center is not None:
        digest.update((center.astype(np.float64).reshape(-1) + 0.0).tobytes())  # -0.0 is 0.0
    epsilon = query.get("epsilon")
    return Asked(
        digest.hexdigest(),
        None if epsilon is None else exact(epsilon),
        str(request.get("engine", Engine.AUTO)),
        bool(request.get("certificate", False)),
    )


def canonical(value: Any) -> Any:
    """``value`` with numbers that are equal written alike: 0.1, "0.1" and "1/10"."""
    if isinstance(value, dict):
        return {key: canonical(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, bool) or (isinstance(value, str) and len(value) > _LONGEST_NUMBER):
        return value
    try:
        return f"={written(exact(value))}"
    except ValueError:
        return value


def passes_on(verdict: dict[str, Any]) -> bool:
    """Whether a verdict can say anything about another epsilon than its own."""
    return verdict["verdict"] != Outcome.UNKNOWN and verdict.get("trust") != Trust.EXACT


def served(verdict: dict[str, Any], found: Fraction | None, epsilon: Fraction | None, source: dict[str, Any]) -> Any:
    """The verdict at ``epsilon`` that ``verdict``, found at ``found``, implies; ``source`` says whose it is."""
    lower, upper = verdict.get("margin") or (None, None)
    if found != epsilon:
        lower, upper = (lower, None) if verdict["verdict"] == "robust" else (None, upper)
    origin = {**source, "seconds": verdict.get("seconds")}
    if found is not None:
        origin["epsilon"] = written(found)
    kept = {key: value for key, value in verdict.items() if key != "history"}
    return {**kept, "margin": [lower, upper], "seconds": 0.0, "stages": [], "cached_from": origin}
