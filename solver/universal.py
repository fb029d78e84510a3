"""Universal perturbations: one δ with ‖δ‖∞ ≤ ε that flips as many of a set of inputs as possible, as a MILP.

Input i is flipped by δ if the network does not give ``clip(x_i + δ)`` its label, where clip keeps the domain
(Moosavi-Dezfooli et al., *Universal adversarial perturbations*, CVPR 2017). Each input brings a copy of the network as
a function of δ, its clip rewritten into two ReLUs, and all copies share the columns of δ:

    max Σ_ik y_ik   subject to   margin_ik(δ) ≤ a_ik + M_ik (1 − y_ik),   Σ_k y_ik ≤ 1,   y_ik ∈ {0, 1}

over the inputs i and clauses k that bounds leave open. M_ik bounds the margin from above, and a_ik is the margin's
allowance (`solver.formulation`), so that no tolerance cuts a flip off.

Soundness. Inputs whose clauses are all proven by bounds over the box of δ are flipped by no δ, rigorously. How many of
the others can be flipped at once is the solver's word. What counts as flipped was replayed in ONNX Runtime; more of
those than the bound admits raises.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, vstack

from bounds import Enclosure, backward_bounds, lower_bounds
from bounds.program import program
from networks.exact import Number, exact
from networks.graph import AffineNode, Identity, InputNode, Network, Node, ReluNode, Scale
from networks.property import Clause, Property
from networks.region import Region
from solver import policy
from solver.backends import BACKENDS, MilpOutcome, MilpStatus, choose
from solver.compiled import CompiledModel, scale
from solver.crosscheck import fault, margins_at, sampled
from solver.errors import ModelSizeError, NumericsError
from solver.formulation import Formulation, formulate
from solver.options import Backend
from solver.replay import Replayer
from solver.verdict import Reason

__all__ = ["UniversalPerturbation", "shifted", "universal_perturbation"]


@dataclass(frozen=True, slots=True, eq=False)
class UniversalPerturbation:
    """The best perturbation found, and how many inputs any can flip.

    Attributes:
        delta: float32, shape ``(inputs,)``, every entry at most ε exactly.
        flipped: the indices of the inputs that it flips, each replayed in ONNX Runtime.
        bound: no perturbation flips more inputs than this, by the solver's word.
        robust: the indices of inputs that no perturbation flips, proven by bounds.
        reason: why the search ended before ``bound`` was the solver's optimum; None if it is.
    """

    delta: NDArray[np.float32]
    flipped: tuple[int, ...]
    bound: int
    robust: tuple[int, ...]
    backend: str
    choice: str
    nodes: int
    seconds: float
    reason: Reason | None = None
    statistics: dict[str, Any] = field(default_factory=dict)


def shifted(network: Network, x: NDArray[np.float32], domain: tuple[Number, Number] | None) -> Network:
    """The network as a function of δ: its value at ``clip(x + δ)``; ``x`` has shape ``(inputs,)``.

    With the domain [a, b], ``clip(x + δ) = a + relu(δ + (x − a)) − relu(δ + (x − b))``.
    """
    first, size, shape = network.nodes[0], network.inputs, network.input_shape
    assert isinstance(first, InputNode)
    start: list[Node] = [first]
    offset = x.astype(np.float64)
    if domain is None:
        start.append(AffineNode(((0, Identity(size)),), offset, shape, "x + δ"))
    else:
        low, high = float(exact(domain[0])), float(exact(domain[1]))
        start += [
            AffineNode(((0, Identity(size)),), offset - low, shape, "above the domain's start"),
            ReluNode(1, shape),
            AffineNode(((0, Identity(size)),), offset - high, shape, "above the domain's end"),
            ReluNode(3, shape),
            AffineNode(
                ((2, Identity(size)), (4, Scale(np.full(size, -1.0)))), np.full(size, low), shape, "clip(x + δ)"
            ),
        ]
    more = len(start) - 1
    for node in network.nodes[1:]:
        if isinstance(node, ReluNode):
            start.append(replace(node, parent=node.parent + more))
        else:
            assert isinstance(node, AffineNode)
            start.append(replace(node, terms=tuple((parent + more, linear) for parent, linear in node.terms)))
    return replace(network, nodes=tuple(start))


def universal_perturbation(
    network: Network,
    inputs: ArrayLike,
    labels: Sequence[int],
    epsilon: Number,
    domain: tuple[Number, Number] | None = None,
    *,
    backend: Backend = Backend.AUTO,
    deadline: float = math.inf,
    threads: int = 1,
    progress: Callable[[int, int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> UniversalPerturbation:
    """The δ with ``|δ_j| ≤ ε`` that makes the network give as many inputs as possible another class than their label.

    Args:
        network: the network; a small one.
        inputs: shape ``(N, inputs)`` or ``(N, *input_shape)``, rounded to float32.
        labels: the class of each input.
        epsilon: largest size of an entry of δ; a decimal is taken as written.
        domain: what the sum is clipped to; None for no clipping.
        backend: which solver.
        deadline: `time.monotonic` at which to stop.
        threads: cores that the solver may use.
        progress: called at most twice a second with how many inputs are flipped, the bound, and the nodes so far.
        cancel: polled; True ends the search with what is known.

    Raises:
        ModelSizeError: the networks of all inputs have more unstable ReLUs together than `policy.UNIVERSAL_RELUS`.
        BackendUnavailableError, LicenceLimitError: the solver that was asked for cannot serve; never for ``auto``.
        NumericsError: the model does not reproduce the network, or its bound contradicts what was replayed.
    """
    with np.errstate(over="ignore"):
        points = np.asarray(inputs, dtype=np.float64).astype(np.float32).reshape(len(labels), -1)
    return _Search(network, points, list(labels), epsilon, domain, backend, deadline, threads, progress, cancel).run()


@dataclass(frozen=True, eq=False)
class _Open:
    """An input that bounds leave open: its network, its open clauses, and its columns in the whole model."""

    network: Network
    clauses: tuple[Clause, ...]
    formulation: Formulation
    largest: NDArray[np.float64]
    place: NDArray[np.int64]
    chosen: NDArray[np.int64]


@dataclass(eq=False)
class _Search:
    """One run of `universal_perturbation`."""

    network: Network
    points: NDArray[np.float32]
    labels: list[int]
    epsilon: Number
    domain: tuple[Number, Number] | None
    wanted: Backend
    deadline: float
    threads: int
    progress: Callable[[int, int, int], None] | None
    cancel: Callable[[], bool] | None

    def __post_init__(self) -> None:
        self.region = Region.linf_ball(np.zeros(self.network.inputs), self.epsilon)
        self.properties = [Property.classification(label, self.network.outputs) for label in self.labels]
        self.replay = Replayer(self.network)
        self.delta = np.zeros(self.network.inputs, dtype=np.float32)
        self.flipped = self._flips(self.delta)

    def run(self) -> UniversalPerturbation:
        started = time.monotonic()
        found, robust = self._open()
        self._attack()
        model = self._model(found)
        solver, choice = choose(self.wanted, model)
        # What flips no more inputs than are known is of no interest.
        known = len(self.flipped)
        scaled = scale(model.below(-known - 0.5))
        bound = len(found)

        def on_incumbent(v: NDArray[np.float64], _objective: float) -> bool:
            self._consider(model, found, scaled.restore(v))
            return len(self.flipped) >= bound

        def report(_primal: float, dual: float, nodes: int) -> None:
            if self.progress is not None:
                self.progress(len(self.flipped), min(bound, max(known, _count(dual * scaled.unit, bound))), nodes)

        outcome = MilpOutcome(MilpStatus.OPTIMAL)
        if known < bound:
            outcome = solver.solve(
                scaled.model,
                deadline=self.deadline,
                threads=self.threads,
                on_incumbent=on_incumbent,
                progress=report,
                cancel=self.cancel,
            )
            if outcome.v is not None:
                self._consider(model, found, scaled.restore(outcome.v))
            none_better = outcome.status is MilpStatus.INFEASIBLE
            bound = known if none_better else _count(outcome.dual * scaled.unit, bound)
        if outcome.status is MilpStatus.FAILED or len(self.flipped) > bound:
            msg = (
                f"the solver's answer ({outcome.message}; at most {bound} inputs) contradicts what was replayed "
                f"({len(self.flipped)} inputs): its numbers are not to be trusted on this model"
            )
            raise NumericsError(msg)
        reasons = {MilpStatus.TIMEOUT: Reason.TIMEOUT, MilpStatus.CANCELLED: Reason.CANCELLED}
        return UniversalPerturbation(
            delta=self.delta,
            flipped=self.flipped,
            bound=bound,
            robust=robust,
            backend=solver.name,
            choice=choice,
            nodes=outcome.nodes,
            seconds=time.monotonic() - started,
            reason=reasons.get(outcome.status),
            statistics={"binaries": model.binaries, "columns": model.columns, "rows": model.rows},
        )

    def _open(self) -> tuple[list[_Open], tuple[int, ...]]:
        """The inputs that bounds leave open, and the indices of the others."""
        found: list[_Open] = []
        robust: list[int] = []
        unstable = 0
        column = self.network.inputs
        for i, (x, prop) in enumerate(zip(self.points, self.properties, strict=True)):
            network = shifted(self.network, x, self.domain)
            enclosure = backward_bounds(network, self.region)
            clauses = tuple(clause for clause in prop.clauses if self._least(network, enclosure, clause) <= 0)
            if not clauses:
                robust.append(i)
                continue
            unstable += enclosure.unstable_count
            expected = unstable * len(self.points) // (i + 1)
            if expected > policy.UNIVERSAL_RELUS:
                msg = (
                    f"{len(self.points)} inputs would have about {expected} ReLUs of either phase together, more than "
                    f"the {policy.UNIVERSAL_RELUS} that one MILP may have; ask about fewer inputs, a smaller epsilon, "
                    "or a smaller network"
                )
                raise ModelSizeError(msg)
            formulation = formulate(network, self.region, clauses, enclosure)
            self._check(network, formulation, clauses)
            place = np.full(formulation.common.columns, -1)
            kept = formulation.inputs >= 0
            place[formulation.inputs[kept]] = np.flatnonzero(kept)
            own = place < 0
            place[own] = column + np.arange(own.sum())
            column += int(own.sum())
            chosen = column + np.arange(len(clauses))
            column += len(clauses)
            largest = np.array([self._most(network, enclosure, clause) for clause in clauses])
            found.append(_Open(network, clauses, formulation, largest, place, chosen))
        return found, tuple(robust)

    def _attack(self) -> None:
        """Looks for a δ by steps along the sign of the gradient of all margins that are still positive."""
        network = program(self.network)
        rng = np.random.default_rng(0)
        points = torch.as_tensor(self.points, dtype=network.dtype)
        own = torch.as_tensor(self.labels).repeat(policy.UNIVERSAL_STARTS)[:, None]
        ends = [float(exact(end)) for end in self.domain] if self.domain is not None else [-math.inf, math.inf]
        first = self.region.sample(policy.UNIVERSAL_STARTS, rng).astype(np.float64)
        low, high = torch.as_tensor(self.region.lower), torch.as_tensor(self.region.upper)
        delta = torch.as_tensor(first, dtype=network.dtype)
        for step in range(policy.UNIVERSAL_STEPS):
            if time.monotonic() >= self.deadline or (self.cancel is not None and self.cancel()):
                return
            delta = delta.detach().requires_grad_()
            outputs = network.forward((delta[:, None] + points).clamp(*ends).reshape(-1, self.network.inputs))
            label = outputs.gather(1, own)
            margin = (label - outputs.scatter(1, own, -math.inf).amax(1, keepdim=True)).reshape(len(first), -1)
            flips = (margin <= 0).sum(1)
            best = int(flips.argmax())
            if int(flips[best]) > len(self.flipped):
                self._try(delta[best].detach().numpy())
            (slope,) = torch.autograd.grad(margin.clamp(min=0).sum(), delta)
            rate = 0.3 * 0.05 ** (step / policy.UNIVERSAL_STEPS)
            delta = torch.minimum(torch.maximum(delta.detach() - rate * (high - low) * slope.sign(), low), high)

    def _least(self, network: Network, enclosure: Enclosure, clause: Clause) -> float:
        """Rigorous lower bound of the clause's margin over all δ."""
        bounds = lower_bounds(network, self.region, enclosure, clause.matrix)
        return float((bounds + clause.offsets - 2.0**-52 * (np.abs(bounds) + np.abs(clause.offsets))).max())

    def _most(self, network: Network, enclosure: Enclosure, clause: Clause) -> float:
        """Upper bound of the clause's margin over all δ."""
        bounds = -lower_bounds(network, self.region, enclosure, -clause.matrix)
        return float((bounds + clause.offsets + 2.0**-50 * (np.abs(bounds) + np.abs(clause.offsets))).max())

    def _check(self, network: Network, formulation: Formulation, clauses: Sequence[Clause]) -> None:
        points = sampled(self.region)
        wrong = fault(formulation, network, points, margins_at(network, clauses, points))
        if wrong:
            raise NumericsError(wrong)

    def _model(self, found: Sequence[_Open]) -> CompiledModel:
        """The whole model; its first columns are δ."""
        inputs = self.network.inputs
        columns = inputs + sum(len(each.chosen) + int((each.place >= inputs).sum()) for each in found)
        lower, upper = np.zeros(columns), np.ones(columns)
        integral = np.ones(columns, dtype=bool)
        lower[:inputs], upper[:inputs], integral[:inputs] = self.region.lower, self.region.upper, False
        cost = np.zeros(columns)
        rows, row_lower, row_upper = [csr_array((0, columns))], [np.zeros(0)], [np.zeros(0)]
        for each in found:
            common, own = each.formulation.common, each.place >= inputs
            lower[each.place[own]], upper[each.place[own]] = common.lower[own], common.upper[own]
            integral[each.place[own]] = common.integral[own]
            cost[each.chosen] = -1.0
            size = np.maximum(each.largest - each.formulation.allowances, 0.0)
            margins = _placed(csr_array(each.formulation.costs), each.place, columns)
            flips = _placed(csr_array(np.diag(size)), each.chosen, columns)
            once = _placed(csr_array(np.ones((1, len(each.chosen)))), each.chosen, columns)
            rows += [_placed(common.matrix, each.place, columns), csr_array(margins + flips), once]
            row_lower += [common.row_lower, np.full(len(size) + 1, -np.inf)]
            limits = each.formulation.allowances + size - each.formulation.offsets
            row_upper += [common.row_upper, limits, np.ones(1)]
        return CompiledModel(
            cost=cost,
            offset=0.0,
            matrix=csr_array(vstack(rows)),
            row_lower=np.concatenate(row_lower),
            row_upper=np.concatenate(row_upper),
            lower=lower,
            upper=upper,
            integral=integral,
        )

    def _consider(self, model: CompiledModel, found: Sequence[_Open], v: NDArray[np.float64]) -> None:
        """Replays the δ of a point of the model, and the one that flips the same inputs by the largest margin."""
        if np.round(-model.objective(v)) <= len(self.flipped):
            return
        self._try(v[: self.network.inputs])
        deeper = self._deeper(model, found, v)
        if deeper is not None:
            self._try(deeper)

    def _try(self, delta: NDArray[np.float64]) -> None:
        point = self.region.project(delta)
        flipped = self._flips(point)
        if len(flipped) > len(self.flipped):
            self.delta, self.flipped = point, flipped

    def _flips(self, delta: NDArray[np.float32]) -> tuple[int, ...]:
        """The inputs that δ flips, each replayed."""
        moved = self.points + delta
        if self.domain is not None:
            low, high = (np.float32(float(exact(end))) for end in self.domain)
            moved = np.clip(moved, low, high)
        return tuple(
            i for i, (x, prop) in enumerate(zip(moved, self.properties, strict=True)) if prop.violated(self.replay(x))
        )

    def _deeper(
        self, model: CompiledModel, found: Sequence[_Open], v: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        """The δ in the cell of ``v`` that makes the largest margin of what is flipped there as small as possible."""
        rows, sides = [], []
        for each in found:
            picked = np.flatnonzero(v[each.chosen] > 0.5)
            rows.append(_placed(csr_array(each.formulation.costs[picked]), each.place, model.columns))
            sides.append(-each.formulation.offsets[picked])
        side = np.concatenate(sides)
        matrix = csr_array(vstack(rows))
        lower, upper = model.lower.copy(), model.upper.copy()
        lower[model.integral] = upper[model.integral] = np.round(v[model.integral])
        # One more column, the largest margin.
        reach = 1.0 + float(np.abs(np.concatenate([each.largest for each in found])).max(initial=0.0))
        grown = CompiledModel(
            cost=np.append(np.zeros(model.columns), 1.0),
            offset=0.0,
            matrix=_widened(csr_array(vstack([model.matrix, matrix])), np.arange(len(side)) + model.rows),
            row_lower=np.append(model.row_lower, np.full(len(side), -np.inf)),
            row_upper=np.append(model.row_upper, side),
            lower=np.append(lower, -reach),
            upper=np.append(upper, reach),
            integral=np.zeros(model.columns + 1, dtype=bool),
        )
        scaled = scale(grown)
        outcome = BACKENDS[Backend.HIGHS].solve(scaled.model, deadline=self.deadline, threads=self.threads)
        return scaled.restore(outcome.v)[: self.network.inputs] if outcome.v is not None else None


def _count(dual: float, most: int) -> int:
    """How many flips a lower bound of minus their number admits."""
    return min(most, math.floor(-dual + 1e-6)) if math.isfinite(dual) else most


def _placed(matrix: csr_array, place: NDArray[np.int64], columns: int) -> csr_array:
    """``matrix`` with its columns at ``place`` among ``columns`` many."""
    entries = matrix.tocoo()
    return csr_array((entries.data, (entries.coords[0], place[entries.coords[1]])), shape=(matrix.shape[0], columns))


def _widened(matrix: csr_array, rows: NDArray[np.int64]) -> csr_array:
    """``matrix`` with one more column, −1 in ``rows``."""
    entries = matrix.tocoo()
    data = np.append(entries.data, -np.ones(len(rows)))
    places = (np.append(entries.coords[0], rows), np.append(entries.coords[1], np.full(len(rows), matrix.shape[1])))
    return csr_array((data, places), shape=(matrix.shape[0], matrix.shape[1] + 1))
