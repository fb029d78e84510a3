"""Hooks of `test_schema`: half of the generated requests are about things that the service has.

``NETPROOF_KNOWN`` holds their identifiers as JSON: ``{"networks": […], "datasets": […], "jobs": […], "batches": […]}``.
"""

from __future__ import annotations

import json
import os
import zlib
from typing import Any

import schemathesis

KNOWN: dict[str, list[str]] = json.loads(os.environ.get("NETPROOF_KNOWN", "{}"))


def known(kind: str, given: object) -> Any:
    """Something that the service has in place of half of what was generated, always the same for the same."""
    names = KNOWN.get(kind, [])
    number = zlib.crc32(repr(given).encode())
    return names[number // 2 % len(names)] if names and number % 2 else given


@schemathesis.hook
def map_path_parameters(context: schemathesis.HookContext, path_parameters: dict[str, Any] | None) -> Any:
    if not isinstance(path_parameters, dict):
        return path_parameters
    kinds = {"job_id": "jobs", "batch_id": "batches"}
    path = context.operation.path if context.operation is not None else ""
    kinds["sha256"] = "datasets" if "datasets" in path else "networks"
    return {name: known(kinds[name], value) if name in kinds else value for name, value in path_parameters.items()}


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    if not isinstance(body, dict):
        return body
    kinds = {"network": "networks", "dataset": "datasets"}
    return {
        name: known(kinds[name], value) if name in kinds and isinstance(value, str) else value
        for name, value in body.items()
    }
