"""The web application: ``create_app(settings)``.

It keeps requests and answers in the ledger and hands jobs to the queue; it imports no solver, no torch and no ONNX, and
whatever is slow or risky happens in other processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib import metadata

from fastapi import Depends, FastAPI

from service import api
from service.access.trail import Trail
from service.api.dependencies import given_once
from service.api.shortcuts import JobShortcut, QuestionShortcut
from service.dashboard import add_dashboard
from service.guard import Guard, allowed_hosts
from service.middleware import Envelope
from service.openapi import document
from service.parts import open_parts
from service.problems import handle_problems
from service.settings import Settings

__all__ = ["create_app"]

#: A request carries a network or a data set at most, and around it a form and a query.
_BODY_MARGIN_BYTES = 64 * 2**20


def create_app(settings: Settings | None = None) -> FastAPI:
    """The ASGI app of one deployment.

    Args:
        settings: of the deployment; by default from the environment.
    """
    settings = settings or Settings()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_parts(settings) as parts:
            app.state.parts = parts
            yield

    app = FastAPI(
        title="netproof",
        version=metadata.version("netproof"),
        summary="Exact verification of trained neural networks",
        # FastAPI's own pages load scripts from elsewhere; the API is documented without internet, by its description
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    for router in (
        api.verify,
        api.check,
        api.batches,
        api.batch_items,
        api.batch_control,
        api.networks,
        api.datasets,
        api.jobs,
        api.removal,
        api.keys,
        api.system,
    ):
        app.include_router(router, prefix="/v1", dependencies=[Depends(given_once)])
    app.include_router(api.probes)
    handle_problems(app)
    add_dashboard(app)
    app.include_router(api.promised)
    app.add_middleware(Guard, hosts=allowed_hosts(settings))
    app.add_middleware(Trail)
    app.router.routes[:0] = [JobShortcut(), QuestionShortcut()]
    app.add_middleware(
        Envelope, max_body_bytes=max(settings.max_model_bytes, settings.max_dataset_bytes) + _BODY_MARGIN_BYTES
    )
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    return app
