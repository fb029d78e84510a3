"""DELETE: what has ended or is not used goes, what is needed stays and says why."""

from __future__ import annotations

from tests.random_networks import dense_model
from tests.service.serving import Service, ball, problem


def test_an_ended_job_goes_and_a_waiting_one_does_not(web: Service) -> None:
    job = web.queued_job()
    assert problem(web.http.delete(f"/v1/jobs/{job}"), 409)["type"].endswith(":job-not-ended")
    web.http.post(f"/v1/jobs/{job}/cancel")
    assert web.http.delete(f"/v1/jobs/{job}").status_code == 204
    problem(web.http.delete(f"/v1/jobs/{job}"), 404)
    problem(web.http.get(f"/v1/jobs/{job}", params={"wait": 0}), 404)


def test_a_job_that_a_verdict_was_taken_from_stays(web: Service) -> None:
    network = web.upload(dense_model(31))
    first = web.ask(ball(epsilon=0.01, label=1), network=network).json()["id"]
    job = web.begin(first)
    from service.reuse import asked

    key = asked(job.request)
    verdict = {"verdict": "robust", "trust": "certified", "margin": [0.1, None], "seconds": 1.0}
    from service.states import JobState

    assert web.ledger.finish(job.id, job.attempt, JobState.SUCCEEDED, verdict=verdict, asked=key)
    later = web.ask(ball(epsilon=0.005, label=1), network=network).json()
    assert later["verdict"]["cached_from"]["job"] == first
    refused = problem(web.http.delete(f"/v1/jobs/{first}"), 409)
    assert refused["type"].endswith(":in-use")
    assert later["id"] in refused["detail"]
    assert web.http.delete(f"/v1/jobs/{later['id']}").status_code == 204
    assert web.http.delete(f"/v1/jobs/{first}").status_code == 204
    assert web.ask(ball(epsilon=0.005, label=1), network=network).json()["state"] == "queued", "nothing left to reuse"


def test_a_network_goes_when_nothing_is_about_it(web: Service) -> None:
    network = web.upload(dense_model(32))
    job = web.ask(ball(), network=network).json()["id"]
    assert problem(web.http.delete(f"/v1/networks/{network}"), 409)["type"].endswith(":in-use")
    web.http.post(f"/v1/jobs/{job}/cancel")
    assert web.http.delete(f"/v1/jobs/{job}").status_code == 204
    assert web.http.delete(f"/v1/networks/{network}").status_code == 204
    problem(web.http.get(f"/v1/networks/{network}"), 404)
    assert web.upload(dense_model(32)) == network, "and comes back when it is sent again"


def test_a_network_that_another_question_names_stays(web: Service) -> None:
    network, other = web.upload(dense_model(33)), web.upload(dense_model(34))
    query = {"lower": [0, 0, 0], "upper": [1, 1, 1], "equivalent_to": {"network": other, "within": 1}}
    asked = web.ask(query, network=network)
    assert asked.status_code == 202, asked.text
    problem(web.http.delete(f"/v1/networks/{other}"), 409)


def test_a_batch_goes_with_its_jobs_and_frees_its_data_set(web: Service) -> None:
    network = web.upload(dense_model(35))
    body = {
        "network": network,
        "dataset": {"inputs": [[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]], "labels": [0, 1]},
        "query": {"epsilon": 0.01, "domain": [0, 1]},
    }
    batch = web.http.post("/v1/batches", json=body).json()
    problem(web.http.delete(f"/v1/batches/{batch['id']}"), 409)
    dataset = batch["dataset"] if isinstance(batch["dataset"], str) else batch["dataset"]["sha256"]
    problem(web.http.delete(f"/v1/datasets/{dataset}"), 409)
    (job,) = [each["id"] for each in web.http.get("/v1/jobs", params={"batch": batch["id"]}).json()["jobs"]]
    web.http.post(f"/v1/batches/{batch['id']}/cancel")
    refused = problem(web.http.delete(f"/v1/jobs/{job}"), 409)
    assert batch["id"] in refused["detail"]
    assert web.http.delete(f"/v1/batches/{batch['id']}").status_code == 204
    problem(web.http.get(f"/v1/batches/{batch['id']}"), 404)
    problem(web.http.get(f"/v1/jobs/{job}", params={"wait": 0}), 404)
    assert web.http.delete(f"/v1/datasets/{dataset}").status_code == 204
    problem(web.http.get(f"/v1/datasets/{dataset}"), 404)
