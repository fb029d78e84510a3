"""Buttons that delete, and what stays."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.examples import digits, network
from tests.service.serving import Service

HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A service that nobody works for."""
    service = Service(tmp_path_factory.mktemp("removal"))
    yield service
    service.close()


def delete(page: Page, what: str) -> None:
    page.locator("summary", has_text="Delete").click()
    page.get_by_role("button", name=f"Delete the {what}").click()


@pytest.mark.parametrize("scripts", [True, False])
def test_network_goes_after_the_job_about_it(fresh, open_page, accessible, scripts):
    job = fresh.queued_job()
    about = fresh.http.get(f"/v1/jobs/{job}").json()["network"]
    page, watch = open_page(fresh, f"/networks/{about}", java_script_enabled=scripts)
    delete(page, "network")
    expect(page.get_by_role("alert")).to_contain_text("jobs or batches are about network")
    watch.expect("409")
    page.goto(f"/jobs/{job}")
    expect(page.locator("summary", has_text="Delete")).to_have_count(0)
    page.get_by_role("button", name="Cancel").click()
    page.locator("summary", has_text="Delete").click()
    if scripts:
        accessible(page)
    page.get_by_role("button", name="Delete the job").click()
    expect(page.get_by_text("No job yet")).to_be_visible()
    page.goto(f"/networks/{about}")
    delete(page, "network")
    expect(page.get_by_text("No network yet")).to_be_visible()


def test_batch_goes_and_then_its_data_set(fresh, open_page):
    body = {"network": network(fresh, "digits_plain.onnx"), "dataset": digits(fresh), "query": {"epsilon": "0.01"}}
    batch = fresh.http.post("/v1/batches", json=body | {"selection": {"end": 2}}).json()
    page, _ = open_page(fresh, f"/batches/{batch['id']}")
    page.get_by_role("button", name="Cancel").click()
    delete(page, "batch")
    expect(page.get_by_text("No batch yet")).to_be_visible()
    page.goto(f"/datasets/{batch['dataset']}", wait_until="networkidle")  # pictures on their way would be missed
    delete(page, "data set")
    expect(page.get_by_text("No data set yet")).to_be_visible()


def test_nothing_else_is_deleted(fresh):
    for path in ("/keys/np_1/delete", "/jobs/..%2Fnetworks/delete", "/networks/%3Fx/delete"):
        assert fresh.http.post(path, headers=HTML).status_code in {404, 422}, path
