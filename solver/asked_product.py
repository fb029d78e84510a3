"""Questions about two networks, or about two inputs of one: what names them, and the product that answers them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from networks.errors import InputError, PropertyError
from networks.exact import exact
from solver.reading import Reading, index

if TYPE_CHECKING:
    from networks.graph import Network
    from networks.product import Product

__all__ = ["PRODUCT", "read_product"]

PRODUCT = ("equivalent_to", "monotone")


def read_product(reading: Reading, network: Network | None) -> Product | None:
    """The product that the members named in `PRODUCT` ask about; None where the network is not given.

    Raises:
        WrongError: something is wrong with them.
    """
    if "monotone" in reading.given:
        return _monotone(reading, network)
    return _equivalent(reading, network)


def _monotone(reading: Reading, network: Network | None) -> Product | None:
    stated = reading.mapping("monotone", ("input", "output", "direction", "within"), ("input", "within"))
    with reading.at("monotone"):
        raised = _within(stated["input"], "input", reading.signature.inputs)
        output = _within(stated.get("output", 0), "output", reading.signature.outputs)
        _check_positive(stated["within"])
        direction = stated.get("direction", "increasing")
        if direction not in {"increasing", "decreasing"}:
            msg = f"monotone's direction is 'increasing' or 'decreasing', got {direction!r}"
            raise PropertyError(msg)
        if network is None:
            return None
        from networks.product import monotone  # brings onnx

        return monotone(network, raised, output, tolerance=stated["within"], direction=direction)


def _equivalent(reading: Reading, network: Network | None) -> Product | None:
    if not isinstance(reading.given["equivalent_to"], dict):
        reading.given["equivalent_to"] = {"network": reading.given["equivalent_to"]}
    stated = reading.mapping("equivalent_to", ("network", "within"), ("network",))
    with reading.at("equivalent_to"):
        if "within" in stated:
            _check_positive(stated["within"])
        other = _loaded(stated["network"])
        for what, own, theirs in (
            ("inputs", reading.signature.inputs, other.inputs),
            ("outputs", reading.signature.outputs, other.outputs),
        ):
            if own != theirs:
                msg = f"networks with the same number of {what} are compared; these have {own} and {theirs}"
                raise PropertyError(msg)
        if network is None:
            return None
        from networks.product import equivalence  # brings onnx

        within = stated.get("within")
        return equivalence(network, other, tolerance=within, same_decision=within is None)


def _loaded(other: Any) -> Any:
    """A network, or its signature, as it is; an ONNX file loaded."""
    if isinstance(other, str | Path):
        from networks import load

        return load(other)
    return other


def _within(value: Any, what: str, count: int) -> int:
    found = index(value, f"monotone's {what}")
    if not 0 <= found < count:
        msg = f"monotone names {what} {found}, but the network has {count} {what}s, counted from 0"
        raise PropertyError(msg)
    return found


def _check_positive(within: Any) -> None:
    try:
        positive = exact(within) > 0
    except ValueError:
        positive = False
    if not positive:
        msg = f"within says how far outputs may differ, a finite number above 0, got {within!r}"
        raise InputError(msg)
