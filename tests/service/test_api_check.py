"""Certificates over HTTP: accepted, rejected with a reason, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from certificates import read
from certificates.errors import CertificateError
from certificates.wording import worded
from networks import Network
from service.checking import check
from service.problems import ProblemError
from tests.certificates.proofs import pack, proven, unpack
from tests.service.serving import Service, problem, read_with


@pytest.fixture(scope="module")
def proof() -> tuple[Network, bytes]:
    return proven("root")


def test_a_certificate_and_its_network_in_a_form(web: Service, proof: tuple[Network, bytes]) -> None:
    network, data = proof
    files = {"certificate": ("proof.zip", data), "network": ("net.onnx", network.model)}
    found = web.http.post("/v1/check", files=files)
    assert found.status_code == 200, found.text
    document = found.json()
    assert (document["accepted"], document["reason"], document["semantics"]) == (True, "", "float32")
    assert document["leaves"] >= document["regions"] == 1
    assert document["weakest"] > 0
    assert document["network"] == network.sha256
    assert document["certificate"]["bytes"] == len(data)
    assert document["summary"].startswith("proven (float32): no violation of ")
    assert document["question"] == worded(read(data).query)
    assert not list(web.settings.artifact_dir.glob("upload-*")), "nothing is left behind"


def test_a_certificate_alone_with_the_networks_name(web: Service, proof: tuple[Network, bytes]) -> None:
    network, data = proof
    sha256 = web.upload(network.model)
    zipped = {"Content-Type": "application/zip"}
    answer = web.http.post("/v1/check", content=data, headers=zipped, params={"network": sha256, "exact": "true"})
    document = answer.json()
    assert (document["accepted"], document["semantics"]) == (True, "real")
    assert document["exact"] == document["leaves"]
    named = {"certificate": ("proof.zip", data), "network": (None, sha256)}
    assert web.http.post("/v1/check", files=named).json()["accepted"] is True


def test_a_false_claim_is_rejected_with_a_reason(web: Service, proof: tuple[Network, bytes]) -> None:
    network, data = proof
    manifest, arrays = unpack(data)
    for row in manifest["cases"][0]["clauses"][0]["rows"]:
        row["coefficients"] = [[i, _negated(c)] for i, c in row["coefficients"]]
    forged = pack(manifest, arrays)
    document = web.http.post("/v1/check", content=forged, params={"network": web.upload(network.model)}).json()
    assert document["accepted"] is False
    assert "is only bounded by" in document["reason"]


def _negated(rational: str) -> str:
    return rational[1:] if rational.startswith("-") else f"-{rational}"


def test_what_is_no_certificate_is_refused(web: Service, proof: tuple[Network, bytes]) -> None:
    network, data = proof
    sha256 = web.upload(network.model)
    for content, words in ((b"", "not a certificate"), (data[:60], "damaged"), (b"x" * 500, "not a certificate")):
        document = problem(web.http.post("/v1/check", content=content, params={"network": sha256}), 422)
        assert document["type"] == "urn:netproof:problem:invalid-certificate"
        assert "certificate" in document["detail"], words
    other = problem(web.http.post("/v1/check", content=data, params={"network": web.upload()}), 422)
    assert "about the network with sha256" in other["detail"]


def test_requests_that_name_too_little_are_refused(web: Service, proof: tuple[Network, bytes]) -> None:
    network, data = proof
    assert "?network=" in problem(web.http.post("/v1/check", content=data), 422)["detail"]
    problem(web.http.post("/v1/check", content=data, params={"network": "0" * 64}), 404)
    problem(web.http.post("/v1/check", content=data, params={"network": "x"}), 422)
    problem(web.http.post("/v1/check", files={"network": ("net.onnx", network.model)}), 422)
    problem(web.http.post("/v1/check", json={"certificate": "x"}), 415)
    sha256 = web.upload(network.model)
    problem(web.http.post("/v1/check", content=bytes(2**20 + 1), params={"network": sha256}), 413)


def test_time_and_memory_are_limited(tmp_path: Path, proof: tuple[Network, bytes]) -> None:
    network, data = proof
    certificate, model = tmp_path / "proof", tmp_path / "net"
    certificate.write_bytes(data)
    model.write_bytes(network.model)
    with pytest.raises(ProblemError, match=r"did not end within 0\.05 seconds"):
        read_with(check, certificate, model, exact=False, seconds=0.05, memory_mb=1024)
    with pytest.raises(ProblemError, match="needs more than 1 MB"):
        read_with(check, certificate, model, exact=False, seconds=60, memory_mb=1)
    certificate.write_bytes(data[:-30])
    with pytest.raises(CertificateError):
        read_with(check, certificate, model, exact=False, seconds=60, memory_mb=1024)
