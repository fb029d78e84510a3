"""Probes, versions, and what holds for every request."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from service.workers import BackendRecord, Licence
from tests.service.records import registered, worker
from tests.service.serving import Service, ball, problem


def wait_for_worker(live: Service) -> None:
    """Have a job done, since only a worker that is up does one."""
    answer = live.http.post("/v1/verify?wait=30", json={"network": live.upload(), "query": ball()})
    assert answer.status_code == 200, answer.text


def test_health_asks_nothing_of_others(web: Service) -> None:
    assert web.http.get("/healthz").json() == {"status": "ok"}


def test_a_service_without_workers_is_not_ready(web: Service) -> None:
    answer = web.http.get("/readyz")
    checks = answer.json()["checks"]
    assert answer.status_code == 503
    assert {name: check["ok"] for name, check in checks.items()} == {
        "ledger": True,
        "queue": True,
        "artifacts": True,
        "workers": False,
    }
    assert "netproof worker" in checks["workers"]["detail"]


def test_a_service_with_a_worker_is_ready(live: Service) -> None:
    wait_for_worker(live)
    answer = live.http.get("/readyz")
    assert answer.status_code == 200, answer.text
    assert answer.json()["ready"]


def test_a_lost_queue_server_is_reported_without_its_address(tmp_path: Path) -> None:
    service = Service(tmp_path)
    try:
        service.server.stop()
        answer = service.http.get("/readyz")
        assert answer.status_code == 503
        lost = {"ok": False, "degraded": False, "detail": "does not answer (ConnectionError)"}
        assert answer.json()["checks"]["queue"] == lost
        assert str(tmp_path) not in answer.text
        document = problem(service.http.get("/v1/solvers"), 503)
        assert document["type"] == "urn:netproof:problem:unavailable"
    finally:
        service.server.start()
        service.close()


def test_version_is_the_installed_one(web: Service) -> None:
    assert web.http.get("/v1/version").json()["version"] == metadata.version("netproof")


def test_solvers_are_what_live_workers_report(web: Service) -> None:
    highs, gurobi = web.http.get("/v1/solvers").json()["solvers"]
    assert (highs["name"], highs["version"], highs["workers"]) == ("highs", metadata.version("highspy"), 0)
    assert gurobi["licence"] is None
    limited = BackendRecord("1.2.3", Licence.LIMITED, "a licence", variables=5, constraints=6, quadratic=4)
    with registered(web, worker("with", limited), worker("without", BackendRecord("", Licence.NONE, "not installed"))):
        gurobi = web.http.get("/v1/solvers").json()["solvers"][1]
    assert (gurobi["version"], gurobi["workers"]) == ("1.2.3", 1)
    assert gurobi["licence"] == (
        "a licence: at most 5 variables and 6 constraints, 4 variables where there are quadratic terms"
    )


def test_workers_report_their_solvers(live: Service) -> None:
    wait_for_worker(live)
    solvers = live.http.get("/v1/solvers").json()["solvers"]
    assert all(solver["licence"] and solver["workers"] == 1 for solver in solvers), solvers


def test_live_workers_are_listed_with_what_they_do(live: Service) -> None:
    wait_for_worker(live)
    (found,) = live.http.get("/v1/workers").json()["workers"]
    assert found["pid"] == live.workers[0].pid
    assert (found["threads"], found["memory_mb"]) == (1, live.settings.memory_limit_mb)
    assert found["backends"]["highs"]["licence"] == "full"
    assert (found["job"], found["draining"]) == (None, False)


def test_the_root_leads_on(web: Service) -> None:
    for link in web.http.get("/").json()["links"].values():
        assert web.http.get(link).status_code in {200, 405, 503}


def test_unknown_paths_and_methods_are_problems(web: Service) -> None:
    assert "/nothing" in problem(web.http.get("/nothing"), 404)["detail"]
    answer = web.http.put("/v1/networks", content=b"x")
    assert "use " in problem(answer, 405)["detail"]
    assert answer.headers["Allow"] == "GET, POST"


def test_the_request_identifier_is_kept_if_it_is_harmless(web: Service) -> None:
    assert web.http.get("/healthz", headers={"X-Request-ID": "ci-42.a"}).headers["X-Request-ID"] == "ci-42.a"
    drawn = web.http.get("/healthz", headers={"X-Request-ID": "a b<script>"}).headers["X-Request-ID"]
    assert drawn.isalnum()
    assert drawn != web.http.get("/healthz").headers["X-Request-ID"]


@pytest.mark.parametrize("path", ["/", "/healthz", "/nothing", "/v1/jobs"])
def test_answers_carry_security_headers(web: Service, path: str) -> None:
    headers = web.http.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"


def test_the_web_process_imports_nothing_heavy() -> None:
    """Importing the app must stay cheap, and a solver's crash or licence must not concern it."""
    code = "import sys, service.app; print(*{name.partition('.')[0] for name in sys.modules})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "pyomo", "highspy", "gurobipy", "onnx", "onnxruntime", "scipy"} & set(out)
