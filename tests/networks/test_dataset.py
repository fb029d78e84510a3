"""Data sets: converted when asked for, refused when they do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from networks import Dataset, DatasetError
from networks.layout import layout_refusal
from tests.random_networks import random_conv, random_dense


def written(folder, **arrays):
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return path


def test_bytes_are_divided_by_255_in_float32(tmp_path):
    images = np.arange(256, dtype=np.uint8).reshape(2, 8, 16)
    data = Dataset.read(written(tmp_path, images=images, labels=np.array([3, 1], np.uint8)))
    expected = [np.float32(k) / np.float32(255) for k in range(256)]
    assert data.images.dtype == data.input(0).dtype == np.float32
    assert data.images.reshape(-1).tolist() == expected
    assert data.input(1).tolist() == expected[128:]
    assert (len(data), data.features, data.label(0)) == (2, 128, 3)


def test_other_names_and_floats_are_taken_as_they_are(tmp_path):
    x = np.random.default_rng(0).standard_normal((3, 4))
    data = Dataset.read(written(tmp_path, x=x, y=np.arange(3)))
    np.testing.assert_array_equal(data.images, x.astype(np.float32))


def test_one_input_does_not_convert_all():
    data = Dataset.of(np.zeros((10, 4), np.uint8), np.zeros(10, np.int64))
    data.input(0)
    assert "images" not in vars(data)


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        ({"pictures": np.zeros((2, 3)), "labels": np.zeros(2, int)}, "no array 'images' or 'x', only"),
        ({"images": np.zeros((2, 3))}, "no array 'labels' or 'y'"),
        ({"images": np.zeros(3), "labels": np.zeros(3, int)}, r"shape \(N, \.\.\.\)"),
        ({"images": np.zeros((2, 3)), "labels": np.zeros(3, int)}, "2 images but 3 labels"),
        ({"images": np.zeros((2, 3)), "labels": np.zeros((2, 10), int)}, r"integers of shape \(N,\)"),
        ({"images": np.zeros((2, 3)), "labels": np.zeros(2)}, "integers"),
        ({"images": np.zeros((2, 3), int), "labels": np.zeros(2, int)}, "int64"),
        ({"images": np.array([[None]]), "labels": np.zeros(1, int)}, "not a readable"),
    ],
)
def test_bad_arrays_are_refused(tmp_path, arrays, word):
    with pytest.raises(DatasetError, match=word):
        Dataset.read(written(tmp_path, **arrays))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="there is no data set"):
        Dataset.read(tmp_path / "absent.npz")
    garbage = tmp_path / "garbage.npz"
    for content in (b"", b"garbage" * 100, b"PK\x03\x04 and no more"):
        garbage.write_bytes(content)
        with pytest.raises(DatasetError, match=r"not a readable \.npz|not an \.npz file: it does not begin as one"):
            Dataset.read(garbage)
    np.save(tmp_path / "single.npy", np.zeros(3))
    with pytest.raises(DatasetError, match="single array"):
        Dataset.read(tmp_path / "single.npy")
    good = written(tmp_path, images=np.zeros((50, 3)), labels=np.zeros(50, int)).read_bytes()
    garbage.write_bytes(good[: len(good) // 2])
    with pytest.raises(DatasetError, match="not a readable"):
        Dataset.read(garbage)


def test_size_is_limited(tmp_path):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, images=np.zeros((100, 100_000), np.uint8), labels=np.zeros(100, int))
    assert path.stat().st_size < 100_000
    with pytest.raises(DatasetError, match="unpacks to 100"):
        Dataset.read(path, max_bytes=1_000_000)


@pytest.mark.parametrize("i", [-1, 2, 10**9])
def test_index_out_of_range_is_refused(i):
    data = Dataset.of(np.zeros((2, 3), np.uint8), np.zeros(2, np.int64), "d.npz")
    for method in (data.input, data.label):
        with pytest.raises(DatasetError, match="has 2 inputs, 0 to 1"):
            method(i)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_input_that_is_not_finite_is_refused(value):
    images = np.zeros((2, 3))
    images[1, 2] = value
    data = Dataset.of(images, np.zeros(2, np.int64), "d.npz")
    data.input(0)
    with pytest.raises(DatasetError, match=r"input 1 of data set d\.npz is not finite: entry 2"):
        data.input(1)


def test_fit_with_a_network_is_checked():
    network = random_dense(0)
    Dataset.of(np.zeros((2, 3)), np.array([0, 1])).check(network)
    with pytest.raises(DatasetError, match=r"4 entries.*takes"):
        Dataset.of(np.zeros((2, 2, 2)), np.array([0, 1])).check(network)
    with pytest.raises(DatasetError, match="gives input 1 the label 2"):
        Dataset.of(np.zeros((2, 3)), np.array([0, 2])).check(network)


@pytest.mark.parametrize(
    ("given", "refused"),
    [((3, 2, 2), ""), ((12,), ""), ((1, 12), ""), ((2, 2, 3), "transpose it"), ((3, 4), "rearrange it")],
)
def test_axes_in_another_order_are_refused(given, refused):
    found = layout_refusal(given, (3, 2, 2))
    assert bool(found) == bool(refused)
    assert refused in found
    assert not layout_refusal(given, (12,))


def test_data_set_whose_axes_differ_is_refused():
    network = random_conv(0, size=6)
    for shape in ((1, 6, 6), (6, 6), (36,)):
        Dataset.of(np.zeros((2, *shape)), np.zeros(2, int)).check(network)
    with pytest.raises(DatasetError, match=r"inputs of shape 4×9, but the network takes 1×6×6: the axes differ"):
        Dataset.of(np.zeros((2, 4, 9)), np.zeros(2, int)).check(network)


@pytest.mark.data
def test_mnist_is_read(data_folder):
    data = Dataset.read(data_folder / "mnist" / "mnist_test.npz")
    assert len(data) == 10_000
    assert data.features == 784
    assert data.label(0) == 7
