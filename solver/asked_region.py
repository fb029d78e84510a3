"""The region of a question: a ball or a box, and linear constraints on the input."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from networks.constraints import Constraint
from networks.errors import InputError, RegionError
from networks.exact import exact
from networks.layout import layout_refusal
from networks.norms import NORMS
from networks.region import Region
from solver.reading import Reading, WrongError, entries, index

__all__ = ["BALL", "BOX", "REGION", "read_region"]

BALL = ("input", "epsilon", "norm", "radii", "frozen", "domain")
BOX = ("lower", "upper")
REGION = (*BALL, *BOX, "constraints")

#: How a region may be stated.
FORMS = "give either vnnlib, or input and epsilon (a ball), or lower and upper (a box)"


def read_region(reading: Reading) -> Region:
    """The region that the members named in `REGION` state.

    Raises:
        WrongError: something is wrong with them.
    """
    ball, box = reading.among(BALL), reading.among(BOX)
    distance = reading.given.get("kind") == "distance"
    if box and distance and "norm" in ball:
        ball.remove("norm")  # it is the distance's
    if ball and box:
        msg = f"a box ({', '.join(box)}) and a ball ({', '.join(ball)}) are two regions; {FORMS}"
        raise reading.wrong(RegionError(msg), box[0])
    needed: tuple[str, ...] = BOX if box else ("input", "epsilon")
    if not box and ("domain" in ball if distance else "radii" in ball and reading.given.get("norm", "linf") == "linf"):
        needed = ("input",)
    missing = [name for name in needed if name not in reading.given]
    if missing:
        whole = "; or a domain, to search all of it" if distance and missing == ["epsilon"] else ""
        raise reading.wrong(InputError(f"{' and '.join(missing)} missing: {FORMS}{whole}"), missing[0])
    region = _box(reading) if box else _ball(reading)
    return _constrained(reading, region) if "constraints" in reading.given else region


def _box(reading: Reading) -> Region:
    lower, upper = (reading.numbers(name) for name in BOX)
    with reading.at("lower"):
        return Region.box(lower, upper)


def _ball(reading: Reading) -> Region:
    before = len(reading.found)
    given = reading.given
    norm = given.get("norm", "linf")
    with suppress(WrongError), reading.at("norm"):
        _check_norm(norm)
    if "epsilon" in given and norm in NORMS:
        with suppress(WrongError), reading.at("epsilon"):
            Region.norm_ball((0.0,), given["epsilon"], norm, (0, 0))  # around the origin, epsilon alone can be at fault
    if "domain" in given:
        with suppress(WrongError), reading.at("domain"):
            _check_interval(given["domain"])
    radii: list[Any] | None = None
    frozen: list[int] = []
    if "radii" in given:
        with suppress(WrongError):
            radii = reading.numbers("radii")
            with reading.at("radii"):
                Region.norm_ball(np.zeros(len(radii)), None, "linf", radii=radii)
    if "frozen" in given:
        with suppress(WrongError), reading.at("frozen"):
            frozen = _indices(given["frozen"], reading.signature.inputs)
    point = _point(reading)
    if len(reading.found) > before:
        raise WrongError
    if "epsilon" not in given and "domain" in given:
        return _domain(reading, point, radii, frozen)
    unbounded = norm == "l0" and "domain" not in given and radii is None
    with reading.at("norm" if unbounded else "input"):
        return Region.norm_ball(point, given.get("epsilon"), norm, given.get("domain"), radii=radii, frozen=frozen)


def _domain(reading: Reading, point: NDArray[np.float64], radii: list[Any] | None, frozen: list[int]) -> Region:
    """The whole domain, as a region around the input."""
    domain = reading.given["domain"]
    low, high = (exact(end) for end in domain)
    middle = point.astype(np.float32)
    reach = max(exact(middle.max()) - low, high - exact(middle.min()), Fraction(0))
    with reading.at("input"):
        region = Region.norm_ball(point, reach, "linf", domain, radii=radii, frozen=frozen)
    statement = {name: value for name, value in region.statement.items() if name != "epsilon"}
    return dataclasses.replace(region, statement=statement | {"norm": reading.given.get("norm", "linf")})


def _point(reading: Reading) -> NDArray[np.float64]:
    signature = reading.signature
    try:
        given = np.asarray(reading.given["input"], dtype=np.float64)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:  # the last from tensors that need gradients
        msg = f"the input must be numbers in a flat list or in nested lists of equal lengths: {error}"
        raise reading.wrong(RegionError(msg), "input") from error
    if given.size != signature.inputs:
        shape = "×".join(map(str, signature.input_shape))
        msg = (
            f"the input has {given.size} entries, but the network takes {signature.inputs} ({shape}); "
            "give one input without batch dimension, flat or nested"
        )
        raise reading.wrong(RegionError(msg), "input")
    if refusal := layout_refusal(given.shape, signature.input_shape):
        raise reading.wrong(RegionError(f"the input has {refusal}"), "input")
    return given.reshape(-1)


def _constrained(reading: Reading, region: Region) -> Region:
    stated = reading.given["constraints"]
    with reading.at("constraints"):
        if not isinstance(stated, list | tuple):
            msg = f"constraints are a list, got {stated!r}"
            raise RegionError(msg)
        return region.constrained([_constraint(each) for each in stated])


def _constraint(stated: Any) -> Constraint:
    if isinstance(stated, Constraint):
        return stated
    if not isinstance(stated, Mapping) or stated.keys() != {"coefficients", "bound"}:
        form = '{"coefficients": {"0": 1, "3": -2}, "bound": 0.5}'
        msg = f"a constraint is {form}, which says x_0 - 2 x_3 <= 0.5; got {stated!r}"
        raise RegionError(msg)
    return Constraint.of(stated["coefficients"], stated["bound"])


def _check_norm(norm: Any) -> None:
    if norm not in NORMS:
        msg = f"norm {norm!r} is not supported; use {', '.join(NORMS)}"
        raise RegionError(msg)


def _check_interval(domain: Any) -> None:
    """Raise RegionError unless ``domain`` is two finite numbers in order."""
    try:
        least, most = (exact(value) for value in domain)
    except (ValueError, TypeError) as error:
        msg = f"the domain must be two finite numbers, for all input entries alike, got {reprlib.repr(domain)}"
        raise RegionError(msg) from error
    if least > most:
        msg = f"the domain's lowest value {domain[0]} is above its highest, {domain[1]}; give them in order"
        raise RegionError(msg)


def _indices(frozen: Any, inputs: int) -> list[int]:
    """The indices of a list of them, or of an array of bool that is true where an entry is frozen."""
    array = np.asarray(frozen)
    if array.dtype == bool and array.size == inputs:
        return [int(i) for i in np.flatnonzero(array)]
    found = [index(i, "an entry of frozen") for i in entries(frozen if array.ndim else [frozen])]
    Region.norm_ball(np.zeros(inputs), 0, "linf", frozen=found)
    return found
