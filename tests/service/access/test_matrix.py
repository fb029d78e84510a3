"""Scope by route by whose object: made from the app's routes, so that a route that nobody thought of fails here.

Every route is asked without a key, with keys that are none, with keys of too little scope, and about an object that is
the caller's own, somebody else's, or nobody's. The last two must be answered alike, to the letter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts

from service.access import Scope
from service.access.dependencies import scope_of
from service.app import create_app
from service.dashboard.pages import PageRoute
from service.settings import Settings
from tests.service.access.world import MISSING, Things, World
from tests.service.serving import ball

#: Headers that differ from answer to answer, whatever it is about.
_OWN = {"date", "x-request-id"}
#: Parameters of paths that name something which belongs to somebody, by the part of `Things` that they stand for.
_OBJECTS = {"job_id": "job", "batch_id": "batch"}
#: Other parameters of paths, with a value that fits.
_OTHERS = {"number": "0", "form": "jsonl", "index": "0", "name": "app.css", "action": "cancel"}

Body = Callable[[Things], dict[str, Any]]


def _verify(things: Things) -> dict[str, Any]:
    return {"json": {"network": things.network, "query": ball()}}


def _batch(things: Things) -> dict[str, Any]:
    query = {"epsilon": 0.001, "domain": [0, 1]}
    return {"json": {"network": things.network, "dataset": things.dataset, "query": query}}


def _nothing(_: Things) -> dict[str, Any]:
    return {}


#: What requests that change something send, or how they name what they are about; every such route has an entry.
BODIES: dict[tuple[str, str], Body] = {
    ("POST", "/v1/verify"): _verify,
    ("POST", "/verify"): _verify,
    ("POST", "/v1/check"): lambda things: {"params": {"network": things.network}, "content": b"no certificate"},
    ("POST", "/v1/batches"): _batch,
    ("POST", "/v1/batches/{batch_id}/cancel"): _nothing,
    ("POST", "/v1/batches/{batch_id}/resume"): _nothing,
    ("POST", "/v1/batches/{batch_id}/retry"): _nothing,
    ("POST", "/v1/jobs/{job_id}/cancel"): _nothing,
    ("POST", "/v1/networks"): lambda _: {"content": b"no network"},
    ("POST", "/v1/datasets"): lambda _: {"content": b"no data set"},
    ("POST", "/v1/keys"): lambda _: {"json": {"owner": "cat", "scope": "read"}},
    ("POST", "/v1/keys/{key_id}/rotate"): _nothing,
    ("POST", "/v1/keys/{key_id}/revoke"): _nothing,
    ("POST", "/v1/session"): lambda _: {"json": {"key": "np_"}},
    ("DELETE", "/v1/session"): _nothing,
    ("DELETE", "/v1/jobs/{job_id}"): _nothing,
    ("DELETE", "/v1/batches/{batch_id}"): _nothing,
    ("DELETE", "/v1/networks/{sha256}"): _nothing,
    ("DELETE", "/v1/datasets/{sha256}"): _nothing,
}

#: Further places in which a request names something, beside the path and the entries of `BODIES`.
REFERENCES: dict[str, tuple[str, str, Body]] = {
    "equivalent_to": (
        "POST",
        "/v1/verify",
        lambda things: {
            "json": {"network": "own", "query": ball(equivalent_to={"network": things.network, "tolerance": 1})}
        },
    ),
    "network in a form": (
        "POST",
        "/v1/check",
        lambda things: {"files": {"certificate": ("proof.zip", b"none"), "network": (None, things.network)}},
    ),
    "data set alone": (
        "POST",
        "/v1/batches",
        lambda things: {"json": {"network": "own", "dataset": things.dataset, "query": {"epsilon": 0.1}}},
    ),
    "jobs of a batch": ("GET", "/v1/jobs", lambda things: {"params": {"batch": things.batch}}),
    "jobs about a network": ("GET", "/v1/jobs", lambda things: {"params": {"network": things.network}}),
    "batches about a network": ("GET", "/v1/batches", lambda things: {"params": {"network": things.network}}),
    "jobs after a job": ("GET", "/v1/jobs", lambda things: {"params": {"cursor": "0" * 26, "network": things.network}}),
    "anything but what is known": (
        "GET",
        "/v1/jobs/{job_id}",
        lambda _: {"headers": {"If-None-Match": "*"}},
    ),
    "a batch but what is known": (
        "GET",
        "/v1/batches/{batch_id}",
        lambda _: {"headers": {"If-None-Match": "*"}},
    ),
    "a job without its version": ("GET", "/jobs/{job_id}", _nothing),
    "events after an event": ("GET", "/v1/jobs/{job_id}/events", lambda _: {"headers": {"Last-Event-ID": "0-0"}}),
}


def _routes() -> Iterator[RouteContext]:
    """Every route of the app; those that are no more than a shorter way to another come with the requests."""
    for route in iter_route_contexts(create_app(Settings()).routes):
        if isinstance(route.original_route, APIRoute):
            yield route
        else:
            assert route.path in {"/openapi.json", "/v1/jobs/{job_id}", "/v1/verify"}, f"what is {route.path}?"


ROUTES = [(method, route) for route in _routes() for method in sorted((route.methods or set()) - {"HEAD"})]
PAGES = [(method, route) for method, route in ROUTES if isinstance(route.original_route, PageRoute)]
API = [(method, route) for method, route in ROUTES if not isinstance(route.original_route, PageRoute)]


def _named(pairs: list[tuple[str, RouteContext]]) -> Any:
    return pytest.mark.parametrize(
        ("method", "route"), pairs, ids=[f"{method} {route.path}" for method, route in pairs]
    )


def _path(route: RouteContext, things: Things) -> str:
    """The route's path about what belongs to somebody."""
    path = str(route.path).replace(":path}", "}")
    names = re.findall(r"{(\w+)}", path)
    kind = things.dataset if "dataset" in path else things.network
    values = _OTHERS | {name: getattr(things, part) for name, part in _OBJECTS.items()} | {"sha256": kind}
    values["key_id"] = MISSING["key_id"]
    unknown = set(names) - values.keys()
    assert not unknown, f"{path}: say in this test what {unknown} stands for, and whose it is"
    return path.format(**values)


def _sent(method: str, route: RouteContext, things: Things) -> dict[str, Any]:
    if method == "GET":
        return {}
    assert (method, route.path) in BODIES, f"{method} {route.path} changes something: say in BODIES what it is sent"
    return BODIES[method, str(route.path)](things)


def _nobodys() -> Things:
    return Things(MISSING["sha256"], MISSING["sha256"], MISSING["job_id"], MISSING["batch_id"])


def _bare(answer: httpx.Response, *things: Things) -> tuple[int, dict[str, str], str]:
    """An answer without what names the request and the object."""
    text = answer.text.replace(answer.headers["X-Request-ID"], "")
    headers = {name: value for name, value in answer.headers.items() if name not in _OWN}
    for each in things:
        for name in (each.network, each.dataset, each.job, each.batch):
            text = text.replace(name, "#")
            headers = {key: value.replace(name, "#") for key, value in headers.items()}
    return answer.status_code, headers, text


def _problem(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).rpartition(":")[2]


@_named(ROUTES)
def test_every_route_says_who_may_ask(method: str, route: RouteContext) -> None:
    scope_of(route)


@_named(API)
def test_whoever_shows_no_valid_key_learns_nothing(world: World, method: str, route: RouteContext) -> None:
    if scope_of(route) is None:
        assert (
            world.ask(method, _path(route, world.things["bob"]), **_sent(method, route, _nobodys())).status_code != 403
        )
        return
    expired = world.service.ledger.keys.create("ann", Scope.ADMIN, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    revoked = world.service.ledger.keys.create("ann", Scope.ADMIN)
    world.service.ledger.keys.revoke(revoked.record.id)
    answers = []
    for things in (world.things["bob"], _nobodys()):
        answer = world.ask(method, _path(route, things), **_sent(method, route, things))
        assert (answer.status_code, _problem(answer)) == (401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        answers.append(_bare(answer, things))
    assert answers[0] == answers[1]
    world.forgive()
    for key in (expired.text, revoked.text):
        things = world.things["ann"]
        answer = world.ask(method, _path(route, things), key=key, **_sent(method, route, things))
        assert (answer.status_code, _problem(answer)) == (401, "unauthenticated")


@_named(API)
def test_a_key_of_too_little_scope_is_refused_alike_for_every_object(
    world: World, method: str, route: RouteContext
) -> None:
    needed = scope_of(route)
    weaker = [scope for scope in (Scope.READ, Scope.SUBMIT) if needed is not None and not scope.includes(needed)]
    for scope in weaker:
        answers = []
        for things in (world.things["ann"], world.things["bob"], _nobodys()):
            sent = _sent(method, route, things)
            answer = world.ask(method, _path(route, things), key=world.key("ann", scope), **sent)
            assert (answer.status_code, _problem(answer)) == (403, "forbidden")
            answers.append(_bare(answer, things))
        assert answers[0] == answers[1] == answers[2]


@_named(API)
def test_what_is_somebody_elses_is_answered_like_what_is_not_there(
    world: World, method: str, route: RouteContext
) -> None:
    needed = scope_of(route)
    if needed in {None, Scope.ADMIN}:
        return
    key = world.key("ann", str(needed))
    bobs, nobodys = world.things["bob"], _nobodys()
    asked = [(_path(route, things), _sent(method, route, things)) for things in (bobs, nobodys)]
    if asked[0] == asked[1]:
        return  # it names nothing that could be somebody's
    found, missing = (world.ask(method, path, key=key, **dict(sent)) for path, sent in asked)
    assert _bare(found, bobs) == _bare(missing, nobodys)
    assert (missing.status_code, _problem(missing)) == (404, "not-found")
    anns = world.things["ann"]
    own = world.ask(method, _path(route, anns), key=key, **_sent(method, route, anns))
    path, sent = asked[0]
    admins = world.ask(method, path, key=world.key("root", "admin"), **dict(sent))
    for answer, things in ((own, anns), (admins, bobs)):
        assert answer.status_code not in {401, 403}
        assert _bare(answer, things) != _bare(missing, nobodys)


@pytest.mark.parametrize("name", REFERENCES)
def test_no_reference_tells_what_somebody_else_has(world: World, name: str) -> None:
    method, pattern, body = REFERENCES[name]
    answers = []
    for things in (world.things["bob"], _nobodys()):
        sent = body(things)
        if "json" in sent and sent["json"]["network"] == "own":
            sent["json"]["network"] = world.things["ann"].network
        path = pattern.format(job_id=things.job, batch_id=things.batch)
        answers.append(_bare(world.ask(method, path, key=world.key("ann", "submit"), **sent), things))
    assert answers[0] == answers[1]
    assert answers[0][0] in {200, 404, 422}


@_named(PAGES)
def test_a_page_shows_nobody_what_is_somebody_elses(world: World, method: str, route: RouteContext) -> None:
    needed = scope_of(route)
    html = {"Accept": "text/html"}
    if needed is None or method != "GET":
        return
    anonymous = world.ask(method, _path(route, world.things["bob"]), headers=html)
    assert anonymous.status_code in {302, 303, 307, 401}
    html["Cookie"] = world.cookie
    if needed is Scope.ADMIN:
        assert world.ask(method, _path(route, world.things["bob"]), headers=html).status_code == 403
        return
    found, missing = (
        _bare(world.ask(method, _path(route, things), headers=html), things)
        for things in (world.things["bob"], _nobodys())
    )
    if found[0] != 200:
        assert found == missing
    for secret in (world.things["bob"].job, world.things["bob"].batch, world.things["bob"].network):
        own = world.ask(method, _path(route, world.things["ann"]), headers=html)
        assert own.status_code == 200
        assert secret not in own.text
