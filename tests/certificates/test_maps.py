"""The checker's linear maps against the prover's, which are torch's."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from bounds.operators import operator
from certificates import integers as integers_module
from certificates.integers import integers
from certificates.maps import Rows, Window, adjoint, terms
from networks.evaluation import apply
from networks.graph import AffineNode, Conv, ConvTranspose, Dense, Gather, Identity, Scale

RNG = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    return RNG.integers(-8, 9, shape) / 4.0


MAPS = {
    "identity": Identity(5),
    "dense": Dense(weights(4, 6)),
    "scale": Scale(weights(7)),
    "gather": Gather(np.array([2, -1, 0, 2, 2, 4, -1]), 5),
    "gather nothing": Gather(np.array([-1, -1]), 3),
    "conv": Conv(weights(4, 3, 3, 3), (3, 6, 7), (4, 6, 7), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    "strided conv": Conv(weights(2, 3, 2, 3), (3, 7, 8), (2, 4, 3), (2, 3), ((1, 0), (0, 2)), (1, 1)),
    "dilated conv": Conv(weights(2, 1, 3), (1, 9), (2, 3), (2,), ((0, 0),), (2,)),
    "grouped conv": Conv(weights(4, 2, 2, 2), (4, 4, 4), (4, 3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 2),
    "transposed": ConvTranspose(weights(3, 2, 3, 3), (3, 3, 4), (2, 6, 8), (2, 2), ((1, 1), (1, 1)), (1, 1), (1, 1)),
    "grouped transposed": ConvTranspose(weights(4, 1, 2), (4, 3), (2, 5), (2,), ((1, 0),), (0,), (1,), 2),
}


def plain(linear, A: np.ndarray) -> np.ndarray:
    return adjoint(linear, Rows(A[None])).whole(linear.in_features).values[0]


@pytest.mark.parametrize("name", MAPS)
def test_agrees_with_torch(name: str) -> None:
    linear = MAPS[name]
    reference = operator(linear)
    A = weights(3, linear.out_features)
    h = weights(3, linear.in_features)
    np.testing.assert_array_equal(plain(linear, A), reference.adjoint(torch.as_tensor(A)).numpy())
    np.testing.assert_array_equal(apply(linear, h), reference.forward(torch.as_tensor(h)).numpy())
    np.testing.assert_array_equal(
        apply(linear, np.abs(h), absolute=True), reference.abs_forward(torch.as_tensor(np.abs(h))).numpy()
    )


@pytest.mark.parametrize("name", MAPS)
def test_adjoint_is_the_adjoint(name: str) -> None:
    linear = MAPS[name]
    A, h = weights(2, linear.out_features), weights(2, linear.in_features)
    np.testing.assert_array_equal((A * apply(linear, h)).sum(-1), (plain(linear, A) * h).sum(-1))


@pytest.mark.parametrize("name", MAPS)
def test_terms_count_every_product(name: str) -> None:
    linear = MAPS[name]
    matrix = plain(linear, np.eye(linear.out_features)) != 0
    assert terms(linear) >= max(1, matrix.sum(0).max(initial=0), matrix.sum(1).max(initial=0))


@pytest.mark.parametrize("name", MAPS)
def test_integers_pass_as_floats_do(name: str) -> None:
    linear = MAPS[name]
    A = weights(2, linear.out_features) * 4
    exact = linear
    for part in ("weight", "factors"):
        if hasattr(linear, part):
            exact = dataclasses.replace(
                linear, **{part: integers((getattr(linear, part) * 4).astype(int).astype(object))}
            )
    scale = 1 if exact is linear else 4
    found = plain(exact, integers(A.astype(int).astype(object)))
    assert found.dtype == object
    np.testing.assert_array_equal(found.astype(float), plain(linear, A) * scale)


@pytest.mark.parametrize("shapes", [((3, 4), (4, 5)), ((0, 4), (4, 5)), ((3, 0), (0, 5)), ((1, 1), (1, 0))])
def test_integer_products_do_not_depend_on_flint(
    shapes: tuple[tuple[int, int], tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    A, B = (integers_module.integers((weights(*shape) * 4).astype(int).astype(object) * 2**90 + 1) for shape in shapes)
    fast = integers_module.product(A, B)
    monkeypatch.setattr(integers_module, "flint", None)
    slow = integers_module.product(A, B)
    assert fast.shape == slow.shape == (shapes[0][0], shapes[1][1])
    assert [int(v) for v in fast.reshape(-1)] == [int(v) for v in slow.reshape(-1)]


# Windows


def window_of(shape: tuple[int, ...], size: tuple[int, ...], origin: list[list[int]]) -> tuple[Rows, np.ndarray]:
    """Rows on windows, and the same rows without."""
    window = Window(shape, size, np.array(origin)[None])
    rows = Rows(np.where(window.index < np.prod(shape), weights(*window.index.shape), 0), window)
    return rows, rows.whole(int(np.prod(shape))).values[0]


@pytest.mark.parametrize("name", [name for name, linear in MAPS.items() if isinstance(linear, Conv)])
def test_windows_pass_convolutions_as_whole_rows_do(name: str) -> None:
    linear = MAPS[name]
    rank = len(linear.stride)
    rows, whole = window_of(
        linear.output_shape, (2,) * rank, [[-1] * rank, [0] * rank, [n - 1 for n in linear.output_shape[1:]]]
    )
    passed = adjoint(linear, rows)
    np.testing.assert_array_equal(passed.whole(linear.in_features).values[0], plain(linear, whole))
    there = RNG.integers(1, 9, linear.in_features).astype(float)
    np.testing.assert_array_equal(passed.dot(there)[0], plain(linear, whole) @ there)
    np.testing.assert_array_equal(abs(passed).dot(there)[0], np.abs(plain(linear, whole)) @ there)


def test_windows_read_only_what_lies_on_the_map() -> None:
    rows, whole = window_of((2, 4, 5), (3, 3), [[-2, -1], [2, 3], [1, 1]])
    for boxes in (1, 2):
        several = Rows(
            np.concatenate([rows.values] * boxes),
            Window((2, 4, 5), (3, 3), np.concatenate([rows.window.origin] * boxes)),
        )
        there = weights(boxes, 40)
        np.testing.assert_array_equal(several.dot(there), there @ whole.T)
        np.testing.assert_array_equal((several.values * several.at(there)).sum(-1), there @ whole.T)


@pytest.mark.parametrize("ahead", [(0, 0), (-1, 1), (2, 1)])
def test_sums_of_windows(ahead: tuple[int, int]) -> None:
    first, whole = window_of((2, 6, 6), (3, 3), [[0, 1], [2, 2]])
    second, other = window_of((2, 6, 6), (2, 4), [[0 + ahead[0], 1 + ahead[1]], [2 + ahead[0], 2 + ahead[1]]])
    uneven, third = window_of((2, 6, 6), (2, 2), [[0, 0], [3, 3]])
    np.testing.assert_array_equal(first.plus(second, 72).whole(72).values[0], whole + other)
    np.testing.assert_array_equal(first.plus(uneven, 72).whole(72).values[0], whole + third)
    assert first.plus(second, 72).window is not None


def test_units_start_as_windows_of_one_entry() -> None:
    conv = MAPS["conv"]
    neuron = np.array([[0, 41, 167], [5, 5, 100]])
    for linear in (conv, MAPS["dense"]):
        node = AffineNode(((0, linear),), np.zeros(linear.out_features), (1, linear.out_features))
        few = neuron % linear.out_features
        rows = Rows.unit(node, few)
        np.testing.assert_array_equal(rows.whole(node.features).values, np.eye(node.features)[few])
        assert (rows.window is None) == (linear is not conv)
    assert Rows.unit(AffineNode(((0, conv),), np.zeros(168), (1, 168)), neuron).values.shape == (2, 3, 4)
