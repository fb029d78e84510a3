"""A service that asks for keys: getting in, staying out, and seeing only what a key may do."""

from __future__ import annotations

import html

import pytest
from playwright.sync_api import expect

from service.access.principal import Scope
from tests.service.serving import NETWORK, Service, ball

HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    service = Service(tmp_path_factory.mktemp("locked"), access="on")
    yield service
    service.close()


def test_wrong_key_stays_out_and_right_key_leads_back(locked, open_page, accessible):
    key = locked.ledger.keys.create("ada", Scope.SUBMIT).text
    page, watch = open_page(locked, "/jobs?state=failed")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    accessible(page)
    page.get_by_label("API key").fill("np_nonsense")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    watch.expect("401")
    page.get_by_label("API key").fill(f" {key} ")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    assert page.url.endswith("/jobs?state=failed")
    expect(page.get_by_role("link", name="New query")).to_be_visible()
    page.get_by_role("link", name="ada").click()
    expect(page.get_by_role("main")).to_contain_text("look, ask questions, upload and cancel")
    accessible(page)
    page.get_by_role("button", name="Log out").click()
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def test_pages_offer_only_what_the_key_may_do(locked, open_page):
    key = locked.ledger.keys.create("bob", Scope.READ).text
    page, _ = open_page(locked, "/login")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Log in").click()
    for path in ("/", "/networks", "/datasets", "/jobs", "/batches"):
        page.goto(path)
        assert page.get_by_role("link", name="New query").count() == 0
        assert page.locator('main a[href^="/ask"], main a[href^="/audit"], main input[type=file]').count() == 0, path


def test_reading_key_is_refused_by_forms(locked):
    key = locked.ledger.keys.create("carol", Scope.READ).text
    headers = HTML | {"Authorization": f"Bearer {key}"}
    for path in ("/ask", "/audit", "/networks", "/datasets", "/samples"):
        answer = locked.http.post(path, headers=headers, files={"epsilon": (None, "1")})
        assert answer.status_code == 403, path
        assert "scope" in answer.text


def test_nothing_is_shown_without_a_key(locked):
    for path in ("/", "/networks", "/datasets", "/jobs", "/batches", "/ask", "/audit", "/networks/" + "0" * 64):
        answer = locked.http.get(path, headers=HTML)
        assert answer.status_code == 303, path
        assert answer.headers["Location"].startswith("/login?back="), path
    assert locked.http.get(f"/datasets/{'0' * 64}/0.png").status_code == 401
    live = locked.http.get("/?live=true", headers=HTML | {"HX-Request": "true"})
    assert live.status_code == 401


def test_commands_say_where_the_key_goes(locked):
    key = locked.ledger.keys.create("eve", Scope.SUBMIT).text
    headers = {"Authorization": f"Bearer {key}"}
    about = locked.http.post("/v1/networks", content=NETWORK, headers=headers).json()["sha256"]
    asked = {"network": about, "query": ball(epsilon=0.002)}
    job = locked.http.post("/v1/verify", json=asked, headers=headers).json()["id"]
    locked.http.post(f"/v1/jobs/{job}/cancel", headers=headers)
    page = html.unescape(locked.http.get(f"/jobs/{job}", headers=HTML | headers).text)
    assert page.count('curl -s -H "Authorization: Bearer $NETPROOF_API_KEY"') == 3
    fields = {"network": about, "source": "numbers", "numbers": "0 0 0", "epsilon": "1", "action": "command"}
    files = {name: (None, value) for name, value in fields.items()}
    page = html.unescape(locked.http.post("/ask", headers=HTML | headers, files=files).text)
    assert 'curl -H "Authorization: Bearer $NETPROOF_API_KEY" --json \'{' in page


def test_login_does_not_lead_elsewhere(locked):
    key = locked.ledger.keys.create("dan", Scope.READ).text
    answer = locked.http.post("/login", data={"key": key, "back": "//example.org"}, headers=HTML)
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/"
    cookie = answer.headers["Set-Cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
