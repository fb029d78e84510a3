"""The big-M formulation of a query, in Pyomo, compiled to matrices.

Symbols. x is the input, in the region's box. For an unstable ReLU j with pre-activation bounds ``l_j < 0 < u_j``, h_j
is its output, s_j the negative part that it cuts off and a_j ∈ {0, 1} its phase, so its pre-activation is ``ẑ_j = h_j
− s_j``. Stable ReLUs have no variables: an active one passes its input on, an inactive one is zero
(`bounds.encoding`). So ẑ_j and the rows of the property are linear forms of x and of the outputs of earlier unstable
ReLUs, with coefficients w_j and v_j:

    h_j − s_j = w_j·x + v_j·h + b_j,      0 ≤ h_j ≤ u_j a_j,      0 ≤ s_j ≤ −l_j (1 − a_j)

These are eq. (6)-(10) of Tjeng, Xiao & Tedrake (ICLR 2019), with asymmetric bounds, in the variables of Fischetti &
Jo (Constraints 2018), eq. (2): with ``s = h − ẑ`` their rows ``h ≥ ẑ`` and ``h ≤ ẑ − l (1 − a)`` become a bound and a
sparse row, and the dense row of each unstable ReLU occurs once. A clause, a conjunction of rows ``c_r·y + d_r ≤ 0``,
has the margin ``max_r (c_r·y + d_r)``, which is minimised; or it is a constraint, ``max_r (c_r·y + d_r) ≤ 0``, and the
distance from the region's center is minimised (`Formulation.nearest`). Norm balls and linear constraints of the region
are rows of their own (`solver.displacement`).

Soundness. The formulation contains every point of the network over the region: l and u are rigorous, the region's end
points are rounded outward, and the rounding error of the coefficients is charged a priori: subtracted from the
margin, and added to the row of ẑ_j as a bounded variable where it exceeds what solvers resolve anyway. What a MIP
solver then makes of the model is trusted, not proved.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bounds import Enclosure
from networks.evaluation import values
from networks.graph import Network
from networks.property import Clause
from networks.region import Region
from solver.compiled import SMALLEST, TOLERANCE, CompiledModel
from solver.displacement import Displacement, displacement
from solver.errors import NumericsError
from solver.linear_forms import Forms, linear_forms, parent
from solver.squares import QuadraticConstraint, Squares, compile_squares

__all__ = ["Formulation", "Objective", "formulate"]


@dataclass(frozen=True, eq=False)
class Objective:
    """``cost · v + offset`` plus the squares: what a model minimises."""

    cost: NDArray[np.float64]
    offset: float
    squares: Squares | None = None


@dataclass(frozen=True, eq=False)
class Formulation:
    """The models of some clauses: common constraints, and each clause's margin as an objective.

    Attributes:
        common: the constraints, without an objective.
        costs, offsets: the objectives, shapes ``(clauses, columns)`` and ``(clauses,)``.
        inputs: the column of each input entry, −1 where nothing depends on it; shape ``(inputs,)``.
        default: values of the entries without a column, shape ``(inputs,)``.
        relus: the unstable ReLUs that have variables, as pairs (node, neuron) in topological order.
        phases: the columns of h, s and a of each of them, shape ``(3, K)``.
        margins: the column of t of each clause, −1 where the margin is a single row; shape ``(clauses,)``.
        allowances: how far a solver's bound of each margin may be off, shape ``(clauses,)``; see `formulate`.
        forms: ẑ of each of the ReLUs as a linear form of the columns, ``(K, columns)``.
        sizes: the columns of norms in the model, each with the norm that it belongs to and its key there.
        distance: the distance from the region's center as an objective (for l2, its square), where one was asked for.
    """

    common: CompiledModel
    costs: NDArray[np.float64]
    offsets: NDArray[np.float64]
    inputs: NDArray[np.int64]
    default: NDArray[np.float64]
    relus: tuple[tuple[int, int], ...]
    phases: NDArray[np.int64]
    margins: NDArray[np.int64]
    allowances: NDArray[np.float64]
    forms: Forms
    sizes: tuple[tuple[int, Displacement, int], ...] = ()
    distance: Objective | None = None

    def widened(self, clause: int) -> CompiledModel:
        """`model` with the row of each ẑ widened by its form's error: a superset of the network's points, rigorously.

        A bound that is proven from it needs no allowance.
        """
        model = self.model(clause)
        # The equations are the ReLUs' affine rows, in the ReLUs' order.
        error = np.zeros(model.rows)
        error[model.row_lower == model.row_upper] = 2 * self.forms.error
        return replace(model, row_lower=model.row_lower - error, row_upper=model.row_upper + error)

    def model(self, clause: int) -> CompiledModel:
        """The model whose minimum is the margin of ``clause``."""
        return replace(self.common, cost=self.costs[clause], offset=float(self.offsets[clause]))

    def nearest(self, clause: int) -> CompiledModel:
        """The model whose minimum is the distance of the nearest violation of ``clause`` (for l2, its square).

        The margin may be as large as its allowance, so no solver's tolerance cuts a violation off.
        """
        assert self.distance is not None
        limited = self.model(clause).below(float(self.allowances[clause]))
        goal = self.distance
        return replace(limited, cost=goal.cost, offset=goal.offset, squares=goal.squares)

    def point(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """The network input, shape ``(inputs,)``, at a point of the model, shape ``(columns,)``."""
        # Entries without a column have index −1, which picks the appended 0.
        return np.where(self.inputs >= 0, np.append(v, 0.0)[self.inputs], self.default)

    def lift(self, network: Network, x: NDArray[np.float64], margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """The point of the model, shape ``(columns,)``, that belongs to the network input ``x``, shape ``(inputs,)``.

        ``margins`` are the clauses' margins at ``x``, shape ``(clauses,)``. Every such point must be feasible.
        """
        value = values(network, x[None])
        z = np.array([value[parent(network, node)][0, neuron] for node, neuron in self.relus])
        v = np.zeros(self.common.columns)
        v[self.inputs[self.inputs >= 0]] = x[self.inputs >= 0]
        v[self.phases] = np.stack([np.maximum(z, 0), np.maximum(-z, 0), z > 0])
        v[self.margins[self.margins >= 0]] = margins[self.margins >= 0]
        for column, size, key in self.sizes:
            v[column] = size.values(x)[key]
        return v


def formulate(
    network: Network, region: Region, clauses: Sequence[Clause], enclosure: Enclosure, *, norm: str | None = None
) -> Formulation:
    """The big-M formulation of the margins of ``clauses`` over ``region``.

    Allowances. A solver meets row j to within `TOLERANCE` of its range ``r_j = max(u_j, −l_j)`` (models are scaled
    that way), and an error in ẑ_j moves the margin by at most S_j times as much, where ``S_j = |c_j| + Σ_i S_i
    |v_ij|`` over the later ReLUs i. A bound of the margin is therefore trusted up to ``10·TOLERANCE·Σ_j S_j r_j`` and
    1e-6 of the margin's own range.

    Args:
        network: the network.
        region: the input region.
        clauses: at least one; what is still open of the property.
        enclosure: rigorous pre-activation bounds over the region.
        norm: formulates the distance from the region's center in this norm too.

    Raises:
        NumericsError: the network's numbers overflow.
        ModelSizeError: the model would have more than `solver.linear_forms.LARGEST_MODEL` coefficients.
    """
    import pyomo.environ as pyo
    from pyomo.common.gc_manager import PauseGC
    from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler

    relus, affine, rows = linear_forms(network, region, clauses, enclosure)
    lower = np.array([enclosure.lower[node][neuron] for node, neuron in relus])
    upper = np.array([enclosure.upper[node][neuron] for node, neuron in relus])
    reach = np.maximum(upper, -lower)
    box = np.maximum(np.abs(region.lower), np.abs(region.upper))
    magnitude = abs(rows.matrix) @ np.concatenate([box, upper]) + np.abs(rows.constant) + rows.error
    with np.errstate(over="ignore", invalid="ignore"):
        sensitivity = _sensitivities(affine, rows, network.inputs) @ reach
    if not np.isfinite(sensitivity).all():
        msg = "the network's numbers overflow: an error in a hidden neuron may move an output by more than any number"
        raise NumericsError(msg)
    allowance = 10 * TOLERANCE * sensitivity + 1e-6 * magnitude + rows.error
    of_clause = np.repeat(np.arange(len(clauses)), [len(clause.rows) for clause in clauses])

    # Without the pause Python's garbage collector takes most of the time, over objects by the hundred thousand.
    with PauseGC():
        m = pyo.ConcreteModel()
        m.x = pyo.Var(range(network.inputs), bounds=lambda _, i: (float(region.lower[i]), float(region.upper[i])))
        relu_variables(m, lower, upper)
        affine_rows(m, affine, reach)
        big_m_rows(m, lower, upper)
        margin_objectives(m, rows, of_clause, magnitude)
        constraint_rows(m, region)
        relevant = _relevant(region, affine, rows)
        ball = ball_rows(m, region, relevant)
        goal = None
        if norm is not None:
            goal = displacement(m, "distance", norm, _center(region), relevant, region.lower, region.upper)
            if norm != "l2":
                m.goal = pyo.Objective(expr=goal.expression)
        form = LinearStandardFormCompiler().write(m, mixed_form=True, column_order=list(m.x.values()))
        limits = np.array([variable.bounds for variable in form.columns], dtype=np.float64).reshape(-1, 2)
        integral = np.array([variable.is_binary() for variable in form.columns], dtype=bool)
        column = {id(variable): i for i, variable in enumerate(form.columns)}

    def columns(variables: Iterable[Any]) -> NDArray[np.int64]:
        return np.array([column.get(id(variable), -1) for variable in variables], dtype=np.int64)

    inputs, h = columns(m.x.values()), columns(m.h.values())
    sources = affine.matrix.tocoo()
    place = np.concatenate([inputs, h])[sources.coords[1]]
    kept = sources.data != 0
    within = csr_array((sources.data[kept], (sources.coords[0][kept], place[kept])), shape=(len(relus), len(integral)))
    side = np.asarray(form.rhs, dtype=np.float64)
    kind = np.array([row.bound_type for row in form.rows], dtype=np.int64)
    quadratic = []
    if region.ball is not None and ball is not None and ball.norm == "l2":
        limit = region.ball.budget_above * (1 + 2.0**-48)
        quadratic.append(QuadraticConstraint(compile_squares(ball.expression, column), limit))
    offsets = np.asarray(form.c_offset, dtype=np.float64)
    costs = np.asarray(form.c.todense(), dtype=np.float64).reshape(len(offsets), len(integral))
    distance = None
    if goal is not None and goal.norm == "l2":
        distance = Objective(np.zeros(len(integral)), 0.0, compile_squares(goal.expression, column))
    elif goal is not None:
        distance = Objective(costs[-1], float(offsets[-1]))
    common = CompiledModel(
        cost=np.zeros(len(integral)),
        offset=0.0,
        matrix=csr_array(form.A),
        row_lower=np.where(kind <= 0, side, -np.inf),
        row_upper=np.where(kind >= 0, side, np.inf),
        lower=limits[:, 0],
        upper=limits[:, 1],
        integral=integral,
        quadratic=tuple(quadratic),
    )
    return Formulation(
        common=common,
        costs=costs[: len(clauses)],
        offsets=offsets[: len(clauses)],
        inputs=inputs,
        default=_center(region),
        relus=relus,
        phases=np.stack([h, columns(m.s.values()), columns(m.a.values())]),
        margins=columns(map(dict(m.t.items()).get, range(len(clauses)))),
        allowances=np.array([allowance[of_clause == k].max() for k in range(len(clauses))]),
        forms=Forms(within, affine.constant, affine.error),
        sizes=tuple(
            (column[id(variable)], size, key)
            for size in (ball, goal)
            if size is not None
            for key, variable in size.variables.items()
            if id(variable) in column
        ),
        distance=distance,
    )


def relu_variables(m: Any, lower: NDArray[np.float64], upper: NDArray[np.float64]) -> None:
    """``0 ≤ h_j ≤ u_j``, ``0 ≤ s_j ≤ −l_j`` and ``a_j ∈ {0, 1}``; ``lower`` l and ``upper`` u have shape ``(K,)``."""
    import pyomo.environ as pyo

    count = range(len(lower))
    m.h = pyo.Var(count, bounds=lambda _, j: (0.0, float(upper[j])))
    m.s = pyo.Var(count, bounds=lambda _, j: (0.0, float(-lower[j])))
    m.a = pyo.Var(count, domain=pyo.Binary)


def affine_rows(m: Any, forms: Forms, reach: NDArray[np.float64]) -> None:
    """``h_j − s_j = w_j·x + v_j·h + b_j + e_j``, one row for each unstable ReLU.

    ``|e_j|`` is at most the form's rounding error. It is left out (zero) where the error is below what solvers
    resolve on a row whose value ẑ_j reaches up to ``reach``, shape ``(K,)``.
    """
    import pyomo.environ as pyo

    right = forms.expressions([*m.x.values(), *m.h.values()])
    uncertain = np.flatnonzero(forms.error > SMALLEST * reach).tolist()
    m.e = pyo.Var(uncertain, bounds=lambda _, j: (-float(forms.error[j]), float(forms.error[j])))
    for j in uncertain:
        right[j] += m.e[j]
    m.affine = pyo.Constraint(range(len(right)), rule=lambda m, j: m.h[j] - m.s[j] - right[j] == 0)


def big_m_rows(m: Any, lower: NDArray[np.float64], upper: NDArray[np.float64]) -> None:
    """``h_j ≤ u_j a_j`` and ``s_j ≤ −l_j (1 − a_j)``; ``lower`` l and ``upper`` u have shape ``(K,)``."""
    import pyomo.environ as pyo

    count = range(len(lower))
    m.on = pyo.Constraint(count, rule=lambda m, j: m.h[j] - float(upper[j]) * m.a[j] <= 0)
    m.off = pyo.Constraint(count, rule=lambda m, j: m.s[j] - float(lower[j]) * m.a[j] <= -float(lower[j]))


def margin_objectives(m: Any, forms: Forms, of_clause: NDArray[np.int64], magnitude: NDArray[np.float64]) -> None:
    """One objective for each clause: its row, or t with ``t ≥ row_r`` for every row r of a conjunction.

    Args:
        m: the Pyomo model.
        forms: R rows, those of a clause next to each other.
        of_clause: the clause of each row, shape ``(R,)``.
        magnitude: what the terms of each row can sum to at most, shape ``(R,)``.
    """
    import pyomo.environ as pyo

    rows = forms.expressions([*m.x.values(), *m.h.values()])
    clauses = [np.flatnonzero(of_clause == k).tolist() for k in range(of_clause.max() + 1)]
    # Twice the magnitude: no rounding can make these bounds cut anything off.
    limit = {k: 2 * float(magnitude[chosen].max()) for k, chosen in enumerate(clauses) if len(chosen) > 1}
    m.t = pyo.Var(list(limit), bounds=lambda _, k: (-limit[k], limit[k]))
    m.above = pyo.ConstraintList()
    m.margin = pyo.ObjectiveList()
    for k, chosen in enumerate(clauses):
        m.margin.add(m.t[k] if k in limit else rows[chosen[0]])
        if k in limit:
            for r in chosen:
                m.above.add(m.t[k] - rows[r] >= 0)


def constraint_rows(m: Any, region: Region) -> None:
    """The region's linear constraints ``Σ a_i x_i ≤ b``, with the rounding of their coefficients charged to b."""
    import pyomo.environ as pyo
    from pyomo.core.expr.numeric_expr import LinearExpression

    m.region = pyo.ConstraintList()
    reach = np.maximum(np.abs(region.lower), np.abs(region.upper))
    for constraint in region.constraints:
        a = [float(value) for value in constraint.values]
        error = 2.0**-52 * (np.abs(a) @ reach[list(constraint.indices)])
        bound = np.nextafter(float(constraint.bound), np.inf) + error
        row = LinearExpression(constant=0.0, linear_coefs=a, linear_vars=[m.x[i] for i in constraint.indices])
        m.region.add(row <= float(bound))


def ball_rows(m: Any, region: Region, entries: NDArray[np.int64]) -> Displacement | None:
    """The region's norm ball over ``entries``; an l2 ball's square is left to the caller, as it is no row."""
    import pyomo.environ as pyo

    if region.ball is None:
        return None
    center = region.ball.center.astype(np.float64)
    size = displacement(m, "ball", region.ball.norm, center, entries, region.lower, region.upper)
    if size.norm != "l2" and not isinstance(size.expression, int):
        # Constants that are summed up here round.
        error = 2.0**-48 * (region.ball.budget_above + np.abs(center).sum()) if size.norm == "l1" else 0.0
        m.ball = pyo.Constraint(expr=size.expression <= region.ball.budget_above + float(error))
    return size


def _relevant(region: Region, *forms: Forms) -> NDArray[np.int64]:
    """The inputs that rows or constraints depend on; the others may stay at the center, shape ``(k,)``."""
    used = np.zeros(region.inputs, dtype=bool)
    for form in forms:
        columns = form.matrix.indices[form.matrix.data != 0]
        used[columns[columns < region.inputs]] = True
    for constraint in region.constraints:
        used[list(constraint.indices)] = True
    return np.flatnonzero(used)


def _center(region: Region) -> NDArray[np.float64]:
    """The region's center, or the middle of its box if it has none."""
    if region.center is None:
        return (region.lower + region.upper) / 2
    return region.center.astype(np.float64)


def _sensitivities(affine: Forms, rows: Forms, inputs: int) -> NDArray[np.float64]:
    """S of `formulate`, shape ``(R, K)``: how much an error in each ẑ_j can move each row."""
    total = abs(rows.matrix[:, inputs:]).toarray()
    matrix = abs(affine.matrix[:, inputs:]).tocsr()
    for j in range(matrix.shape[0] - 1, -1, -1):
        begin, end = matrix.indptr[j], matrix.indptr[j + 1]
        total[:, matrix.indices[begin:end]] += total[:, j, None] * matrix.data[begin:end]
    return np.asarray(total)
