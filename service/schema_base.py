"""What the models of requests and answers share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["EXAMPLE_SHA256", "AnswerModel", "RequestModel", "Sha256"]

EXAMPLE_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

Sha256: TypeAlias = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of the decompressed ONNX file, 64 lower-case hex digits",
        examples=[EXAMPLE_SHA256],
    ),
]


class RequestModel(BaseModel):
    """Strict, and closed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class AnswerModel(BaseModel):
    """Made once, and sent."""

    model_config = ConfigDict(frozen=True)
