"""A population of points that looks for a violation where inputs are few: evolution with mutations that shrink.

Gradients lead astray where a clause is a conjunction, as its margin has a kink wherever another row takes the lead: on
ACAS Xu's property 7 none of 2,000 starts of gradient descent gets below zero, while every second population does.

Nothing here proves anything: points count only after `solver.replay` has reproduced them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from networks.property import Clause
from solver import policy
from solver.attack import Attack, AttackResult, clause_margins

__all__ = ["Population"]


class Population:
    """Populations that follow one another, each for the next clause, from points at random."""

    def __init__(self, attack: Attack, clauses: Sequence[Clause], seed: int = 0) -> None:
        self._attack = attack
        self._clauses = clauses
        self._rng = np.random.default_rng(seed)
        self._lower, self._upper = attack.region.lower, attack.region.upper
        self._count = 0  # generations so far, of all populations
        self._owed = 0
        self._best = np.zeros((0, len(self._lower)))

    def evolve(self, points: int) -> AttackResult:
        """As many generations as ``points`` new points fill, with what earlier calls left over.

        A generation waits until there are as many as the first one takes, so short searches do without.
        """
        self._owed += points
        upper = math.inf
        while self._owed >= policy.POPULATION_FIRST:
            clause = self._clauses[self._count // policy.POPULATION_GENERATIONS % len(self._clauses)]
            least = self._generation(clause)
            if least <= 0 or self._count % policy.POPULATION_GENERATIONS == 0:
                result = self._attack.confirm(clause, self._best[0])
                upper = min(upper, result.upper)
                if result.counterexample is not None:
                    return result
        return AttackResult(None, upper, 0)

    def _generation(self, clause: Clause) -> float:
        """One generation; the smallest margin."""
        age = self._count % policy.POPULATION_GENERATIONS
        self._count += 1
        width = self._upper - self._lower
        if age == 0:
            new = self._lower + self._rng.random((policy.POPULATION_FIRST, len(width))) * width
            self._best = new[:0]
        else:
            parents = self._best.repeat(policy.POPULATION_CHILDREN, 0)
            # Steps of each length, all of them shorter from one generation to the next.
            length = 0.3 * 0.85**age * np.exp2(-4 * self._rng.random((len(parents), 1)))
            new = np.clip(parents + self._rng.normal(size=parents.shape) * length * width, self._lower, self._upper)
        if not self._attack.region.plain:
            new = self._attack.region.project(new).astype(np.float64)
        self._owed -= len(new)
        every = np.concatenate([self._best, new])
        margins = self._margins(clause, every)
        order = np.argsort(margins)[: policy.POPULATION_BEST]
        self._best = every[order]
        return float(margins[order[0]])

    @torch.no_grad()
    def _margins(self, clause: Clause, points: NDArray[np.float64]) -> NDArray[np.float64]:
        program = self._attack.program
        outputs = program.forward(torch.as_tensor(points, dtype=program.dtype))
        margins: NDArray[np.float64] = clause_margins([clause], outputs)[:, 0].double().numpy()
        return margins
