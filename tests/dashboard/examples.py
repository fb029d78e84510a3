"""Questions about the example networks, as pages are shown for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.service.serving import Service

__all__ = ["DIGITS", "about_digit", "ask", "digits", "network"]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS = EXAMPLES / "digits.npz"


def network(site: Service, name: str) -> str:
    """The sha256 of an example network."""
    answer = site.http.post(f"/v1/networks?name={name}", content=(EXAMPLES / name).read_bytes())
    return str(answer.json()["sha256"])


def digits(site: Service) -> str:
    """The sha256 of the example data set."""
    headers = {"Content-Type": "application/octet-stream"}
    answer = site.http.post("/v1/datasets?name=digits.npz", content=DIGITS.read_bytes(), headers=headers)
    return str(answer.json()["sha256"])


def about_digit(index: int, epsilon: str, **members: Any) -> dict[str, Any]:
    """Whether a digit keeps its class within ``epsilon``."""
    with np.load(DIGITS) as data:
        values, label = data["images"][index].reshape(-1), int(data["labels"][index])
    center = [float(value) for value in values]
    return {"input": center, "epsilon": epsilon, "domain": [0, 1], "label": label} | members


def ask(site: Service, about: str, query: dict[str, Any], *, wait: int = 30, **members: Any) -> str:
    """The identifier of a job, which has ended if it could within ``wait`` seconds."""
    answer = site.http.post(f"/v1/verify?wait={wait}", json={"network": about, "query": query, **members})
    assert answer.is_success, answer.text
    return str(answer.json()["id"])
