"""Schemathesis: requests generated from ``openapi.yaml``, right ones and wrong ones, against a running service.

No answer may be a 5xx, every answer must be described (status, media type, headers, schema), and requests that break
the description must be refused. What the description cannot say, such as that an input fits its network, is refused,
too, so that being accepted is not asked of requests that follow it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.serving import Service, ball

ROOT = Path(__file__).parents[2]
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
)
#: Answers 503 where no worker is there, as it says; followed streams end with their job, which nobody works on here.
UNASKED = ("readiness", "followJob", "followBatch")


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that nobody works for, with a job, an ended job, a batch and a data set."""
    service = Service(tmp_path_factory.mktemp("schema"), max_model_bytes=2**20, max_dataset_bytes=2**20, wait_max=0.1)
    yield service
    service.close()


def known(service: Service) -> dict[str, list[str]]:
    network = service.upload()
    dataset = service.http.post("/v1/datasets", content=b"0,0.5,0.25,0.75\n1,0.1,0.2,0.3\n").json()["sha256"]
    cancelled = service.queued_job()
    service.http.post(f"/v1/jobs/{cancelled}/cancel")
    body = {"network": network, "dataset": dataset, "query": {"epsilon": 0.01, "domain": [0, 1]}}
    batch = service.http.post("/v1/batches", json=body).json()["id"]
    queued = service.ask(ball(), network=network).json()["id"]
    return {"networks": [network], "datasets": [dataset], "jobs": [queued, cancelled], "batches": [batch]}


def run(service: Service, *arguments: str, seconds: float) -> str:
    """What Schemathesis reports; fails with it where it found something."""
    environment = {**os.environ, "NETPROOF_KNOWN": json.dumps(known(service))}
    environment["SCHEMATHESIS_HOOKS"] = "tests.service.schema_hooks"
    command = [shutil.which("schemathesis", path=str(Path(sys.executable).parent)) or "schemathesis", "run"]
    command += [str(ROOT / "openapi.yaml"), "--url", service.url, "--checks", ",".join(CHECKS), "--seed", "1"]
    command += ["--generation-deterministic", "--no-shrink", "--warnings", "off"]
    command += ["--continue-on-failure", "--request-timeout", "60", "--no-color"]
    command += [part for name in UNASKED for part in ("--exclude-operation-id", name)]
    done = subprocess.run(
        [*command, *arguments],
        cwd=service.settings.data_dir,  # where it leaves a folder of its own
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tested = re.search(r"Tested: +(\d+)", done.stdout)
    assert tested, done.stdout
    assert int(tested[1]) > 25
    return done.stdout


def test_generated_requests_are_answered_as_described(described: Service) -> None:
    run(described, "--phases", "examples,fuzzing", "--max-examples", "6", seconds=240)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_generated_requests_at_length(described: Service) -> None:
    phases = "examples,coverage,fuzzing,stateful"
    run(described, "--phases", phases, "--max-examples", os.environ.get("NETPROOF_EXAMPLES", "200"), seconds=3600)
