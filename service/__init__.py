"""Verification as a service: HTTP API, ledger, queue and workers.

The parts, and who may know whom::

    app (web process)  ─┐                       ┌─  worker → job (forked child) → solver
    reaper             ─┼─ ledger, queue, events ┤
    supervisor         ─┘                       └─  artifacts

The web process never imports torch, Pyomo, a MIP solver or ONNX; `service.job` and `service.inspection` do, in
processes of their own.
"""

from __future__ import annotations

__all__: list[str] = []
