"""The HTTP API: one router per resource."""

from __future__ import annotations

from service.api.batch_control import router as batch_control
from service.api.batch_items import router as batch_items
from service.api.batches import router as batches
from service.api.check import router as check
from service.api.datasets import router as datasets
from service.api.jobs import router as jobs
from service.api.keys import router as keys
from service.api.networks import router as networks
from service.api.promised import router as promised
from service.api.removal import router as removal
from service.api.system import probes
from service.api.system import router as system
from service.api.verify import router as verify

__all__ = [
    "batch_control",
    "batch_items",
    "batches",
    "check",
    "datasets",
    "jobs",
    "keys",
    "networks",
    "probes",
    "promised",
    "removal",
    "system",
    "verify",
]
