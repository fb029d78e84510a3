"""A question for Gurobi goes where a licence is; what is too large for a licence goes to a larger one, or says so.

Gurobi itself answers here, under the licence that comes with gurobipy: 2,000 variables and constraints.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from service.job import Surroundings, run_job
from service.models import JobRecord
from service.states import JobState
from service.worker import _licensed, preload
from service.workers import BackendRecord, Licence
from tests.faults.deployment import Deployment, ball, obstinate_model
from tests.random_networks import dense_model
from tests.service import serving
from tests.service.records import registered, worker
from tests.service.serving import Service, problem

LIMITED = BackendRecord("13.0", Licence.LIMITED, "a licence", variables=2000, constraints=2000, quadratic=199)
FULL = BackendRecord("13.0", Licence.FULL, "a full licence")
HIGHS = BackendRecord("1.10", Licence.FULL, "MIT licence")

SMALL = dense_model(1, (3, 5, 2))
#: Hundreds of unstable ReLUs, of which each has several variables.
LARGE = obstinate_model((12, 400, 400, 2))


def test_without_a_licence_anywhere_the_answer_says_so_at_once(web: Service) -> None:
    with registered(web, worker("highs only"), worker("leaves", LIMITED, draining=True)):
        answer = web.ask(serving.ball(epsilon=0.021), backend="gurobi")
        document = problem(answer, 503)
        inputs = {"inputs": [[0.1, 0.2, 0.3]], "labels": [0]}
        batch = {"network": web.upload(), "dataset": inputs, "query": {"epsilon": 0.01}, "backend": "gurobi"}
        refused = problem(web.http.post("/v1/batches", json=batch), 503)
    assert document["type"] == refused["type"] == "urn:netproof:problem:backend-unavailable"
    assert "no live worker has a licence for gurobi (2 workers are alive)" in document["detail"]
    assert "backend auto or highs" in document["detail"]
    assert int(answer.headers["Retry-After"]) > 0
    assert not [job for job in web.ledger.jobs(state=JobState.QUEUED) if job.queue == "gurobi"]


def test_a_size_limited_licence_is_one(web: Service) -> None:
    with registered(web, worker("limited", LIMITED)):
        answer = web.ask(serving.ball(epsilon=0.022), backend="gurobi")
    assert answer.status_code == 202
    job = web.ledger.job(answer.json()["id"])
    assert job.queue == "gurobi"
    web.ledger.request_cancel(job.id)


def test_a_known_answer_needs_no_licence(web: Service) -> None:
    with registered(web, worker("limited", LIMITED)):
        posed = web.ask(serving.ball(epsilon=0.023), backend="gurobi").json()
    job = web.begin(posed["id"])
    from service.reuse import asked

    verdict = {"verdict": "robust", "trust": "solver", "margin": [0.1, None], "seconds": 1.0, "stages": []}
    assert web.ledger.finish(job.id, job.attempt, JobState.SUCCEEDED, verdict=verdict, asked=asked(job.request))
    again = web.ask(serving.ball(epsilon=0.023), backend="gurobi")
    assert again.status_code == 200, again.text
    assert again.json()["verdict"]["cached_from"]["job"] == job.id


def test_only_a_full_licence_serves_what_is_too_large_for_others() -> None:
    asked_for = ["highs", "gurobi-high", "gurobi"]
    assert _licensed(asked_for, {"highs": HIGHS, "gurobi": LIMITED}) == asked_for
    assert _licensed(asked_for, {"highs": HIGHS, "gurobi": FULL}) == [
        "highs",
        "gurobi-full-high",
        "gurobi-high",
        "gurobi-full",
        "gurobi",
    ]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    preload()  # as workers do before they take a job, whose time limit would else end this process
    whole = Deployment(tmp_path_factory.mktemp("routing"), memory_limit_mb=4096, grace_seconds=60.0)
    yield whole
    whole.close()


def solved(deployment: Deployment, network: bytes, query: dict[str, Any], backend: str) -> JobRecord:
    """The job after its first attempt, which runs here as in a worker's child."""
    job = deployment.submit(network, query, engine="milp", backend=backend, time_limit=5.0, dispatch=False)
    run_job(job.id, Surroundings(deployment.settings, "here"))
    return deployment.ledger.job(job.id)


@pytest.mark.gurobi
def test_a_size_limited_licence_takes_what_fits(deployment: Deployment) -> None:
    job = solved(deployment, SMALL, ball(3, 0.4), "gurobi")
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.verdict is not None
    assert job.verdict["verdict"] in {"robust", "counterexample"}


@pytest.mark.gurobi
def test_what_does_not_fit_fails_in_words_that_name_the_licence(deployment: Deployment) -> None:
    with registered(deployment, worker("limited", LIMITED)):
        job = solved(deployment, LARGE, ball(12), "gurobi")
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error["code"] == "licence_limit"
    assert (
        "the restricted licence that comes with gurobipy, which admits at most 2000 variables" in job.error["message"]
    )


@pytest.mark.gurobi
def test_what_does_not_fit_moves_to_a_full_licence_where_one_is(deployment: Deployment) -> None:
    with registered(deployment, worker("full", FULL, queues=("gurobi-full", "gurobi"))):
        job = solved(deployment, LARGE, ball(12), "gurobi")
    assert (job.state, job.queue, job.losses) == (JobState.QUEUED, "gurobi-full", 0)
    assert "restricted licence" in str(job.attempts[0].reason)
    assert deployment.dispatcher.missing([job]) == []
    assert deployment.dispatcher.depths()["gurobi-full"] == 1
    deployment.ledger.request_cancel(job.id)


@pytest.mark.gurobi
def test_without_a_choice_of_ours_what_does_not_fit_goes_to_highs(deployment: Deployment) -> None:
    job = solved(deployment, LARGE, ball(12), "auto")
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.queue == "highs"
    assert job.verdict is not None
    assert job.verdict["statistics"]["backend"] == "highs"
    assert "restricted licence" in job.verdict["statistics"]["backend_choice"]
