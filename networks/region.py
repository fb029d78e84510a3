"""Input regions: a box, intersected with a norm ball and with linear constraints where a query has them.

``region = box ∩ {Σ_i φ(x_i − c_i) ≤ budget} ∩ {G x ≤ h}`` (`networks.norms`, `networks.constraints`). The box is a
bounding box: whoever knows only boxes proves more than was asked, and stays sound. An ℓ∞ ball is a box.

A region's end points are rationals (a decimal is kept as written). Two roundings of them are stored:

* ``lower``, ``upper``: float64, rounded **outward**. Everything that is proved is proved for this box, which
  contains the region.
* ``replay_lower``, ``replay_upper``: float32, rounded **inward**. A float32 input lies in the box exactly when it
  lies between them, so membership needs no tolerance. `Region.contains` asks the ball and the constraints too, in
  rational arithmetic where floats do not settle it.

An entry that is frozen at a decimal may have no float32 number between its bounds. Then the region holds no float32
point; searches look at those between ``near_lower`` and ``near_upper``, beside which `exact_point` has rational ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from networks.constraints import Constraint, Halfspaces
from networks.end_points import ends_around, exact_entries, exact_radius, float32_point
from networks.errors import RegionError
from networks.exact import Number, enclose, narrow_down, narrow_up, shown, written
from networks.minimum import minimise
from networks.norms import NORMS, Ball
from networks.projection import alternate

__all__ = ["Region"]


# How far inside the edges of constraints a projection aims, in multiples of what rounding to float32 can move a point.
_AIMS = (1.0, 64.0, 4096.0, 65536.0, 0.0)

# Squares of distances to what is projected must not overflow.
_FARTHEST = 1e100


@dataclass(frozen=True, eq=False)
class Region:
    """A set of inputs, given by exact numbers; see the module.

    Attributes:
        exact_lower, exact_upper: the box's end points, one rational per input entry.
        center: float32 point of the region that the query is about (a ball's center, else the middle of the box rounded
            into it); None when no float32 point of the region is known.
        ball: the norm ball, whose center lies in the box; None for a box, and so for ℓ∞.
        constraints: linear constraints.
        statement: the region in JSON, as the user stated it (norm, epsilon, domain), for reports.
    """

    exact_lower: tuple[Fraction, ...]
    exact_upper: tuple[Fraction, ...]
    center: NDArray[np.float32] | None = field(default=None)
    statement: dict[str, Any] = field(default_factory=dict)
    ball: Ball | None = None
    constraints: tuple[Constraint, ...] = ()
    lower: NDArray[np.float64] = field(init=False)
    upper: NDArray[np.float64] = field(init=False)
    replay_lower: NDArray[np.float32] = field(init=False)
    replay_upper: NDArray[np.float32] = field(init=False)
    near_lower: NDArray[np.float32] = field(init=False)
    near_upper: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        if len(self.exact_lower) != len(self.exact_upper):
            msg = f"a box needs as many lower as upper bounds, got {len(self.exact_lower)} and {len(self.exact_upper)}"
            raise RegionError(msg)
        for i, (low, high) in enumerate(zip(self.exact_lower, self.exact_upper, strict=True)):
            if low > high:
                msg = (
                    f"the region is empty: input {i} has lower bound {shown(low)} above its upper bound "
                    f"{shown(high)}; check the center, epsilon and domain"
                )
                raise RegionError(msg)
        try:
            lower, inner_lower = enclose(self.exact_lower)
            inner_upper, upper = enclose(self.exact_upper)
        except ValueError as error:
            msg = f"an end point of the region cannot be represented: {error}"
            raise RegionError(msg) from error
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)
        # Rounding twice in one direction is rounding once: every float32 number is a float64 number.
        object.__setattr__(self, "replay_lower", narrow_up(inner_lower))
        object.__setattr__(self, "replay_upper", narrow_down(inner_upper))
        near_lower, near_upper = _nearest(self.replay_lower, self.replay_upper, lower / 2 + upper / 2)
        object.__setattr__(self, "near_lower", near_lower)
        object.__setattr__(self, "near_upper", near_upper)
        self._check_ball()
        self._check_constraints()
        object.__setattr__(self, "center", self._center())

    def _check_ball(self) -> None:
        if self.ball is None:
            return
        if len(self.ball.center) != self.inputs:
            msg = f"the ball's center has {len(self.ball.center)} entries, but the box has {self.inputs}"
            raise RegionError(msg)
        if not ((self.replay_lower <= self.ball.center) & (self.ball.center <= self.replay_upper)).all():
            msg = "a ball's center must lie in its bounding box"
            raise RegionError(msg)

    def _check_constraints(self) -> None:
        for constraint in self.constraints:
            if constraint.indices[-1] >= self.inputs:
                msg = (
                    f"a constraint names input entry {constraint.indices[-1]}, but the input has {self.inputs} "
                    "entries, counted from 0"
                )
                raise RegionError(msg)
            least = constraint.least(self.exact_lower, self.exact_upper)
            if least > constraint.bound:
                msg = (
                    f"the region is empty: a constraint's left-hand side is at least {shown(least)} between the bounds "
                    f"of its inputs, above its right-hand side {shown(constraint.bound)}"
                )
                raise RegionError(msg)
        # The least value of nothing is 0; a larger proven bound is a proof that there is no point.
        if self.constraints and self.minimise(np.zeros((1, self.inputs)))[0][0] > 0:
            msg = "the region is empty: its constraints contradict each other or the bounds of its inputs"
            raise RegionError(msg)

    def _center(self) -> NDArray[np.float32] | None:
        if not self.replayable:
            return None
        wanted = self.center
        if wanted is None:
            middle = self.lower / 2 + self.upper / 2
            wanted = self.ball.center if self.ball is not None else self._box_point(middle)
        if not self.constraints:
            return wanted
        found = self._constrained_points(np.asarray(wanted, np.float64)[None], None)[0]
        return found if self.contains(found) else None

    @classmethod
    def box(
        cls,
        lower: Sequence[Number] | ArrayLike,
        upper: Sequence[Number] | ArrayLike,
        statement: dict[str, Any] | None = None,
    ) -> Self:
        """The box ``[lower, upper]``; see `networks.exact.exact` for how numbers are read.

        Raises:
            RegionError: a bound is not finite, or a lower bound exceeds its upper bound.
        """
        return cls(
            exact_entries(lower, "lower bound"),
            exact_entries(upper, "upper bound"),
            statement=statement if statement is not None else {"kind": "box"},
        )

    @classmethod
    def linf_ball(
        cls,
        center: ArrayLike,
        epsilon: Number,
        domain: tuple[Number, Number] | None = None,
    ) -> Self:
        """`norm_ball` for norm ``linf``."""
        return cls.norm_ball(center, epsilon, "linf", domain)

    @classmethod
    def norm_ball(
        cls,
        center: ArrayLike,
        epsilon: Number | None,
        norm: str,
        domain: tuple[Number, Number] | None = None,
        *,
        radii: Sequence[Number] | ArrayLike | None = None,
        frozen: Iterable[int] = (),
    ) -> Self:
        """``{x : ‖x - c‖ ≤ ε}``, intersected with ``domain[0] ≤ x_i ≤ domain[1]`` when a domain is given.

        Args:
            center: float32 array of any shape, in the network's input units; float64 data are rounded to float32
                first, as the deployed network would see them.
            epsilon: radius, in the same units, nonnegative; a decimal is taken as written. For ``l0`` it is how many
                entries may change. None for ``linf`` with ``radii``.
            norm: ``linf``, ``l2``, ``l1`` or ``l0``.
            domain: lowest and highest value of every entry, usually (0, 1) for images.
            radii: how far each entry may move by itself, ``|x_i - c_i| ≤ radii[i]``, one for each entry.
            frozen: indices of entries that keep the center's value.

        Raises:
            RegionError: the center is not finite, a radius is negative, ε is not a whole number for ``l0`` or nothing
                bounds its entries, or the center lies outside the domain.
        """
        if norm not in NORMS:
            msg = f"the norm is one of {', '.join(NORMS)}, got {norm!r}"
            raise RegionError(msg)
        point = float32_point(center)
        radius = exact_radius(epsilon, norm, given=radii is not None)
        if norm == "l0" and radius and domain is None and radii is None:
            msg = "norm l0 lets entries take any value: give a domain, or radii, that bound them"
            raise RegionError(msg)
        reach = None if norm == "l0" and radius else radius
        low, high = ends_around(point, reach, domain)
        statement: dict[str, Any] = {"kind": "ball", "norm": norm, "epsilon": str(epsilon)}
        if epsilon is None:
            del statement["epsilon"]
        if domain is not None:
            statement["domain"] = [str(domain[0]), str(domain[1])]
        if radii is not None:
            each = exact_entries(radii, "radius")
            if len(each) != len(point) or min(each) < 0:
                got = f"{len(each)} radii" if len(each) != len(point) else f"the radius {shown(min(each))}"
                msg = f"radii are one number of at least 0 for each of the {len(point)} input entries, got {got}"
                raise RegionError(msg)
            values = list(map(Fraction, point.tolist()))
            own_low = [v - r for v, r in zip(values, each, strict=True)]
            own_high = [v + r for v, r in zip(values, each, strict=True)]
            low = own_low if low is None else list(map(max, low, own_low))
            high = own_high if high is None else list(map(min, high, own_high))
            statement["radii"] = [written(r) for r in each]
        assert low is not None
        assert high is not None
        still = sorted(set(frozen))
        for i in still:
            if not 0 <= i < len(point):
                msg = f"frozen names input entry {i}, but the input has {len(point)} entries, counted from 0"
                raise RegionError(msg)
            low[i] = high[i] = Fraction(float(point[i]))
        if still:
            statement["frozen"] = still
        ball = None if norm == "linf" else Ball(norm, point, radius)  # type: ignore[arg-type]
        return cls(tuple(low), tuple(high), center=point, statement=statement, ball=ball)

    def constrained(self, constraints: Iterable[Constraint]) -> Self:
        """The part of the region where these constraints hold as well.

        Raises:
            RegionError: a constraint names an entry that is not there, or no point is left, as far as bounds show.
        """
        added = tuple(constraints)
        stated = [*self.statement.get("constraints", []), *(each.statement for each in added)]
        return dataclasses.replace(
            self,
            constraints=(*self.constraints, *added),
            statement={**self.statement, "constraints": stated} if stated else self.statement,
        )

    @property
    def inputs(self) -> int:
        """Number of input entries."""
        return len(self.exact_lower)

    @property
    def plain(self) -> bool:
        """Whether the region is its box."""
        return self.ball is None and not self.constraints

    @cached_property
    def halfspaces(self) -> Halfspaces | None:
        """The constraints in float64; None for none."""
        return Halfspaces.of(self.constraints, self.inputs) if self.constraints else None

    @property
    def replayable(self) -> bool:
        """Whether the box contains any float32 point at all; without constraints the region then does, too."""
        return bool((self.replay_lower <= self.replay_upper).all())

    def contains(self, x: NDArray[np.float32]) -> bool:
        """Whether the float32 point ``x`` (any shape) lies in the region, exactly; NaN never does."""
        flat = np.asarray(x, dtype=np.float32).reshape(-1)
        if not bool(((self.replay_lower <= flat) & (flat <= self.replay_upper)).all()):
            return False
        if self.ball is not None and not self.ball.contains(flat):
            return False
        return all(constraint.holds(flat.tolist()) for constraint in self.constraints)

    def contains_exactly(self, x: Sequence[Fraction]) -> bool:
        """Whether the point with these rational entries, as many as the region has inputs, lies in the region."""
        entries = zip(x, self.exact_lower, self.exact_upper, strict=True)
        if not all(low <= value <= high for value, low, high in entries):
            return False
        if self.ball is not None and self.ball.spent_exactly(x) > self.ball.budget:
            return False
        return all(constraint.holds(x) for constraint in self.constraints)

    def exact_point(self, x: NDArray[np.float32]) -> tuple[Fraction, ...]:
        """The point of the box nearest to the finite float32 point ``x`` (any shape): one rational for each entry.

        Where ``x`` comes from `project`, the two differ only in entries without a float32 number between their bounds.
        """
        entries = zip(np.asarray(x).reshape(-1).tolist(), self.exact_lower, self.exact_upper, strict=True)
        return tuple(min(max(Fraction(value), low), high) for value, low, high in entries)

    def minimise(self, A: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The least values of linear forms ``A x`` over the region, ``A`` of shape ``(R, inputs)``; `networks.minimum`.

        Returns:
            Proven lower bounds, shape ``(R,)``, with rounding charged: without constraints the least values up to it.
            And points, shape ``(R, inputs)``, where they are attained up to rounding; these may miss constraints.
        """
        rows = np.asarray(A, dtype=np.float64).reshape(-1, self.inputs)
        return minimise(rows, self.lower, self.upper, self.ball, self.halfspaces)

    def project(self, x: ArrayLike) -> NDArray[np.float32]:
        """Float32 points near to ``x`` (shape ``(..., inputs)``) inside the region: the nearest ones, up to rounding
        inward.

        Where the region is not `replayable`, they lie beside it: an entry without a float32 number between its bounds
        gets the finite one nearest to their middle. With constraints, alternating projections aim a little inside
        of them; what still misses one is moved towards the region's center. Where there is none, the points may
        miss constraints, and only `contains` says whether.
        """
        points = np.asarray(x, dtype=np.float64)
        if self.plain:
            return self._box_point(points)
        flat = np.clip(np.nan_to_num(points.reshape(-1, self.inputs)), -_FARTHEST, _FARTHEST)
        found = self._constrained_points(flat, self.center) if self.constraints else self._ball_point(flat)
        return found.reshape(points.shape)

    def _box_point(self, x: NDArray[np.float64]) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):
            return np.clip(x.astype(np.float32), self.near_lower, self.near_upper)

    def _ball_point(self, x: NDArray[np.float64]) -> NDArray[np.float32]:
        """Rounded towards the ball's center, which lies in the box, a point leaves neither."""
        near = self._near(x)
        return near.astype(np.float32) if self.ball is None else self.ball.towards_center(near)

    def _near(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The points of box ∩ ball nearest to ``x``, shape ``(R, inputs)``, up to rounding."""
        low, high = self.near_lower.astype(np.float64), self.near_upper.astype(np.float64)
        return np.clip(x, low, high) if self.ball is None else self.ball.project(x, low, high)

    @np.errstate(over="ignore", invalid="ignore")
    def _constrained_points(self, x: NDArray[np.float64], anchor: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """`project` for points of shape ``(R, inputs)`` and a point of the region, if one is known."""
        assert self.halfspaces is not None
        G, h = self.halfspaces.G, self.halfspaces.h
        moved = np.abs(G) @ np.maximum(np.abs(self.lower), np.abs(self.upper)) * 2.0**-23 + np.abs(h) * 2.0**-50
        found = self._ball_point(x)
        for aim in _AIMS:
            missing = np.flatnonzero([not self.contains(point) for point in found])
            if not missing.size:
                return found
            nearer = alternate(x[missing], G, h - aim * moved, aim / 4 * moved, self._near)
            found[missing] = self._ball_point(nearer)
        for i, point in enumerate(found):
            if anchor is not None and not self.contains(point):
                shares = (1 - 2.0 ** -np.arange(20, 0, -1, dtype=np.float64))[:, None]
                line = self._ball_point(anchor + shares * (point.astype(np.float64) - anchor))
                found[i] = next((each for each in line if self.contains(each)), anchor)
        return found

    def sample(self, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """``count`` points as `project` makes them, shape ``(count, inputs)``: all over the region, a quarter at random
        corners of a box, half on the sphere of a ball.
        """
        if self.ball is not None:
            low, high = self.near_lower.astype(np.float64), self.near_upper.astype(np.float64)
            return self.project(self.ball.sample(count, low, high, rng))
        uniform = rng.random((count, self.inputs))
        corners = rng.random((count, 1)) < 0.25
        weight = np.where(corners, np.round(uniform), uniform)
        return self.project(self.lower + weight * (self.upper - self.lower))


def _nearest(
    low: NDArray[np.float32], high: NDArray[np.float32], middle: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """``low`` and ``high`` where low ≤ high; elsewhere they are neighbours, and both ends become the one nearer to
    ``middle``, which is never infinite. All arrays of shape ``(inputs,)``.
    """
    nearer = np.where(middle - high <= low - middle, high, low)
    held = low <= high
    return np.where(held, low, nearer), np.where(held, high, nearer)
