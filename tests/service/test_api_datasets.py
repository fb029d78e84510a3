"""Uploading data sets: every form, one address, and strangers' bytes."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest

from networks.dataset import Dataset
from tests.service.serving import Service, problem

IMAGES = np.arange(12, dtype=np.uint8).reshape(4, 3) * 20
LABELS = np.array([0, 1, 1, 0])
BINARY = {"Content-Type": "application/octet-stream"}


def npz(images: np.ndarray = IMAGES, labels: np.ndarray = LABELS) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, images=images, labels=labels)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_the_same_inputs_are_one_data_set_in_whatever_form(web: Service) -> None:
    first = web.http.post("/v1/datasets", content=npz(), headers=BINARY, params={"name": "../d.npz"})
    assert first.status_code == 201, first.text
    document = first.json()
    assert document["sha256"] == Dataset.of(IMAGES, LABELS).sha256
    assert (document["count"], document["features"], document["labels"], document["dtype"]) == (4, 3, [0, 1], "uint8")
    assert document["name"] == "d.npz"
    assert first.headers["Location"] == f"/v1/datasets/{document['sha256']}"
    idx = struct.pack(">BBBB2I", 0, 0, 8, 2, 4, 3) + IMAGES.tobytes()
    text = "\n".join(f"{label},{','.join(map(str, row))}" for row, label in zip(IMAGES, LABELS, strict=True))
    others = [
        web.http.post("/v1/datasets", content=gzip.compress(npz()), headers=BINARY),
        web.http.post("/v1/datasets", files={"dataset": ("d.npz", npz())}),
        web.http.post("/v1/datasets", files={"images": npy(IMAGES), "labels": gzip.compress(npy(LABELS))}),
        web.http.post(
            "/v1/datasets", files={"images": idx, "labels": struct.pack(">BBBBI", 0, 0, 8, 1, 4) + bytes([0, 1, 1, 0])}
        ),
        web.http.post("/v1/datasets", content=text, headers={"Content-Type": "text/csv"}, params={"dtype": "uint8"}),
    ]
    assert [(answer.status_code, answer.json()["sha256"]) for answer in others] == 5 * [(200, document["sha256"])]
    assert web.http.get(first.headers["Location"]).json() == document
    assert document in web.http.get("/v1/datasets").json()["datasets"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no data set in it"),
        (b"hello", "names 0 label columns"),
        (npy(IMAGES), "holds no labels"),
        (npz(labels=LABELS[:2]), "4 images but 2 labels"),
        (npz(images=IMAGES.astype(complex)), "complex128"),
        (gzip.compress(npz())[:-9], "ends too early"),
        (b"PK\x03\x04 no zip at all", "not a readable .npz"),
    ],
)
def test_what_is_no_data_set_is_refused_in_words(web: Service, content: bytes, words: str) -> None:
    document = problem(web.http.post("/v1/datasets", content=content, headers=BINARY), 422)
    assert document["type"] == "urn:netproof:problem:invalid-dataset"
    assert words in document["detail"]


def test_a_pickle_is_never_loaded(web: Service, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path(trap).touch, ()  # type: ignore[return-value]

    buffer = io.BytesIO()
    np.savez(buffer, images=np.array([Trap()], dtype=object), labels=LABELS)
    problem(web.http.post("/v1/datasets", content=buffer.getvalue(), headers=BINARY), 422)
    assert not trap.exists()


def test_limits_hold_for_what_is_sent_and_for_what_it_unpacks_to(web: Service) -> None:
    limit = web.settings.max_dataset_bytes
    problem(web.http.post("/v1/datasets", content=bytes(limit + 1), headers=BINARY), 413)
    problem(web.http.post("/v1/datasets", content=gzip.compress(bytes(limit + 1)), headers=BINARY), 413)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=np.zeros((9, limit // 4), np.uint8), labels=np.zeros(9, int))
    assert len(buffer.getvalue()) < limit
    document = problem(web.http.post("/v1/datasets", content=buffer.getvalue(), headers=BINARY), 422)
    assert "more than the limit" in document["detail"]


def test_forms_of_requests_that_are_not_understood(web: Service) -> None:
    problem(web.http.post("/v1/datasets", content=b"{}", headers={"Content-Type": "application/json"}), 415)
    assert "named dataset" in problem(web.http.post("/v1/datasets", files={"x": b"y"}), 422)["detail"]
    assert "named labels" in problem(web.http.post("/v1/datasets", files={"images": npy(IMAGES)}), 422)["detail"]
    problem(web.http.get("/v1/datasets/nonsense"), 404)
    problem(web.http.get(f"/v1/datasets/{'0' * 64}"), 404)
