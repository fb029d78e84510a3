"""Browsers' sessions, over HTTP: how they begin and end, and what else a cookie cannot do."""

from __future__ import annotations

import httpx
import pytest

from service.access import Scope
from service.guard import SESSION_COOKIE
from tests.service.access.world import World
from tests.service.serving import Service, problem

SAME = {"Sec-Fetch-Site": "same-origin"}


def _login(world: World, key: str) -> httpx.Response:
    return world.ask("POST", "/v1/session", json={"key": key}, headers=SAME)


def _cookie(answer: httpx.Response) -> dict[str, str]:
    return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


def test_a_session_is_a_cookie_that_stands_for_the_key(world: World) -> None:
    answer = _login(world, world.key("ann", "read"))
    assert answer.status_code == 200
    found = answer.json()
    assert (found["access"], found["owner"], found["scope"], found["session"]) == (True, "ann", "read", True)
    assert found["key"] == world.keys["ann", "read"].record.id
    attributes = {part.strip().lower() for part in answer.headers["Set-Cookie"].split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/", "max-age=43200"} <= attributes
    assert "secure" not in attributes, "over plain HTTP no browser would send it back"
    assert world.key("ann", "read") not in answer.headers["Set-Cookie"]
    cookie = _cookie(answer)
    assert world.ask("GET", f"/v1/jobs/{world.things['ann'].job}", headers=cookie).status_code == 200
    assert world.ask("GET", f"/v1/jobs/{world.things['bob'].job}", headers=cookie).status_code == 404
    refused = world.ask("POST", f"/v1/jobs/{world.things['ann'].job}/cancel", headers=cookie | SAME)
    assert problem(refused, 403)["type"].endswith(":forbidden")


def test_over_tls_the_cookie_goes_over_tls_alone(world: World) -> None:
    headers = SAME | {"X-Forwarded-Proto": "https"}  # of a proxy on this machine
    answer = world.ask("POST", "/v1/session", json={"key": world.key("ann", "read")}, headers=headers)
    assert "; Secure" in answer.headers["Set-Cookie"]


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_cookie_changes_nothing_for_other_sites(world: World, headers: dict[str, str]) -> None:
    cookie = _cookie(_login(world, world.key("ann", "submit")))
    path = f"/v1/jobs/{world.things['ann'].job}/cancel"
    assert problem(world.ask("POST", path, headers=cookie | headers), 403)["type"].endswith(":foreign-origin")
    assert world.ask("POST", path, headers=cookie | SAME).status_code == 409


def test_a_session_ends_with_logging_out(world: World) -> None:
    cookie = _cookie(_login(world, world.key("ann", "read")))
    assert world.ask("GET", "/v1/session", headers=cookie).status_code == 200
    ended = world.ask("DELETE", "/v1/session", headers=cookie | SAME)
    assert ended.status_code == 204
    assert f'{SESSION_COOKIE}=""' in ended.headers["Set-Cookie"]
    assert world.ask("GET", "/v1/session", headers=cookie).status_code == 401
    assert world.ask("DELETE", "/v1/session", headers=cookie | SAME).status_code == 204, "again, it changes nothing"


def test_a_session_ends_with_its_key(world: World) -> None:
    made = world.service.ledger.keys.create("ann", Scope.READ)
    cookie = _cookie(_login(world, made.text))
    world.service.ledger.keys.revoke(made.record.id)
    assert "revoked" in problem(world.ask("GET", "/v1/session", headers=cookie), 401)["detail"]


def test_a_wrong_key_opens_no_session(world: World) -> None:
    refused = _login(world, "np_000000000000_" + "A" * 43)
    assert problem(refused, 401)["type"].endswith(":unauthenticated")
    assert "Set-Cookie" not in refused.headers
    assert problem(world.ask("POST", "/v1/session", content=b"{", headers=SAME), 400)
    assert problem(world.ask("POST", "/v1/session", json={"key": "a", "x": 1}, headers=SAME), 422)["errors"]
    long = world.ask("POST", "/v1/session", content=b'{"key": "' + b"a" * 2**17 + b'"}', headers=SAME)
    assert problem(long, 413)
    world.forgive()


def test_without_access_control_everybody_is_local(web: Service) -> None:
    found = web.http.get("/v1/session").json()
    assert (found["access"], found["owner"], found["scope"], found["key"]) == (False, "local", "admin", None)
    answer = web.http.post("/v1/session", json={"key": "anything"})
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
