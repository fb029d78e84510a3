"""The API's description, ``openapi.yaml``.

``python -m service.openapi`` writes it to standard output; with ``--check FILE`` it says whether FILE is up to date.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.access.dependencies import scope_of
from service.access.gate import COOKIE
from service.access.schemas import KeyRequest, LoginRequest, RotationRequest
from service.batch_schemas import BatchRequest, ResumeRequest, RetryRequest
from service.problems import MEDIA_TYPE
from service.schemas import Problem, VerifyRequest

__all__ = ["as_yaml", "document", "main"]

_DESCRIPTION = """\
netproof answers one question and hands over the evidence: is there an input in this region on which the network
breaks this property?

Upload a network (`POST /v1/networks`), ask about it (`POST /v1/verify`), and follow the job
(`GET /v1/jobs/{job_id}`) until it has a verdict: `robust`, `counterexample` or `unknown`. Ask about many inputs of a
data set (`POST /v1/datasets`) at once with `POST /v1/batches`.
`POST /verify` and `GET /jobs/{job_id}` work without the version too.

Every error is a problem document (RFC 9457, `application/problem+json`). Its `type` is stable, its `detail` says
what came, what was expected and what to do, and `errors` points into the request by JSON pointer.
Every answer carries `X-Request-ID`, which names the request in the service's log; send your own to choose it.
"""

_TAGS = [
    {"name": "verification", "description": "Asking a question"},
    {"name": "jobs", "description": "How far a question is, and what was found"},
    {"name": "batches", "description": "One question about many inputs"},
    {"name": "networks", "description": "Networks, addressed by the SHA-256 of their content"},
    {"name": "datasets", "description": "Labelled inputs, addressed by the SHA-256 of their content"},
    {"name": "access", "description": "Who may ask: keys, sessions, the audit log"},
    {"name": "system", "description": "What is up and what runs here"},
]

#: What follows an answer: the member that names it there, the parameter that it goes to, and where.
_LINKS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "verify": ("id", "job_id", ("getJob", "cancelJob", "getCounterexample", "getCertificate", "getProduct")),
    "submitBatch": ("id", "batch_id", ("getBatch", "listItems", "cancelBatch", "resumeBatch", "retryBatch")),
    "uploadNetwork": ("sha256", "sha256", ("getNetwork",)),
    "uploadDataset": ("sha256", "sha256", ("getDataset",)),
}

#: Bodies that routes read themselves, and the form of every error.
_READ: tuple[type[BaseModel], ...] = (
    VerifyRequest,
    BatchRequest,
    ResumeRequest,
    RetryRequest,
    KeyRequest,
    RotationRequest,
    LoginRequest,
    Problem,
)
_REFERENCE = "#/components/schemas/{model}"


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of ``app``."""
    if app.openapi_schema is None:
        schema = _described(
            get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=_DESCRIPTION,
                routes=app.routes,
                tags=_TAGS,
                license_info={"name": "Apache 2.0", "identifier": "Apache-2.0"},
            )
        )
        app.openapi_schema = _secured(schema, app)
    return app.openapi_schema


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    """Add what FastAPI does not know: bodies that routes read themselves, and that every error is a problem."""
    models = schema["components"]["schemas"]
    _, written = models_json_schema([(model, "validation") for model in _READ], ref_template=_REFERENCE)
    models |= written["$defs"]
    for unused in ("HTTPValidationError", "ValidationError"):
        models.pop(unused, None)
    schema["components"]["schemas"] = dict(sorted(models.items()))
    problem = {
        "description": "A problem; `type` and `detail` say which",
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE.format(model="Problem")}}},
    }
    for path in schema["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = problem
            for parameter in operation.get("parameters", []):
                parameter["schema"].pop("description", None)  # the parameter has it
    # OpenAPI 3.1 cannot describe the items of a stream, which FastAPI does in the terms of 3.2
    for followed in ("/v1/jobs/{job_id}/events", "/v1/batches/{batch_id}/events"):
        stream = schema["paths"][followed]["get"]["responses"]["200"]["content"]["text/event-stream"]
        stream.clear()
        stream["schema"] = {"type": "string"}
    _link(schema["paths"])
    _drop_titles(schema["paths"])
    _drop_titles(schema["components"])
    return schema


def _link(paths: dict[str, Any]) -> None:
    """Say which operations go on with the identifier that an answer brings."""
    operations = {operation["operationId"]: operation for path in paths.values() for operation in path.values()}
    for source, (member, parameter, targets) in _LINKS.items():
        links = {
            target: {"operationId": target, "parameters": {parameter: f"$response.body#/{member}"}}
            for target in targets
        }
        for status, answer in operations[source]["responses"].items():
            if status.startswith("2"):
                answer["links"] = links


def _secured(schema: dict[str, Any], app: FastAPI) -> dict[str, Any]:
    """Say how callers show a key, and which scope an operation takes; where access is off, none is asked for."""
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "a key, `np_…`"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same"},
        "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "of a browser, see `login`"},
    }
    schema["components"]["securitySchemes"] = schemes
    for route in iter_route_contexts(app.routes):
        if isinstance(route.original_route, APIRoute) and route.include_in_schema:
            scope = scope_of(route)
            for method in route.methods or ():
                operation = schema["paths"][route.path][method.lower()]
                operation["security"] = [] if scope is None else [{name: [str(scope)]} for name in schemes]
    return schema


def _drop_titles(part: Any) -> None:
    """Remove the titles that pydantic derives from names: they say the names again."""
    if isinstance(part, dict):
        if isinstance(part.get("title"), str):
            del part["title"]
        for value in part.values():
            _drop_titles(value)
    elif isinstance(part, list):
        for value in part:
            _drop_titles(value)


def as_yaml(schema: dict[str, Any]) -> str:
    """``schema`` as YAML, stable from run to run."""
    return yaml.dump(schema, sort_keys=False, allow_unicode=True, width=120, Dumper=_Dumper)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are, and equal parts out: anchors hinder readers and some tools."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True

    def text(self, data: str) -> yaml.Node:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Dumper.add_representer(str, _Dumper.text)


def main(arguments: list[str] | None = None) -> int:
    """Write the description, or compare a file with it (status 1 if they differ)."""
    from service.app import create_app
    from service.settings import Settings

    parser = argparse.ArgumentParser(prog="python -m service.openapi", description=__doc__)
    parser.add_argument("--check", type=Path, metavar="FILE", help="compare with FILE instead of writing")
    options = parser.parse_args(arguments)
    text = as_yaml(document(create_app(Settings())))
    if options.check is None:
        sys.stdout.write(text)
        return 0
    if options.check.exists() and options.check.read_text() == text:
        return 0
    print(f"{options.check} differs from the app; write it anew with `make openapi`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
