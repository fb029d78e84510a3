"""The pages of a batch and of its items, in a browser."""

from __future__ import annotations

import csv

import pytest
from playwright.sync_api import expect

from service.dashboard.wording import number
from tests.dashboard.examples import digits, network
from tests.service.serving import Service

HTML = {"Accept": "text/html"}


def submit(site, *, name="", epsilon=("0.02", "0.1"), end=8, **members):
    body = {"network": network(site, "digits_plain.onnx"), "dataset": digits(site), "name": name, "time_limit": 5}
    body |= {"query": {"epsilon": list(epsilon), "domain": [0, 1]}, "selection": {"end": end}, **members}
    answer = site.http.post("/v1/batches", json=body)
    assert answer.is_success, answer.text
    return answer.json()["id"]


@pytest.fixture(scope="module")
def finished(site):
    batch = submit(site, name="eight digits", priority="high", certificate=True)
    for _ in range(10):
        if site.http.get(f"/v1/batches/{batch}?wait=20").json()["state"] == "finished":
            return batch
    pytest.fail("the batch did not finish")


@pytest.fixture(scope="module")
def idle(tmp_path_factory):
    """A service that nobody works for, with a batch of 250 items that nobody has looked at."""
    service = Service(tmp_path_factory.mktemp("idle"))
    yield service, submit(service, name="<b>waiting</b>", epsilon=["0.02"], end=250)
    service.close()


def test_a_batch_is_followed_until_it_has_finished(site, open_page):
    batch = submit(site, end=3, epsilon=["0.03"], priority="high", reuse=False)
    page, watch = open_page(site, f"/batches/{batch}")
    expect(page.locator("#figures .badge")).to_have_text("finished", timeout=120_000)
    expect(page.locator("#figures")).to_contain_text("3 of 3")
    expect(page.locator("#rows .badge", has_text="ing")).to_have_count(0)  # sweeping, pending, searching
    expect(page.locator("#charts-again")).to_have_count(0)
    expect(page.locator("#rows-again")).to_have_count(0)
    asked = len(watch.requests)
    page.wait_for_timeout(6000)
    assert [url for url in watch.requests[asked:] if "/batches/" in url] == []
    assert [url for url in watch.requests if url.endswith(batch)] == [f"{site.url}/batches/{batch}"]  # loaded once
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden()


def test_a_finished_batch_shows_its_results(finished, visit, accessible):
    page = visit(f"/batches/{finished}")
    for title in ("Verdicts", "Robust accuracy over time", "Robust accuracy over ε", "Margins", "Solved within"):
        figure = page.locator("figure", has=page.locator("figcaption", has_text=title))
        expect(figure.locator("svg").first).to_be_visible()
    thumbnail = page.get_by_role("link", name="breaks at").first
    assert thumbnail.locator("img").evaluate("image => image.naturalWidth") == 8
    accessible(page)
    thumbnail.click()
    expect(page.locator(".verdict .badge")).to_have_text("counterexample")
    expect(page.locator(".picture > img")).to_have_count(3)
    expect(page.get_by_role("heading", name="At every ε")).to_be_visible()
    accessible(page)


def test_items_are_filtered_and_exported(site, finished, visit):
    found = site.http.get(f"/v1/batches/{finished}/items?verdict=robust").json()["items"]
    page = visit(f"/batches/{finished}")
    rows = page.locator("#rows tr")
    expect(rows).to_have_count(16)
    page.get_by_label("Status", exact=True).select_option("robust")
    expect(rows).to_have_count(len(found))
    page.get_by_label("ε", exact=True).select_option("0.1")
    expect(rows).to_have_count(sum(item["epsilon"] == "0.1" for item in found))
    page.get_by_label("Status", exact=True).select_option("")
    page.get_by_label("Input", exact=True).fill("3")
    expect(rows).to_have_count(1)
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    with download.value.path().open() as file:
        assert len(list(csv.DictReader(file))) == 16


def test_jobs_of_a_batch_say_what_they_are_for(site, finished):
    jobs = site.http.get(f"/v1/jobs?batch={finished}").json()["jobs"]
    swept = [job for job in jobs if "sweep" in job["request"]]
    assert swept
    for job in jobs:
        page = site.http.get(f"/jobs/{job['id']}", headers=HTML)
        assert page.status_code == 200
        assert f'href="/batches/{finished}"' in page.text
        assert ("A sweep of" in page.text) is (job in swept)
        assert ("<dt>Region</dt>" in page.text) is (job not in swept)


def test_an_item_is_asked_about_again_as_it_was(site, finished, visit):
    page = visit(f"/batches/{finished}/items/3")
    item = site.http.get(f"/v1/batches/{finished}/items/3").json()
    page.get_by_role("link", name="Ask about it with").click()
    expect(page.get_by_label("Input number")).to_have_value(str(item["index"]))
    expect(page.get_by_label("Radius ε")).to_have_value(item["epsilon"])
    expect(page.locator("#network")).to_have_value(network(site, "digits_plain.onnx"))
    expect(page.locator("#dataset")).to_have_value(digits(site))


def test_the_course_is_that_of_the_chosen_radius(finished, visit):
    page = visit(f"/batches/{finished}")
    course = page.locator("figcaption", has_text="Robust accuracy over time")
    for epsilon in ("0.02", "0.1"):
        page.get_by_label("ε", exact=True).select_option(epsilon)
        expect(course).to_have_text(f"Robust accuracy over time, at ε {epsilon}")


def test_opened_numbers_stay_open_while_the_drawings_follow(idle, open_page):
    site, batch = idle
    page, _ = open_page(site, f"/batches/{batch}")
    numbers = page.locator("figure", has_text="Verdicts").locator("details")
    numbers.locator("summary").click()
    with page.expect_response("**/charts*"):
        pass
    page.wait_for_timeout(100)
    expect(numbers).to_have_attribute("open", "")


def test_the_table_is_read_on_without_scripts_too(idle, open_page):
    site, batch = idle
    page, _ = open_page(site, f"/batches/{batch}?sort=margin&label=3", java_script_enabled=False)
    labels = page.locator("#rows td.spare:nth-child(4)").all_inner_texts()
    assert set(labels) == {"3"}
    page.goto(f"/batches/{batch}")
    page.get_by_role("link", name="More").click()
    expect(page.locator("#rows th a").first).to_have_text("100")


def test_a_batch_that_nobody_works_on(idle, open_page, accessible):
    site, batch = idle
    page, _ = open_page(site, f"/batches/{batch}")
    expect(page.get_by_role("heading", level=1)).to_have_text("<b>waiting</b>")
    expect(page.get_by_text("Nothing is solved yet.")).to_be_visible()
    accessible(page)
    rows = page.locator("#rows tr:not(.more)")
    expect(rows).to_have_count(100)
    page.get_by_label("Status", exact=True).select_option("failed")
    expect(page.get_by_text("No item is like that.")).to_be_visible()
    page.get_by_label("Status", exact=True).select_option("")
    for count in (100, 200, 250):
        expect(rows).to_have_count(count)
        page.locator(".items").evaluate("table => table.scrollTo(0, table.scrollHeight)")
    expect(page.locator("#rows-again")).to_have_count(0)  # or it would take what was read on away
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#figures .badge")).to_have_text("cancelled")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#figures .badge")).to_have_text("running")


def test_an_items_certificate_is_checked(site, finished, visit):
    (item, *_) = site.http.get(f"/v1/batches/{finished}/items?verdict=robust").json()["items"]
    assert item["trust"] == "certified"
    page = visit(f"/batches/{finished}/items/{item['number']}")
    page.get_by_role("button", name="Check it now").click()
    expect(page.get_by_role("heading", name="Accepted")).to_be_visible()


def test_on_a_phone_nothing_is_cut_off(finished, visit):
    page = visit(f"/batches/{finished}", viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_a_choice_that_cannot_be_is_explained(site, finished):
    answer = site.http.get(f"/batches/{finished}?index=x", headers=HTML)
    assert answer.status_code == 422
    assert "index" in answer.text


def test_minimum_distortions_are_drawn(site):
    body = {"network": network(site, "digits_plain.onnx"), "dataset": digits(site), "time_limit": 10}
    body |= {"query": {"epsilon": "0.3", "domain": [0, 1], "kind": "distance"}, "selection": {"end": 2}}
    batch = site.http.post("/v1/batches", json=body | {"priority": "high"}).json()["id"]
    for _ in range(10):
        if site.http.get(f"/v1/batches/{batch}?wait=20").json()["state"] == "finished":
            break
    page = site.http.get(f"/batches/{batch}", headers=HTML).text
    assert "Minimum distortion" in page
    assert "2 values from" in page
    item = site.http.get(f"/v1/batches/{batch}/items/1").json()
    assert number(item["result"]["distance"][1]) in page.partition('id="rows"')[2]
