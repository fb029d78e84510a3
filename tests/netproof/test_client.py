"""`netproof.Client` against a running service."""

from __future__ import annotations

import gzip
import hashlib
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import certificates
import networks
from netproof.client import (
    Client,
    JobFailedError,
    NotFoundError,
    RefusedError,
    ServiceError,
    UnreachableError,
)
from networks.errors import InputError
from service.states import JobState
from tests.faults.deployment import obstinate_model
from tests.random_networks import dense_model
from tests.service.serving import NETWORK, Service, ball
from tests.small_servers import Handler, running

SHA256 = hashlib.sha256(NETWORK).hexdigest()

#: Output 0 stays below 1000 on the unit cube.
NEVER_LARGE = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "X_2", "Y_0", "Y_1"))
NEVER_LARGE += "".join(f"(assert (>= X_{i} 0))\n(assert (<= X_{i} 1))\n" for i in range(3)) + "(assert (>= Y_0 1000))\n"


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


def test_upload_sends_a_network_once(client: Client, service: Service, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx.gz"
    path.write_bytes(gzip.compress(NETWORK))
    assert client.upload(path)["name"] == "small.onnx.gz"
    assert client.upload(NETWORK)["sha256"] == SHA256
    assert client.network(SHA256)["inputs"] == 3


def test_a_certificate_is_issued_on_request_and_checks_elsewhere(client: Client) -> None:
    plain = client.verify(NETWORK, vnnlib=NEVER_LARGE, reuse=False)
    assert (plain.verdict, plain.result["trust"], plain.result["certificate"]) == ("robust", "solver", None)
    with pytest.raises(NotFoundError, match="has no certificate"):
        client.certificate(plain.id)
    proven = client.verify(NETWORK, vnnlib=NEVER_LARGE, certificate=True)
    assert proven.result["trust"] == "certified"
    data = client.certificate(proven.id)
    described = proven.result["certificate"]
    assert (described["bytes"], described["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert (described["leaves"], proven.semantics) == (1, "float32")
    assert proven.document["links"]["certificate"] == f"/v1/jobs/{proven.id}/certificate"
    report = certificates.check(data, networks.load_bytes(NETWORK))
    assert report.proven


def test_the_service_checks_certificates(client: Client, tmp_path: Path) -> None:
    job = client.verify(NETWORK, vnnlib=NEVER_LARGE, certificate=True)
    path = tmp_path / "proof.zip"
    path.write_bytes(client.certificate(job.id))
    found = client.check(path, NETWORK)
    assert (found["accepted"], found["reason"], found["semantics"]) == (True, "", "float32")
    assert found["certificate"]["bytes"] == path.stat().st_size
    exact = client.check(path.read_bytes(), SHA256, exact=True)
    assert (exact["accepted"], exact["semantics"], exact["exact"]) == (True, "real", 1)
    with pytest.raises(RefusedError, match="about the network with sha256"):
        client.check(path, dense_model(8))


def test_verify_returns_the_verdict_and_its_evidence(
    client: Client, plain: Path, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    image, label = digits[0][10], int(digits[1][10])
    job = client.verify(plain, input=image, label=label, epsilon="0.1", domain=(0, 1))
    assert job.ended
    assert (job.verdict, job.trust) == ("counterexample", "replayed")
    found = job.counterexample
    assert found is not None
    assert found.input.shape == (1, 8, 8)
    assert found.input.dtype == np.float32
    assert np.abs(found.input.reshape(8, 8) - image).max() <= 0.1 + 1e-6
    assert found.output.argmax() != label
    assert job.margin[1] == found.margin
    np.testing.assert_array_equal(client.counterexample(job.id).input, found.input)


def test_a_distance_and_a_margin_have_evidence_on_both_sides(
    client: Client, plain: Path, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    image, label = digits[0][10], int(digits[1][10])
    ball = {"input": image, "label": label, "domain": (0, 1)}
    job = client.verify(plain, **ball, kind="distance", tolerance="1e-5", certificate=True)
    assert (job.kind, job.verdict, job.trust) == ("distance", "counterexample", "replayed")
    lower, upper = job.distance
    assert lower is not None
    assert upper is not None
    assert upper - lower <= 1.01e-5
    assert job.witness is not None
    moved = np.abs(job.witness.input.reshape(8, 8).astype(float) - image).max()
    assert lower < moved <= upper
    assert job.witness.output.argmax() != label or job.witness.margin == 0
    np.testing.assert_array_equal(client.counterexample(job.id).input, job.witness.input)
    proven = job.result["certificate"]["proves"]
    assert proven == pytest.approx(lower)
    assert certificates.check(client.certificate(job.id), networks.load(plain)).proven

    job = client.verify(plain, **ball, epsilon=Fraction(1, 20), kind="margin", tolerance=0.125)
    assert (job.verdict, job.margin[1] - job.margin[0] <= 0.125 * job.margin[1]) == ("robust", True)
    assert job.witness is not None
    assert job.witness.margin == job.margin[1] > 0
    with pytest.raises(NotFoundError, match="counterexample"):
        client.counterexample(job.id)


def test_two_networks_are_compared_and_the_product_can_be_fetched(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "second.onnx"
    path.write_bytes(dense_model(8))
    space = {"lower": 0, "upper": 1}
    job = client.verify(NETWORK, **space, equivalent_to=path)
    assert job.verdict in {"robust", "counterexample"}
    job = client.verify(NETWORK, **space, equivalent_to={"network": SHA256, "within": "0.001"}, certificate=True)
    assert (job.verdict, job.trust) == ("robust", "certified")
    product = client.product(job.id)
    assert job.result["product"] == {"bytes": len(product), "sha256": hashlib.sha256(product).hexdigest()}
    assert product == networks.equivalence_model(NETWORK, NETWORK)
    assert certificates.check(client.certificate(job.id), networks.load_bytes(product)).proven
    raised = client.verify(NETWORK, **space, monotone={"input": 0, "within": 1000})
    assert raised.verdict == "robust"
    assert raised.document["links"]["product"] == f"/v1/jobs/{raised.id}/product"
    with pytest.raises(NotFoundError, match="about the network that was given"):
        client.product(client.verify(NETWORK, vnnlib=NEVER_LARGE).id)
    with pytest.raises(RefusedError, match="upload it by POST"):
        client.verify(NETWORK, **space, equivalent_to="0" * 64)
    with pytest.raises(RefusedError, match="these have 3 and 12"):
        client.verify(NETWORK, **space, equivalent_to=obstinate_model())


def test_verify_takes_a_sha256_and_a_vnnlib_text(client: Client) -> None:
    client.upload(NETWORK)
    job = client.verify(SHA256, vnnlib=NEVER_LARGE, reuse=False)
    assert (job.verdict, job.result and job.result["trust"]) == ("robust", "solver")
    with pytest.raises(NotFoundError, match="counterexample"):
        client.counterexample(job.id)


def test_progress_is_reported_while_waiting_and_cancelling_keeps_the_bounds(client: Client) -> None:
    """A query that takes far longer than any test, stopped at its first report."""
    reports: list[dict[str, Any]] = []
    network = obstinate_model()
    question = {"input": [0.5] * 12, "label": 0, "epsilon": 0.5, "domain": (0, 1)}
    job = client.verify(network, **question, wait=False)
    assert not job.ended

    def stop(report: dict[str, Any]) -> None:
        reports.append(report)
        if report["margin"][0] is not None:
            client.cancel(job.id)

    ended = client.wait(job.id, progress=stop)
    assert reports
    assert reports[0]["stage"]
    assert ended.state == "cancelled"
    assert ended.verdict == "unknown"
    assert ended.reason == "cancelled"
    assert ended.margin[0] is not None
    assert client.cancel(job.id).state == "cancelled", "cancelling what has ended changes nothing"


def test_waiting_has_an_end(service: Service, tmp_path: Path) -> None:
    idle = Service(tmp_path)
    try:
        with Client(idle.url) as client:
            begun = time.monotonic()
            job = client.verify(NETWORK, input=[0.5, 0.5, 0.5], label=0, epsilon=0.1, wait=0.5)
            assert not job.ended
            job = client.wait(job.id, seconds=0.5, progress=lambda report: None)
            assert not job.ended
            assert time.monotonic() - begun < 10
    finally:
        idle.close()


def test_a_key_gives_the_same_job(client: Client) -> None:
    question = {"input": [0.5, 0.5, 0.5], "label": 0, "epsilon": 0.1, "idempotency_key": "mine", "wait": False}
    assert client.verify(NETWORK, **question).id == client.verify(NETWORK, **question).id


def test_jobs_are_listed_over_pages(client: Client) -> None:
    made = [client.verify(NETWORK, **ball(), wait=False).id for _ in range(3)]
    listed = [job.id for job in client.jobs(network=SHA256, limit=2)]
    assert listed[:3] == made[::-1]


def test_events_resume(client: Client) -> None:
    job = client.verify(NETWORK, **ball())
    events = list(client.events(job.id))
    assert events[-1].data["state"] == "succeeded"
    assert list(client.events(job.id, after=events[0].id)) == events[1:]


def test_refusals_say_what_to_change(client: Client) -> None:
    with pytest.raises(RefusedError, match="3") as caught:
        client.verify(NETWORK, input=[0.5, 0.5], label=0, epsilon=0.1)
    assert isinstance(caught.value, InputError)
    assert caught.value.status == 422
    assert caught.value.type == "urn:netproof:problem:invalid-region"
    assert caught.value.problem["errors"][0]["pointer"] == "/query/input"
    with pytest.raises(RefusedError, match="got nan"):
        client.verify(NETWORK, input=[0.5, np.nan, 0.5], label=0, epsilon=0.1)
    with pytest.raises(RefusedError, match="truncated"):
        client.upload(NETWORK[:50])
    with pytest.raises(NotFoundError, match="no job"):
        client.job("x")
    with pytest.raises(RefusedError, match="input and epsilon missing"):
        client.verify(NETWORK, label=0)


def test_a_failed_job_raises_its_reason(client: Client, tmp_path: Path) -> None:
    idle = Service(tmp_path)
    try:
        job_id = idle.queued_job()
        job = idle.begin(job_id)
        error = {"code": "out_of_memory", "message": "the job needed more memory"}
        assert idle.ledger.finish(job_id, job.attempt, JobState.FAILED, error=error)
        with Client(idle.url) as other, pytest.raises(JobFailedError, match="needed more memory") as caught:
            other.wait(job_id)
        assert caught.value.job.error is not None
        assert caught.value.job.error["type"] == "urn:netproof:problem:out-of-memory"
    finally:
        idle.close()


def test_what_the_service_is(client: Client) -> None:
    assert client.version()
    assert {solver["name"] for solver in client.solvers()["solvers"]} == {"highs", "gurobi"}


def test_nobody_there() -> None:
    with Client("http://127.0.0.1:9", retries=1) as client, pytest.raises(UnreachableError, match="netproof serve"):
        client.version()


class _Busy(Handler):
    """Answers 503 twice, then with the version; and with a page to what it does not know."""

    asked = 0

    def answer(self) -> None:
        if self.path != "/v1/version":
            status, kind, body = 200, "text/html", b"<html>"
        elif type(self).asked < 2:
            type(self).asked += 1
            status, kind, body = 503, "text/plain", b"busy"
        else:
            status, kind, body = 200, "application/json", b'{"version": "9"}'
        self.reply(status, body, Content_Type=kind, Retry_After="0")


@pytest.fixture
def busy() -> Iterator[str]:
    _Busy.asked = 0
    with running(_Busy) as url:
        yield url


def test_a_busy_service_is_asked_again(busy: str) -> None:
    with Client(busy, retries=2) as client:
        assert client.version() == "9"


def test_a_service_that_stays_busy_is_an_error(busy: str) -> None:
    with Client(busy, retries=1) as client, pytest.raises(ServiceError, match="503"):
        client.version()


def test_another_service_is_recognised(busy: str) -> None:
    with Client(busy) as client, pytest.raises(ServiceError, match="is it a netproof service"):
        client.network("0" * 64)
