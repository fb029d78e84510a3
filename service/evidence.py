"""A counterexample in the forms in which people use it."""

from __future__ import annotations

import enum
import io
import json
from typing import Any

import numpy as np
from starlette.responses import Response

from service.problems import NOT_ACCEPTABLE, ProblemError
from solver.verdict import Counterexample
from solver.witness import vnncomp_text

__all__ = ["REPRESENTATIONS", "Representation", "choose", "render"]


class Representation(enum.StrEnum):
    """Forms of a counterexample."""

    JSON = "json"
    NPY = "npy"
    NPZ = "npz"
    VNNCOMP = "vnncomp"


REPRESENTATIONS: dict[Representation, str] = {
    Representation.JSON: "application/json",
    Representation.NPY: "application/x-npy",
    Representation.NPZ: "application/x-npz",
    Representation.VNNCOMP: "text/plain",
}


def choose(accept: str | None) -> Representation:
    """The form that an ``Accept`` header prefers; JSON where it does not care.

    Raises:
        ProblemError: 406, nothing that it accepts is offered.
    """
    wanted = []
    for position, entry in enumerate((accept or "*/*").split(",")):
        kind, *parameters = (part.strip().lower() for part in entry.split(";"))
        quality = next((p.removeprefix("q=") for p in parameters if p.startswith("q=")), "1")
        try:
            wanted.append((-float(quality), position, kind))
        except ValueError:
            continue
    for weight, _, kind in sorted(wanted):
        for representation, offered in REPRESENTATIONS.items():
            if weight < 0 and kind in {offered, "*/*", f"{offered.partition('/')[0]}/*"}:
                return representation
    detail = f"Accept: {accept} matches none of {', '.join(REPRESENTATIONS.values())}; accept one, or say ?format="
    raise ProblemError(NOT_ACCEPTABLE, detail)


def render(document: dict[str, Any], representation: Representation, *, name: str) -> Response:
    """The HTTP answer that carries a counterexample.

    Args:
        document: as `solver.verdict.Counterexample.to_json` writes it.
        representation: the form.
        name: of the file that a browser would save, without suffix.
    """
    found = Counterexample.from_json(document)
    suffix = {Representation.VNNCOMP: "txt"}.get(representation, str(representation))
    headers = {"Content-Disposition": f'attachment; filename="{name}.{suffix}"', "Vary": "Accept"}
    buffer = io.BytesIO()
    match representation:
        case Representation.JSON:
            del headers["Content-Disposition"]
            buffer.write(json.dumps(found.to_json(), allow_nan=False).encode())
        case Representation.NPY:
            np.save(buffer, found.input)
        case Representation.NPZ:
            np.savez(buffer, input=found.input, output=found.output)
        case Representation.VNNCOMP:
            buffer.write(vnncomp_text(found).encode())
    return Response(buffer.getvalue(), headers=headers, media_type=REPRESENTATIONS[representation])
