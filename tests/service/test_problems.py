"""Every error has a kind, and what is not foreseen says nothing."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import httpx
import pytest

import networks.errors
import service.errors
import service.problems
import solver.errors
from networks.errors import NetproofError, RegionError, SoundnessError, UnsupportedOperatorError
from service.app import create_app
from service.closing import Failure
from service.problems import (
    INTERNAL,
    INVALID_REQUEST,
    KINDS,
    Fault,
    ProblemError,
    faults,
    kind_of,
    problem_document,
)
from service.settings import Settings
from tests.service.serving import problem

ERRORS = [
    getattr(module, name) for module in (networks.errors, solver.errors, service.errors) for name in module.__all__
]


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_has_a_kind(error: type[NetproofError]) -> None:
    kind = kind_of(error)
    assert 400 <= kind.status < 600
    assert kind.slug == kind.slug.lower()
    if issubclass(error, networks.errors.InputError):
        assert kind.status == 422


def test_kinds_are_told_apart_by_their_slugs() -> None:
    slugs = [kind.slug for kind in KINDS.values()]
    assert len(slugs) == len(set(slugs))


def test_every_kind_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "service.md").read_text()
    others = [kind for kind in vars(service.problems).values() if isinstance(kind, service.problems.Kind)]
    failures = [failure.replace("_", "-") for failure in Failure]
    for slug in [kind.slug for kind in (*KINDS.values(), *others)] + failures:
        assert f"`{slug}`" in text, slug


def test_an_unforeseen_error_is_internal() -> None:
    assert kind_of(KeyError("x")) is INTERNAL


def test_an_operator_error_names_its_place() -> None:
    error = UnsupportedOperatorError("no Tan", node="t", op="Tan", opset=17, shape=(1, 3))
    document = problem_document(error)
    assert document["type"] == "urn:netproof:problem:unsupported-operator"
    assert {"node": "t", "op": "Tan", "opset": 17, "shape": [1, 3]}.items() <= document.items()


def test_faults_and_extensions_are_members() -> None:
    error = ProblemError(INVALID_REQUEST, "no", errors=[Fault("/a", "b")], extensions={"limit": 3})
    assert problem_document(error) == {
        "type": "urn:netproof:problem:invalid-request",
        "title": "The request is invalid",
        "status": 422,
        "detail": "no",
        "errors": [{"pointer": "/a", "detail": "b"}],
        "limit": 3,
    }


def test_pointers_are_escaped_and_leave_out_union_members() -> None:
    error = {"type": "missing", "loc": ("query", "ball", "a/b~c", 0), "msg": "Field required", "input": {}}
    assert faults([error], tags=frozenset({"ball"})) == [Fault("/query/a~1b~0c/0", "is required; add it")]


def test_long_input_is_not_repeated() -> None:
    error = {"type": "int_type", "loc": ("seed",), "msg": "Input should be a valid integer", "input": "9" * 10_000}
    (fault,) = faults([error])
    assert fault.detail.startswith("must be a valid integer, got '999")
    assert len(fault.detail) < 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("the password is swordfish"), 500),
        (SoundnessError("swordfish"), 500),
        (RegionError("swordfish is what the user sent"), 422),
    ],
)
def test_only_errors_about_the_input_reach_the_user(
    error: Exception, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A route of the app itself fails; the log has what the answer withholds."""
    app = create_app(Settings())

    @app.get("/fail")
    async def fail() -> None:
        raise error

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/fail", headers={"X-Request-ID": "r-1"})

    with caplog.at_level(logging.ERROR, "service"):
        answer = asyncio.run(ask())
    document = problem(answer, status)
    assert ("swordfish" in answer.text) == (status == 422)
    assert document["instance"] == "urn:netproof:request:r-1"
    if status == 500:
        assert "r-1" in document["detail"]
        assert "swordfish" in caplog.text
