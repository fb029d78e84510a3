"""Every form of a data set gives the same data set, and nothing in a file is trusted."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from networks.dataset import Dataset
from networks.dataset_files import read_dataset
from networks.errors import DatasetError

IMAGES = np.arange(24, dtype=np.uint8).reshape(4, 2, 3) * 10
LABELS = np.array([3, 1, 0, 9])
SAME = Dataset.of(IMAGES, LABELS).sha256


def idx(array: np.ndarray) -> bytes:
    """An IDX file, as MNIST's own are."""
    kind = {"u1": 8, "i4": 12, "f4": 13}[array.dtype.str[1:]]
    return (
        struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape)
        + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


def written(folder: Path, **files: bytes) -> list[Path]:
    paths = []
    for name, data in files.items():
        paths.append(folder / name)
        paths[-1].write_bytes(data)
    return paths


def test_npz_npy_and_idx_are_one_data_set(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=IMAGES, y=LABELS)
    np.save(tmp_path / "images.npy", IMAGES)
    np.save(tmp_path / "labels.npy", LABELS)
    pair = written(tmp_path, images=idx(IMAGES), labels=idx(LABELS.astype(np.uint8)))
    assert read_dataset(tmp_path / "d.npz").sha256 == SAME
    assert read_dataset(tmp_path / "images.npy", tmp_path / "labels.npy").sha256 == SAME
    assert read_dataset(*pair).sha256 == SAME


@pytest.mark.parametrize(
    ("text", "as_bytes"),
    [
        ("3,0.5,1\n1,0,-2.5e-1\n", False),
        ("label,a,b\n3,0.5,1\n1,0,-2.5e-1\n", False),
        ("a,b,Y\n0.5,1,3\n0,-0.25,1\n", False),
        ("3,128,255\n1,0,7\n\n", True),
    ],
)
def test_csv_has_the_label_first_or_where_the_heading_says(tmp_path: Path, text: str, as_bytes: bool) -> None:
    (path,) = written(tmp_path, data=text.encode())
    found = read_dataset(path, as_bytes=as_bytes)
    assert found.labels.tolist() == [3, 1]
    if as_bytes:
        assert found.stored.dtype == np.uint8
        assert found.input(0).tolist() == [np.float32(128) / np.float32(255), 1.0]
    else:
        assert found.images.tolist() == [[0.5, 1.0], [0.0, -0.25]]


def test_an_idx_of_floats_is_taken_as_it_is(tmp_path: Path) -> None:
    pair = written(tmp_path, images=idx(IMAGES.astype(np.float32) / 7), labels=idx(LABELS.astype(np.int32)))
    assert np.array_equal(read_dataset(*pair).stored, IMAGES.astype(np.float32) / 7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "holds no input"),
        (b"label,a,b\n", "holds no input"),
        (b"a,b,c\n1,2,3\n", "names 0 label columns"),
        (b"1.5,2,3\n", "labels are whole numbers"),
        (b"1,2,3\n1,2\n", "line 2 has 2 values"),
        (b"1\n2\n", "line 1 has 1 values"),
        (b"1,2,3\nx,2,3\n", "cannot be read"),
        (b"1,2,three\n", "cannot be read"),
        (b"\xff\xfe\x00garbage", "cannot be read"),
        (b"inf,2,3\n", "labels are whole numbers"),
    ],
)
def test_what_is_no_data_set_is_refused_in_words(tmp_path: Path, text: bytes, words: str) -> None:
    (path,) = written(tmp_path, data=text)
    with pytest.raises(DatasetError, match=words):
        read_dataset(path)


def test_bytes_of_images_are_whole_numbers_up_to_255(tmp_path: Path) -> None:
    (path,) = written(tmp_path, data=b"1,256,3\n")
    with pytest.raises(DatasetError, match="no whole numbers from 0 to 255"):
        read_dataset(path, as_bytes=True)


def test_a_header_that_promises_more_than_there_is_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    huge = struct.pack(">BBBB3I", 0, 0, 8, 3, 2**31, 2**10, 2**10)
    pair = written(tmp_path, images=huge, labels=idx(LABELS.astype(np.uint8)))
    with pytest.raises(DatasetError, match="but this one has 16"):
        read_dataset(*pair)
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head) + 1) + head + b"\n"
    pair = written(tmp_path, images=npy, labels=idx(LABELS.astype(np.uint8)))
    with pytest.raises(DatasetError, match="not a readable array"):
        read_dataset(*pair)


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "labels.npy", LABELS)
    with pytest.raises(DatasetError):
        read_dataset(tmp_path / "images.npy", tmp_path / "labels.npy")
    np.savez(tmp_path / "d.npz", images=np.array([{"a": 1}], dtype=object), labels=LABELS)
    with pytest.raises(DatasetError):
        read_dataset(tmp_path / "d.npz")


def test_limits_are_kept(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "d.npz", images=np.zeros((100, 100), np.uint8), labels=np.zeros(100, int))
    np.save(tmp_path / "images.npy", np.zeros((100, 100), np.uint8))
    np.save(tmp_path / "labels.npy", np.zeros(100, int))
    (text,) = written(tmp_path, data=b"1,2,3\n" * 2000)
    for paths in ([tmp_path / "d.npz"], [tmp_path / "images.npy", tmp_path / "labels.npy"], [text]):
        with pytest.raises(DatasetError, match="limit of 4000"):
            read_dataset(*paths, max_bytes=4000)


def test_one_array_needs_its_labels_and_an_npz_does_not(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    np.savez(tmp_path / "d.npz", images=IMAGES, labels=LABELS)
    with pytest.raises(DatasetError, match="give the labels beside it"):
        read_dataset(tmp_path / "images.npy")
    with pytest.raises(DatasetError, match="holds its labels itself"):
        read_dataset(tmp_path / "d.npz", tmp_path / "images.npy")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_refused_and_never_crash(tmp_path: Path, data: st.DataObject) -> None:
    np.savez(tmp_path / "d.npz", images=IMAGES, labels=LABELS)
    np.save(tmp_path / "images.npy", IMAGES)
    whole = data.draw(
        st.sampled_from(
            [(tmp_path / "d.npz").read_bytes(), (tmp_path / "images.npy").read_bytes(), idx(IMAGES), b"1,2,3\n2,3,4\n"]
        )
    )
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    (path,) = written(tmp_path, broken=bytes(broken[: data.draw(st.integers(0, len(broken)))]))
    labels = written(tmp_path, labels=idx(LABELS.astype(np.uint8))) if data.draw(st.booleans()) else []
    try:
        found = read_dataset(path, *labels, max_bytes=10_000)
    except DatasetError:
        return
    assert found.stored.nbytes <= 10_000
    assert len(found) == len(found.labels)
