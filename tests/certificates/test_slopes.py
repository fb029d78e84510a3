"""Slopes that certificates supply for the bounds of neurons."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import networks
from certificates import CertificateError, NeuronSlopes, check, enclosure, exact, read, write
from certificates.enclosure import Boxes
from networks import Network, Property, Query, Region
from networks.evaluation import values
from solver import Budget, Options, Trust, verify
from tests.certificates.proofs import pack, unpack
from tests.certificates.test_checker import MAKERS

EXAMPLES = Path(__file__).parents[2] / "examples"


def some_slopes(network: Network, bounds: Boxes, rng: np.random.Generator) -> NeuronSlopes:
    """Random slopes for most open neurons, at most columns."""
    places = [(k, int(j)) for k in network.relu_nodes for j in np.flatnonzero(bounds.slopes[k].width[0])]
    neurons, columns = ([each for each in places if rng.random() < 0.8] for _ in range(2))
    lines, at = (np.array(some, np.int64).reshape(-1, 2) for some in (neurons, columns))
    return NeuronSlopes(lines, at, rng.integers(0, 129, (2, len(lines), len(at))) / 128)


@pytest.mark.parametrize(("make", "seed"), list(itertools.product(MAKERS, range(3))))
def test_bounds_with_any_slopes_hold(make, seed: int) -> None:
    network = make(seed)
    rng = np.random.default_rng(seed)
    region = Region.box([-1] * network.inputs, [1] * network.inputs)
    ends = region.lower[None], region.upper[None]
    free = enclosure.enclose(network, *ends)
    slopes = some_slopes(network, free, rng)
    bounds = enclosure.enclose(network, *ends, supplied=slopes)
    around = enclosure.enclose(network, *ends, around=free, supplied=slopes)
    box = exact.enclose(network, region.exact_lower, region.exact_upper, supplied=slopes)
    reached = values(network, region.sample(300, rng).astype(np.float64))
    for node in network.relu_nodes:
        z = reached[network.nodes[node].parent]
        assert (z >= bounds.pre_lower[node] - 1e-12).all()
        assert (z <= bounds.pre_upper[node] + 1e-12).all()
        assert (around.pre_lower[node] >= free.pre_lower[node]).all()
        scale = Fraction(2) ** box.before[node].shift * box.scale
        for low, high, least, most in zip(
            *(end[0].tolist() for end in (box.before[node].low, box.before[node].high)),
            *(end[node][0].tolist() for end in (bounds.pre_lower, bounds.pre_upper)),
            strict=True,
        ):
            if not low or not high:
                continue  # exactly 0, so that only rounding makes the sign open
            assert least <= Fraction(int(low)) / scale <= least + 1e-9 * (1 + abs(least))
            assert most >= Fraction(int(high)) / scale >= most - 1e-9 * (1 + abs(most))


@functools.cache
def proven() -> tuple[Network, bytes]:
    """A query that neurons' optimised slopes decide, and its certificate."""
    network = networks.load(EXAMPLES / "digits_robust.onnx")
    with np.load(EXAMPLES / "digits.npz") as digits:
        image, label = digits["images"][10].astype(np.float32), int(digits["labels"][10])
    query = Query.single(Region.linf_ball(image, "0.1", (0, 1)), Property.classification(label, 10))
    verdict = verify(network, query, options=Options(certificate=True), budget=Budget(60, 1))
    assert verdict.trust is Trust.CERTIFIED, verdict
    assert verdict.certificate is not None
    assert any(tree.bounds is not None for tree in read(verdict.certificate).trees)
    return network, verdict.certificate


@pytest.mark.parametrize("exactly", [False, True])
def test_proofs_with_slopes_of_neurons_are_accepted(exactly: bool) -> None:
    network, data = proven()
    assert write(read(data)) == data
    assert check(data, network, exact=exactly).proven


def test_without_their_slopes_they_prove_nothing() -> None:
    """Bounds are looser by default slopes, so either the proof fails or it did not need them."""
    network, data = proven()
    certificate = read(data)
    trees = tuple(dataclasses.replace(tree, bounds=None) for tree in certificate.trees)
    with_slopes = check(data, network).weakest
    without = check(write(dataclasses.replace(certificate, trees=trees, bounds=())), network)
    assert without.weakest < with_slopes


def test_other_slopes_are_other_bounds_but_sound() -> None:
    network, data = proven()
    manifest, arrays = unpack(data)
    rng = np.random.default_rng(0)
    for _ in range(5):
        arrays["bounds0.alpha"] = rng.integers(0, 129, arrays["bounds0.alpha"].shape).astype(np.float32) / 128
        check(pack(manifest, arrays), network)  # whatever it says, no bound is wrong: see above


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("alpha", lambda a: a + 1, "between 0 and 1"),
        ("alpha", lambda a: a - 0.5, "between 0 and 1"),
        ("alpha", lambda a: a * np.nan, "finite"),
        ("alpha", lambda a: a[:, 1:], "slopes for these neurons"),
        ("alpha", lambda a: a.astype(np.int64), "floating type"),
        ("neurons", lambda a: a * 0, "each of the neurons once"),
        ("columns", lambda a: np.repeat(a[:1], len(a), 0), "each of the columns once"),
        ("columns", lambda a: a[:, :1], "shape"),
        ("columns", lambda a: np.add(a, [[0, 10**6]]), "does not have"),
        ("columns", lambda a: np.subtract(a, [[0, 10**6]]), "does not have"),
        ("neurons", lambda a: np.add(a, [[1, 0]]), "does not have"),
        ("neurons", lambda a: np.add(a, [[99, 0]]), "does not have"),
    ],
)
def test_slopes_that_make_no_sense_are_refused(name: str, change, words: str) -> None:
    network, data = proven()
    manifest, arrays = unpack(data)
    arrays[f"bounds0.{name}"] = change(arrays[f"bounds0.{name}"])
    with pytest.raises(CertificateError, match=words):
        check(pack(manifest, arrays), network)


def test_slopes_that_are_not_there_are_refused() -> None:
    network, data = proven()
    manifest, arrays = unpack(data)
    for tree in manifest["trees"]:
        tree["bounds"] = 1
    with pytest.raises(CertificateError, match="slopes that are stored"):
        check(pack(manifest, arrays), network)
    manifest, arrays = unpack(data)
    for missing in ("neurons", "columns", "alpha"):
        with pytest.raises(CertificateError):
            check(pack(manifest, {k: v for k, v in arrays.items() if k != f"bounds0.{missing}"}), network)
    with pytest.raises(CertificateError):
        check(pack(manifest | {"version": 3}, arrays), network)
