"""The first page: what it says with nothing there, and that it follows what happens."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.service.serving import Service, ball


@pytest.fixture
def fresh(tmp_path):
    """A service in which nothing has happened, and for which nobody works."""
    service = Service(tmp_path)
    yield service
    service.close()


def test_first_page_says_how_to_begin_and_what_is_missing(fresh, open_page, accessible):
    page, _ = open_page(fresh)
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    expect(page.locator("#unready")).to_contain_text("no live worker")
    expect(page.locator("#first")).to_contain_text("Upload a network")
    accessible(page)


def test_overview_follows_jobs_by_itself(site, visit):
    page = visit("/")
    done = site.http.post(
        "/v1/verify?wait=30", json={"network": site.upload(), "query": ball(), "time_limit": 20}
    ).json()
    row = page.get_by_role("link", name="ℓ∞ ε 0.001").first
    row.wait_for()
    assert done["verdict"]["verdict"] in page.inner_text("main")


def test_dark_and_light_by_hand_and_without_scripts(visit, accessible):
    page = visit("/", java_script_enabled=False)
    page.get_by_role("button", name="Change to dark").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.get_by_role("button", name="Change to light").click()
    assert page.locator("html").get_attribute("data-theme") == "light"


def test_theme_form_does_not_lead_elsewhere(site):
    headers = {"Accept": "text/html"}
    for target in ("https://example.org/", "//example.org/", "/\\example.org", "javascript:0"):
        answer = site.http.post("/theme", data={"theme": "dark", "back": target}, headers=headers)
        assert answer.status_code == 303
        assert answer.headers["Location"] == "/"


def test_programs_get_data_and_people_get_pages(site):
    assert site.http.get("/").json()["name"] == "netproof"
    answer = site.http.get("/", headers={"Accept": "text/html"})
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'; img-src 'self' data:")


def test_what_is_not_there_is_a_page_for_people_and_a_problem_for_programs(site):
    page = site.http.get("/nowhere", headers={"Accept": "text/html"})
    assert page.status_code == 404
    assert "<h1>Not Found</h1>" in page.text
    assert site.http.get("/nowhere").headers["Content-Type"] == "application/problem+json"


def test_from_nothing_to_a_verdict_with_the_examples(fresh, open_page, accessible):
    fresh.start_worker()
    page, _ = open_page(fresh)
    page.get_by_role("button", name="Load the examples").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("New query")
    page.get_by_role("button", name="Verify").click()
    expect(page.locator("main")).to_contain_text("No input of the region breaks the property", timeout=90_000)
    page.goto("/")
    expect(page.locator("#latest-jobs")).to_contain_text("robust")
    expect(page.locator("#queues")).to_contain_text("highs-high")
    accessible(page)


@pytest.mark.parametrize("scripts", [True, False])
def test_job_is_cancelled_from_the_list_after_asking_back(fresh, open_page, scripts):
    fresh.queued_job()
    page, _ = open_page(fresh, "/jobs", java_script_enabled=scripts)
    page.locator("summary", has_text="Cancel").click()
    page.get_by_role("button", name="Cancel the job").click()
    page.goto("/jobs?state=cancelled")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert page.locator("summary", has_text="Cancel").count() == 0


def test_open_question_survives_what_follows_by_itself(fresh, open_page):
    """A button that asks back stays open while the list around it is brought up to date."""
    fresh.queued_job()
    page, _ = open_page(fresh, "/jobs")
    page.locator("summary", has_text="Cancel").click()
    with page.expect_response(lambda answer: "/jobs" in answer.url and answer.request.headers.get("hx-request")):
        pass
    page.wait_for_timeout(100)
    expect(page.get_by_role("button", name="Cancel the job")).to_be_visible()
