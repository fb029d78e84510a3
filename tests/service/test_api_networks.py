"""Networks over HTTP: taken in once, refused with a reason."""

from __future__ import annotations

import gzip
import hashlib
import os
import socket

import numpy as np
import pytest
from onnx import helper

from tests.random_networks import dense_model, model
from tests.service.serving import NETWORK, Service, problem

SHA256 = hashlib.sha256(NETWORK).hexdigest()


def test_upload_describes_the_network_and_addresses_it_by_content(web: Service) -> None:
    network = dense_model(1, (4, 6, 3))
    answer = web.http.post("/v1/networks", content=network, params={"name": "a b/c.onnx"})
    document = answer.json()
    assert answer.status_code == 201
    assert document["sha256"] == hashlib.sha256(network).hexdigest()
    assert answer.headers["Location"] == f"/v1/networks/{document['sha256']}"
    assert (document["inputs"], document["outputs"], document["relus"]) == (4, 3, 6)
    assert (document["input_shape"], document["name"], document["size"]) == ([4], "c.onnx", len(network))
    assert web.http.get(answer.headers["Location"]).json() == document


def test_gzip_and_forms_and_repetition_lead_to_the_same_network(web: Service) -> None:
    web.upload()
    packed = gzip.compress(NETWORK[:100]) + gzip.compress(NETWORK[100:])
    for answer in (
        web.http.post("/v1/networks", content=NETWORK, headers={"Content-Type": "application/octet-stream"}),
        web.http.post("/v1/networks", content=packed),
        web.http.post("/v1/networks", files={"network": ("net.onnx.gz", packed)}),
        web.http.post("/v1/networks", files={"network": ("net.onnx", NETWORK)}),
        web.http.post("/v1/networks", content=iter([NETWORK[:1], NETWORK[1:7], NETWORK[7:]])),
    ):
        assert answer.status_code == 200, answer.text
        assert answer.json()["sha256"] == SHA256


def test_list_holds_the_newest_first(web: Service) -> None:
    web.upload()
    newest = web.upload(dense_model(2))
    listed = [network["sha256"] for network in web.http.get("/v1/networks").json()["networks"]]
    assert listed[0] == newest
    assert SHA256 in listed
    assert len(web.http.get("/v1/networks?limit=1").json()["networks"]) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no network"),
        (NETWORK[: len(NETWORK) // 2], "truncated"),
        (gzip.compress(NETWORK)[:-20], "ends too early"),
        (b"\x1f\x8b" + NETWORK, "cannot be unpacked"),
    ],
    ids=["empty", "truncated", "truncated gzip", "false gzip"],
)
def test_broken_files_are_refused(web: Service, content: bytes, words: str) -> None:
    document = problem(web.http.post("/v1/networks", content=content), 422)
    assert document["type"] == "urn:netproof:problem:unreadable-network"
    assert words in document["detail"]


def test_ten_megabytes_of_garbage_are_refused(live: Service) -> None:
    document = problem(live.http.post("/v1/networks", content=os.urandom(10 * 2**20)), 422)
    assert document["type"] == "urn:netproof:problem:unreadable-network"


def test_an_unsupported_operator_is_named(web: Service) -> None:
    network = model([helper.make_node("Tan", ["x"], ["y"], name="tangent")], [1, 3])
    document = problem(web.http.post("/v1/networks", content=network), 422)
    assert document["type"] == "urn:netproof:problem:unsupported-operator"
    assert (document["op"], document["node"], document["opset"]) == ("Tan", "tangent", 17)
    assert "Tan" in document["detail"]


def test_weights_that_are_not_finite_are_refused(web: Service) -> None:
    weight = np.full((3, 2), np.nan, np.float32)
    network = model([helper.make_node("MatMul", ["x", "W"], ["y"])], [1, 3], {"W": weight})
    document = problem(web.http.post("/v1/networks", content=network), 422)
    assert document["type"] == "urn:netproof:problem:non-finite-weight"


def test_size_is_limited_as_sent_and_as_unpacked(web: Service) -> None:
    limit = web.settings.max_model_bytes
    document = problem(web.http.post("/v1/networks", content=os.urandom(limit + 1)), 413)
    assert document["type"] == "urn:netproof:problem:too-large"
    assert str(limit) in document["detail"]
    bomb = gzip.compress(bytes(64 * 2**20))
    assert len(bomb) < limit
    problem(web.http.post("/v1/networks", content=bomb), 413)
    assert not list(web.settings.artifact_dir.glob("upload-*")), "refused uploads leave nothing behind"


def test_the_announced_length_is_enough_to_refuse(web: Service) -> None:
    """A client that waits for 100 Continue, as curl does, sends nothing in vain."""
    host, port = web.http.base_url.host, web.http.base_url.port
    head = f"POST /v1/networks HTTP/1.1\r\nHost: {host}\r\nContent-Length: {2**40}\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("given", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
def test_other_media_types_are_refused(web: Service, given: str) -> None:
    document = problem(web.http.post("/v1/networks", content=NETWORK, headers={"Content-Type": given}), 415)
    assert "application/octet-stream" in document["detail"]


def test_a_form_without_a_file_is_refused(web: Service) -> None:
    answer = web.http.post("/v1/networks", files={"model": ("net.onnx", NETWORK)})
    assert problem(answer, 422)["errors"][0]["pointer"] == "/network"
    problem(web.http.post("/v1/networks", content=b"x", headers={"Content-Type": "multipart/form-data"}), 400)


@pytest.mark.parametrize("sha256", ["0" * 64, "0" * 63, "..%2f..%2fetc%2fpasswd", "%00", "A" * 64])
def test_unknown_networks_are_not_found(web: Service, sha256: str) -> None:
    problem(web.http.get(f"/v1/networks/{sha256}"), 404)
