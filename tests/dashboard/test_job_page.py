"""The page of a job, in a browser: what it says of every kind of end, and that it follows a job that runs."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

from service.closing import Failure
from service.states import JobState
from tests.dashboard.examples import about_digit, ask, network
from tests.faults.deployment import ball, lower_bound, obstinate_model
from tests.service.records import record
from tests.service.serving import Service, problem
from tests.service.test_api_jobs import UNDECIDED

HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def robust(site):
    return ask(site, network(site, "digits_robust.onnx"), about_digit(6, "0.06"), certificate=True)


@pytest.fixture(scope="module")
def broken(site):
    return ask(site, network(site, "digits_plain.onnx"), about_digit(10, "0.1"))


def hard(site, *, time_limit):
    """A job at work, which has proven something and will not end by itself before its time is up."""
    about = site.upload(obstinate_model())
    job = ask(site, about, ball(12), wait=0, reuse=False, time_limit=time_limit, priority="high")
    begun = site.wait(site.ledger.job(job), lambda now: lower_bound(now.progress) is not None, seconds=120)
    return begun.id


def test_a_running_job_is_followed_to_its_end(site, open_page):
    job = hard(site, time_limit=10)
    page, watch = open_page(site, f"/jobs/{job}")
    expect(page.get_by_role("heading", name="At work")).to_be_visible()
    expect(page.get_by_role("figure").filter(has_text="Bounds of the margin over time")).to_be_visible()
    expect(page.get_by_role("heading", name="What would help")).to_be_visible()
    expect(page.get_by_text("The time limit came before a decision.")).to_be_visible()
    expect(page.get_by_role("heading", name="At work")).to_be_hidden()
    assert [url for url in watch.requests if url.endswith(job)] == [f"{site.url}/jobs/{job}"]  # loaded once
    history = site.http.get(f"/v1/jobs/{job}").json()["verdict"]["history"]
    lowers = [lower for _, lower, _ in history if lower is not None]
    assert len(lowers) > 1
    assert lowers == sorted(lowers)


def test_a_page_follows_though_its_script_came_late(tmp_path, open_page):
    service = Service(tmp_path)
    try:
        job = service.queued_job()
        page, _ = open_page(service)

        def late(route):
            time.sleep(1)
            route.fallback()

        page.route("**/hx-sse*", late)
        with page.expect_request("**/live"):
            page.goto(f"/jobs/{job}")
        service.end(service.begin(job), UNDECIDED)
        expect(page.get_by_role("heading", name="What would help")).to_be_visible()
    finally:
        service.close()


def test_a_counterexample_is_seen(broken, visit, accessible):
    page = visit(f"/jobs/{broken}")
    expect(
        page.get_by_text("An input of the region breaks the property: it does not hold against class 3.")
    ).to_be_visible()
    pictures = page.locator(".picture > img")
    expect(pictures).to_have_count(3)
    for i in range(3):
        assert pictures.nth(i).evaluate("image => [image.complete, image.naturalWidth, image.naturalHeight]") == [
            True,
            8,
            8,
        ]
    outputs = page.get_by_role("img", name="What the network says")
    expect(outputs).to_be_visible()
    page.get_by_text("Entries that changed most").click()
    expect(page.get_by_role("cell", name="0.1").or_(page.get_by_role("cell", name="−0.1")).first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="npy").click()
    assert download.value.suggested_filename == f"counterexample-{broken}.npy"
    accessible(page)


@pytest.mark.parametrize("scripts", [True, False])
def test_a_certificate_is_checked_now(robust, visit, accessible, scripts):
    page = visit(f"/jobs/{robust}", java_script_enabled=scripts)
    expect(page.get_by_text("An independent checker accepted the proof")).to_be_visible()
    page.get_by_role("button", name="Check it now").click()
    expect(page.get_by_role("heading", name="Accepted")).to_be_visible()
    expect(
        page.locator("#checked").get_by_text(re.compile(r"proven \(\w+\): no violation of 9 clauses"))
    ).to_be_visible()
    if scripts:
        accessible(page)


def test_a_running_job_is_cancelled_and_keeps_its_bounds(site, visit):
    job = hard(site, time_limit=60)
    page = visit(f"/jobs/{job}")
    expect(page.get_by_text("Margin so far")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("It was stopped on request")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden()
    assert site.http.get(f"/v1/jobs/{job}").json()["state"] == "cancelled"


def failed_job(site):
    request = {"network": site.upload(), "query": {"input": [0.5, 0.25, 0.75], "epsilon": 0.001, "label": 0}}
    request |= {"time_limit": 20.0, "engine": "auto", "backend": "auto", "priority": "normal", "seed": 0}
    job, _ = record(site.ledger, request["network"], request, queue="highs", time_limit=20.0, max_attempts=3)
    site.ledger.start(job.id, worker="machine:1", lease_seconds=9)
    error = {"code": str(Failure.OUT_OF_MEMORY), "message": "needed more than <its limit> of 512 MB"}
    assert site.ledger.finish(job.id, 1, JobState.FAILED, error=error, reason="killed")
    return job.id


def test_a_failed_job_says_why_and_can_be_tried_again(site, visit, accessible):
    page = visit(f"/jobs/{failed_job(site)}")
    expect(page.get_by_role("alert")).to_contain_text("needed more than <its limit> of 512 MB")
    expect(page.get_by_role("cell", name="machine:1")).to_be_visible()
    accessible(page)
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("Decided by")).to_be_visible()
    page.get_by_text("From a terminal").click()
    expect(page.get_by_text("/v1/verify?wait=60")).to_be_visible()


def test_on_a_phone_nothing_is_cut_off(broken, robust, visit):
    for job in (broken, robust):
        page = visit(f"/jobs/{job}", viewport={"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_programs_get_the_job_and_people_its_page(site, robust):
    assert site.http.get(f"/jobs/{robust}").json()["id"] == robust
    answer = site.http.get(f"/jobs/{robust}", headers=HTML)
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "Accept" in answer.headers["Vary"]
    unknown = robust[:-4] + "0000"
    assert site.http.get(f"/jobs/{unknown}", headers=HTML).status_code == 404
    problem(site.http.get(f"/jobs/{unknown}"), 404)


def test_the_command_on_the_page_asks_the_same(site, robust):
    """What jq would make of the job is a request that the service takes."""
    job = site.http.get(f"/v1/jobs/{robust}?include=input").json()
    members = {key: value for key, value in job["request"].items() if key not in {"network", "query"}}
    asked = {"network": job["network"], "query": job["request"]["query"], **members}
    again = site.http.post("/v1/verify?wait=30", json=asked).json()
    assert again["verdict"]["cached_from"]["job"] == robust
    page = site.http.get(f"/jobs/{again['id']}", headers=HTML).text
    assert f'href="/jobs/{robust}"' in page
    for name in members:
        assert f"{name}: " in page or f"{name}:" in page


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (about_digit(3, "0.05", kind="margin"), "The least margin over the region"),
        (about_digit(3, "0.2", kind="distance"), "Bounds of the distance over time"),
        (about_digit(3, "2", norm="l1", targets=[1, 2]), "add up (ℓ1) to at most 2"),
    ],
)
def test_other_questions_have_pages_too(site, query, words):
    job = ask(site, network(site, "digits_plain.onnx"), query, time_limit=10)
    answer = site.http.get(f"/jobs/{job}", headers=HTML)
    assert answer.status_code == 200
    assert words in answer.text


def test_a_vnnlib_question_has_a_page(site):
    files = {"network": (None, network(site, "digits_plain.onnx")), "vnnlib": b"(declare-const X_0 Real)"}
    answer = site.http.post("/v1/verify?wait=5", files=files)
    assert answer.status_code == 422  # refused at the edge: no page is needed for it


def test_helpers_of_a_job_are_seen_and_lead_there_and_back(tmp_path, open_page, accessible):
    service = Service(tmp_path)
    try:
        begun = service.begin(service.queued_job())
        given = {"query": {"epsilon": 0.001}, "time_limit": 20.0, "part": {}}
        parts = [service.ledger.subtrees.give(begun, given, queue="highs-low", time_limit=9.0) for _ in range(3)]
        for part, worker in zip(parts, ("machine:8", "machine:9"), strict=False):
            assert service.ledger.start(part.id, worker=worker, lease_seconds=60)
        page, _ = open_page(service, f"/jobs/{begun.id}")
        expect(page.get_by_text("2 workers search parts of it now; 3 parts in all so far.")).to_be_visible()
        page.get_by_text("The parts", exact=True).click()
        accessible(page)
        page.get_by_role("link", name=parts[0].id[-8:]).click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("A part of the search")
        expect(page.get_by_role("heading", name="Answer")).to_have_count(0)
        accessible(page)
        page.goto("/jobs")
        expect(page.locator("tbody tr")).to_have_count(1)
        page.goto(f"/jobs/{parts[0].id}")
        page.get_by_role("main").get_by_role("link", name=begun.id[-8:]).first.click()
        expect(page.get_by_role("heading", name="At work")).to_be_visible()
        service.end(begun, UNDECIDED)
        expect(page.get_by_text("2 other workers took parts of it; 3 parts in all.")).to_be_visible()
        again = service.http.post(f"/jobs/{parts[2].id}/again", headers=HTML)
        assert again.status_code == 422
        assert begun.id in again.text
    finally:
        service.close()


def test_one_perturbation_of_many_inputs_is_seen(site, visit, accessible):
    digits = [about_digit(i, "0.2") for i in (7, 10)]
    query = {"kind": "universal", "epsilon": "0.2", "domain": [0, 1]}
    query |= {"inputs": [each["input"] for each in digits], "labels": [each["label"] for each in digits]}
    page = visit(f"/jobs/{ask(site, network(site, 'digits_plain.onnx'), query, time_limit=10)}")
    expect(page.get_by_role("heading", level=1)).to_have_text("One perturbation of 2 inputs, ℓ∞ ε 0.2")
    expect(page.locator(".picture > img")).to_have_count(1)
    expect(page.get_by_text("ONNX Runtime was seen to flip these inputs")).to_be_visible()
    expect(page.get_by_text("no stage had to run")).to_have_count(0)
    accessible(page)
    page.get_by_role("link", name="Ask again with").click()
    expect(page.locator("#lost")).to_contain_text("inputs")
