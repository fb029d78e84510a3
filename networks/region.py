"""Input regions: boxes, and ℓ∞ balls intersected with a domain box.

A region's end points are rationals (a decimal is kept as written). Two roundings of them are stored:

* ``lower``, ``upper``: float64, rounded **outward**. Everything that is proved is proved for this box, which
  contains the region.
* ``replay_lower``, ``replay_upper``: float32, rounded **inward**. A float32 input lies in the region exactly when it
  lies between them, so membership needs no tolerance.

An entry that is frozen at a decimal may have no float32 number between its bounds. Then the region holds no float32
point; searches look at those between ``near_lower`` and ``near_upper``, beside which `exact_point` has rational ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from networks.errors import RegionError
from networks.exact import Number, enclose, exact, narrow_down, narrow_up, shown

__all__ = ["Region"]


@dataclass(frozen=True, eq=False)
class Region:
    """A box of inputs, given by exact end points.

    Attributes:
        exact_lower, exact_upper: the end points, one rational per input entry.
        center: float32 point that the query is about (a ball's center, else the middle of the box rounded into it);
            None when no float32 point lies in the region.
        statement: the region in JSON, as the user stated it (norm, epsilon, domain), for reports.
    """

    exact_lower: tuple[Fraction, ...]
    exact_upper: tuple[Fraction, ...]
    center: NDArray[np.float32] | None = field(default=None)
    statement: dict[str, Any] = field(default_factory=dict)
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
        if self.center is None and self.replayable:
            middle = self.lower / 2 + self.upper / 2
            object.__setattr__(self, "center", self.project(middle))

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
            _exact_entries(lower, "lower bound"),
            _exact_entries(upper, "upper bound"),
            statement=statement if statement is not None else {"kind": "box"},
        )

    @classmethod
    def linf_ball(
        cls,
        center: ArrayLike,
        epsilon: Number,
        domain: tuple[Number, Number] | None = None,
    ) -> Self:
        """``{x : |x_i - c_i| ≤ ε for all i}``, intersected with ``domain[0] ≤ x_i ≤ domain[1]`` when a domain is given.

        Args:
            center: float32 array of any shape, in the network's input units; float64 data are rounded to float32
                first, as the deployed network would see them.
            epsilon: radius, in the same units, nonnegative; a decimal is taken as written.
            domain: lowest and highest value of every entry, usually (0, 1) for images.

        Raises:
            RegionError: the center is not finite, epsilon is negative, or the center lies outside the domain.
        """
        with np.errstate(over="ignore"):
            point = np.asarray(center, dtype=np.float64).astype(np.float32).reshape(-1)
        if not point.size:
            msg = "the input has no entries; give one number for each input of the network"
            raise RegionError(msg)
        if not np.isfinite(point).all():
            bad = int(np.flatnonzero(~np.isfinite(point))[0])
            msg = f"the input must be finite numbers, but entry {bad} is {point[bad]}"
            raise RegionError(msg)
        try:
            radius = exact(epsilon)
        except ValueError as error:
            msg = f"epsilon must be a finite number of at least 0, got {epsilon!r}"
            raise RegionError(msg) from error
        if radius < 0:
            msg = f"epsilon must be at least 0, got {epsilon}"
            raise RegionError(msg)
        # Images have few distinct values; arithmetic on rationals is what takes the time.
        distinct, place = np.unique(point, return_inverse=True)
        values = [Fraction(v) for v in distinct.tolist()]
        low = [v - radius for v in values]
        high = [v + radius for v in values]
        if domain is not None:
            try:
                least, most = exact(domain[0]), exact(domain[1])
            except ValueError as error:
                msg = f"the domain must be two finite numbers, got {list(domain)!r}"
                raise RegionError(msg) from error
            if not least <= values[0] <= values[-1] <= most:
                i = int(np.argmin(point)) if values[0] < least else int(np.argmax(point))
                msg = (
                    f"input entry {i} is {point[i]:g}, outside the domain [{shown(least)}, {shown(most)}]; "
                    "scale the input as the network expects it, or give the right domain"
                )
                raise RegionError(msg)
            low = [max(v, least) for v in low]
            high = [min(v, most) for v in high]
        statement: dict[str, Any] = {"kind": "ball", "norm": "linf", "epsilon": str(epsilon)}
        if domain is not None:
            statement["domain"] = [str(domain[0]), str(domain[1])]
        spread = place.tolist()
        return cls(tuple(low[i] for i in spread), tuple(high[i] for i in spread), center=point, statement=statement)

    @property
    def inputs(self) -> int:
        """Number of input entries."""
        return len(self.exact_lower)

    @property
    def replayable(self) -> bool:
        """Whether the region contains any float32 point at all."""
        return bool((self.replay_lower <= self.replay_upper).all())

    def contains(self, x: NDArray[np.float32]) -> bool:
        """Whether the float32 point ``x`` (any shape) lies in the region, exactly; NaN never does."""
        flat = np.asarray(x, dtype=np.float32).reshape(-1)
        return bool(((self.replay_lower <= flat) & (flat <= self.replay_upper)).all())

    def contains_exactly(self, x: Sequence[Fraction]) -> bool:
        """Whether the point with these rational entries, as many as the region has inputs, lies in the region."""
        entries = zip(x, self.exact_lower, self.exact_upper, strict=True)
        return all(low <= value <= high for value, low, high in entries)

    def exact_point(self, x: NDArray[np.float32]) -> tuple[Fraction, ...]:
        """The point of the region nearest to the finite float32 point ``x`` (any shape): one rational for each entry.

        Where ``x`` comes from `project`, the two differ only in entries without a float32 number between their bounds.
        """
        entries = zip(np.asarray(x).reshape(-1).tolist(), self.exact_lower, self.exact_upper, strict=True)
        return tuple(min(max(Fraction(value), low), high) for value, low, high in entries)

    def project(self, x: ArrayLike) -> NDArray[np.float32]:
        """The float32 points nearest to ``x`` (shape ``(..., inputs)``) inside the region.

        Where the region is not `replayable`, they lie beside it: an entry without a float32 number between its bounds
        gets the finite one nearest to their middle.
        """
        with np.errstate(over="ignore"):
            rounded = np.asarray(x, dtype=np.float64).astype(np.float32)
        return np.clip(rounded, self.near_lower, self.near_upper)

    def sample(self, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """``count`` points as `project` makes them, shape ``(count, inputs)``: uniform, a quarter at random corners."""
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


def _exact_entries(values: Sequence[Number] | ArrayLike, what: str) -> tuple[Fraction, ...]:
    entries = values.reshape(-1) if isinstance(values, np.ndarray) else values
    out = []
    for i, value in enumerate(entries):  # type: ignore[arg-type]
        try:
            out.append(exact(value))
        except ValueError as error:
            msg = f"the {what} of input {i} must be a finite number, got {value!r}"
            raise RegionError(msg) from error
    return tuple(out)
