"""ONNX Runtime, the second reading of every network; imported here alone.

From version 1.29 on, its official builds send reports home: names and hashes of models, their producer, errors, and a
number that identifies the machine, which it keeps with unsent reports under ``~/.cache``. What networks a user verifies
is nobody else's business, and some machines must not open connections at all, so that is off unless the environment
sets ``ORT_DISABLE_TELEMETRY`` to something else. It is read once, when the library is loaded.
"""

from __future__ import annotations

import os
from typing import Any

__all__ = ["onnx_runtime"]


def onnx_runtime() -> Any:
    """The module ``onnxruntime``, without its reports."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime
