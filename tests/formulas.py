"""Boolean formulas as networks: x satisfies all clauses and is binary where both outputs are at most 0.

With a literal's value v, a clause gives relu(1 − Σ v), and a variable gives x − relu(2x − 1), which is 0 in [0, 1] for
binary x alone.
"""

from __future__ import annotations

import numpy as np

import networks
from networks import Clause, Network, Property, Query, Region, Row
from networks.exact import exact
from tests.constructed import gemms

__all__ = ["encoded", "query", "unsatisfiable"]

Formula = list[dict[int, bool]]


def unsatisfiable(seed: int, variables: int, clauses: int) -> Formula:
    """The leaves of a random decision tree: every assignment falsifies one clause, and without it a formula holds."""
    rng = np.random.default_rng(seed)
    leaves: Formula = [{}]
    while len(leaves) < clauses:
        leaf = leaves.pop(int(rng.integers(len(leaves))))
        free = [v for v in range(variables) if v not in leaf]
        variable = free[int(rng.integers(len(free)))]
        leaves += [leaf | {variable: sign} for sign in (False, True)]
    return leaves


def encoded(formula: Formula, variables: int) -> Network:
    """Outputs: the sum over the clauses, and the sum over the variables."""
    eye = np.eye(variables)
    signs = np.array([[{True: 1, False: -1, None: 0}[clause.get(v)] for v in range(variables)] for clause in formula])
    # 1 − Σ_positive x − Σ_negative (1 − x)
    hidden = np.concatenate([-signs, eye, 2 * eye])
    bias = np.concatenate([1 - (signs < 0).sum(1), np.zeros(variables), -np.ones(variables)])
    output = np.zeros((2, len(hidden)))
    output[0, : len(formula)] = 1
    output[1, len(formula) : -variables] = 1
    output[1, -variables:] = -1
    return networks.load_bytes(gemms([(hidden.tolist(), bias.tolist()), (output.tolist(), [0, 0])]))


def query(variables: int) -> Query:
    """Whether no assignment satisfies the formula."""
    rows = tuple(Row(((k, exact(1)),)) for k in range(2))
    return Query.single(Region.box([0] * variables, [1] * variables), Property((Clause(rows, 2),)))
