"""Paths without a version: the two that users were promised, the description, and a root that leads to them."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from service.access.dependencies import PUBLIC, READ, SUBMIT
from service.api.jobs import get_job
from service.api.verify import verify
from service.openapi import as_yaml

__all__ = ["router"]

router = APIRouter(include_in_schema=False)
router.add_api_route("/verify", verify, methods=["POST"], dependencies=[SUBMIT])
router.add_api_route("/jobs/{job_id}", get_job, methods=["GET"], dependencies=[READ])


@router.get("/", dependencies=[PUBLIC])
async def root() -> JSONResponse:
    """Say where to go."""
    links = {
        "verify": "/v1/verify",
        "networks": "/v1/networks",
        "jobs": "/v1/jobs",
        "solvers": "/v1/solvers",
        "ready": "/readyz",
        "openapi": "/openapi.yaml",
    }
    return JSONResponse({"name": "netproof", "links": links})


@router.get("/openapi.yaml", dependencies=[PUBLIC])
async def openapi_yaml(request: Request) -> Response:
    """The API's description."""
    return Response(as_yaml(request.app.openapi()), media_type="application/yaml")
