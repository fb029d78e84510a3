"""The audit log: what leaves a line, what the line says, and who reads it."""

from __future__ import annotations

import time
from typing import Any

from service.access import Scope
from tests.service.access.world import World
from tests.service.serving import ball, problem


def _lines(world: World, expected: int, **chosen: str) -> list[dict[str, Any]]:
    """The newest lines; one is written just after its request was answered."""
    found: list[dict[str, Any]] = []
    for _ in range(200):
        answer = world.ask("GET", "/v1/audit", key=world.key("root", "admin"), params=chosen)
        found = answer.json()["lines"]
        if len(found) >= expected:
            break
        time.sleep(0.01)
    assert len(found) == expected
    return found


def test_what_changes_something_leaves_a_line(world: World) -> None:
    made = world.service.ledger.keys.create("cat", Scope.SUBMIT)
    name = made.record.id
    asked = {"content": b"no network", "headers": {"X-Request-ID": "mine"}}
    assert world.ask("POST", "/v1/networks", key=made.text, **asked).status_code == 422
    (line,) = _lines(world, 1, key=name)
    assert {part: value for part, value in line.items() if part not in {"id", "at"}} == {
        "key": name,
        "owner": "cat",
        "action": "uploadNetwork",
        "object": "/v1/networks",
        "outcome": 422,
        "request": "mine",
        "address": "127.0.0.1",
    }


def test_what_is_made_is_named(world: World) -> None:
    made = world.service.ledger.keys.create("ann", Scope.SUBMIT)
    body = {"network": world.things["ann"].network, "query": ball(epsilon=0.75)}
    asked = world.ask("POST", "/v1/verify", key=made.text, json=body)
    (line,) = _lines(world, 1, key=made.record.id)
    assert (line["action"], line["object"], line["outcome"]) == ("verify", asked.headers["Location"], 202)


def test_evidence_that_is_taken_away_leaves_a_line_and_a_look_does_not(world: World) -> None:
    made = world.service.ledger.keys.create("ann", Scope.READ)
    things = world.things["ann"]
    for path in (
        f"/v1/jobs/{things.job}",
        "/v1/jobs",
        f"/v1/jobs/{things.job}/certificate",
        f"/v1/batches/{things.batch}/export.csv",
    ):
        assert world.ask("GET", path, key=made.text).status_code == 200
    lines = _lines(world, 2, key=made.record.id)
    assert {line["action"] for line in lines} == {"exportBatch", "getCertificate"}


def test_refusals_leave_a_line_and_what_nobody_signed_leaves_none(world: World) -> None:
    made = world.service.ledger.keys.create("dan", Scope.READ)
    assert world.ask("GET", "/v1/keys", key=made.text).status_code == 403
    world.service.ledger.keys.revoke(made.record.id)
    time.sleep(2.1)  # a web process remembers a key for so long
    assert world.ask("GET", "/v1/version", key=made.text).status_code == 401
    lines = _lines(world, 2, key=made.record.id)
    assert [(line["action"], line["outcome"], line["owner"]) for line in lines] == [
        ("version", 401, "dan"),
        ("listKeys", 403, "dan"),
    ]
    before = len(world.service.ledger.audit.lines(limit=10_000))
    assert world.ask("GET", "/v1/version").status_code == 401
    assert world.ask("GET", "/healthz").status_code == 200
    time.sleep(0.05)
    assert len(world.service.ledger.audit.lines(limit=10_000)) == before
    world.forgive()


def test_pages_of_the_log_follow_each_other(world: World) -> None:
    made = world.service.ledger.keys.create("eve", Scope.SUBMIT)
    for _ in range(5):
        world.ask("POST", "/v1/networks", key=made.text, content=b"none")
    whole = [line["id"] for line in _lines(world, 5, owner="eve")]
    admin = world.key("root", "admin")
    first = world.ask("GET", "/v1/audit", key=admin, params={"owner": "eve", "limit": 3}).json()
    rest = world.ask("GET", "/v1/audit", key=admin, params={"owner": "eve", "cursor": first["next_cursor"]}).json()
    assert [line["id"] for line in first["lines"] + rest["lines"]] == whole == sorted(whole, reverse=True)
    assert rest["next_cursor"] is None


def test_keys_over_http_are_made_rotated_and_revoked(world: World) -> None:
    admin = world.key("root", "admin")
    body = {"owner": "fay", "scope": "submit", "expires_days": 30, "quota": {"running": 2, "rate": 5}}
    made = world.ask("POST", "/v1/keys", key=admin, json=body)
    assert made.status_code == 201
    assert made.headers["Cache-Control"] == "no-store"
    key, record = made.json()["key"], made.json()["record"]
    assert made.headers["Location"] == f"/v1/keys/{record['id']}"
    me = world.ask("GET", "/v1/session", key=key).json()
    assert (me["owner"], me["scope"], me["quota"]["running"], me["quota"]["rate"]) == ("fay", "submit", 2, 5)
    rotated = world.ask("POST", f"/v1/keys/{record['id']}/rotate", key=admin, json={"overlap_hours": 1}).json()
    for each in (key, rotated["key"]):
        assert world.ask("GET", "/v1/session", key=each).json()["owner"] == "fay"
    assert problem(world.ask("POST", f"/v1/keys/{record['id']}/rotate", key=admin), 409)
    revoked = world.ask("POST", f"/v1/keys/{rotated['record']['id']}/revoke", key=admin).json()
    assert revoked["revoked_at"]
    listed = world.ask("GET", "/v1/keys", key=admin, params={"owner": "fay"})
    assert [each["id"] for each in listed.json()["keys"]] == [rotated["record"]["id"], record["id"]]
    assert key.split("_", 2)[2] not in listed.text
    assert "digest" not in listed.text
    for wrong, at in (({"owner": "a b"}, "/owner"), ({"scope": "all"}, "/scope"), ({"quota": {"x": 1}}, "/quota/x")):
        refused = world.ask("POST", "/v1/keys", key=admin, json={"owner": "a", "scope": "read"} | wrong)
        assert problem(refused, 422)["errors"][0]["pointer"] == at
