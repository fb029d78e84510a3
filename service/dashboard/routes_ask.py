"""The form that asks one question about one network."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from networks.errors import VnnlibError
from service.access.dependencies import SUBMIT, Caller
from service.access.principal import Principal
from service.api.dependencies import PartsOfApp, known_dataset
from service.batch_models import DatasetRecord
from service.dashboard.asking import FIELDS, FormError, Picked, of_job, request_of, unstated
from service.dashboard.commands import Files, question_commands
from service.dashboard.forms import Answers
from service.dashboard.inside import call
from service.dashboard.pages import page, page_router
from service.dashboard.pictures import layout
from service.dashboard.routes_networks import send_network
from service.dataset_rows import read_rows
from service.errors import NotFoundError
from service.identifiers import new_id
from service.inflating import Inflating
from service.models import NetworkRecord
from service.parts import Parts

__all__ = ["choices", "files_of", "router", "typed"]

router = page_router()

#: As much as the API takes in one request.
_MAX_TEXT = 32 * 2**20
_BLANK = {"norm": "linf", "kind": "decide", "low": "0", "high": "1", "index": "0", "engine": "auto", "backend": "auto"}


@router.get("/ask", dependencies=[SUBMIT])
def show_form(request: Request, parts: PartsOfApp, caller: Caller, job: str = "") -> Response:
    """The form, filled by what the address says; ``job`` names one whose question is asked again."""
    texts, lost = dict(_BLANK), []
    if job:
        again = parts.ledger.job(job[:26], owner=caller.reach).request
        texts, lost = texts | of_job(again), unstated(again)
    texts |= {name: text for name, text in request.query_params.items() if name != "job"}
    return _form(request, parts, caller, Answers(texts), lost=lost)


def choices(parts: Parts, caller: Principal, texts: Mapping[str, str]) -> dict[str, Any]:
    """The networks and data sets that a form offers, those that it names already among them."""
    networks = parts.ledger.networks(limit=200, owner=caller.reach)
    datasets = parts.ledger.datasets.newest(limit=200, owner=caller.reach)
    shapes = {each.sha256: layout(each.summary["input_shape"]) for each in networks}
    sizes = {each.sha256: math.prod(each.summary["shape"]) for each in datasets}
    dataset = texts.get("dataset") or ""
    network = texts.get("network") or _fitting(networks, sizes.get(dataset, 0))
    known = next((each.summary["inputs"] for each in networks if each.sha256 == network), 0)
    return {
        "networks": networks,
        "shapes": shapes,
        "datasets": datasets,
        "pictured": {each.sha256 for each in datasets if layout(each.summary["shape"]) is not None},
        "network": network,
        "dataset": dataset or next((name for name, size in sizes.items() if size == known), next(iter(sizes), "")),
    }


def _fitting(networks: Sequence[NetworkRecord], size: int) -> str:
    """The newest network with inputs of this size, or else the newest."""
    fitting = [each.sha256 for each in networks if each.summary["inputs"] == size]
    return next(iter([*fitting, *(each.sha256 for each in networks)]), "")


def files_of(offered: Mapping[str, Any], picked: Picked | None = None, *, whole: bool = False) -> Files:
    """What the files that a form names are called.

    Args:
        offered: the form's `choices`.
        picked: the input of a data set that is asked about.
        whole: whether the whole data set is.
    """
    network = next((each.name for each in offered["networks"] if each.sha256 == offered["network"]), "")
    data = next((each for each in offered["datasets"] if each.sha256 == offered["dataset"]), None)
    if data is None or (picked is None and not whole):
        return Files(network or "network.onnx")
    scaled = data.summary["dtype"] == "uint8"
    if picked is None:
        return Files(network or "network.onnx", data.name, scaled)
    return Files(network or "network.onnx", data.name, scaled, picked.index, picked.label)


def _form(
    request: Request,
    parts: Parts,
    caller: Principal,
    answers: Answers,
    asked: Mapping[str, Any] | None = None,
    picked: Picked | None = None,
    lost: Sequence[str] = (),
) -> Response:
    offered = choices(parts, caller, answers.texts)
    source = answers["source"] or ("dataset" if offered["datasets"] else "numbers")
    origin, key = str(request.base_url).rstrip("/"), parts.settings.access_on
    shown = [] if asked is None else question_commands(asked, files_of(offered, picked), origin, key=key)
    settings = {"default_limit": parts.settings.default_time_limit, "max_limit": parts.settings.max_time_limit}
    return page(
        request,
        "ask.html",
        status=answers.status,
        answers=answers,
        source=source,
        commands=shown,
        lost=lost,
        once=answers["once"] or new_id(),
        **offered,
        **settings,
    )


@router.post("/ask", dependencies=[SUBMIT])
async def ask(request: Request, parts: PartsOfApp, caller: Caller) -> Response:
    """Ask what the form says, and go to the job; where something is wrong, the form comes back and says it."""
    texts, refusal = await typed(request)
    answers = Answers(texts)
    fields = FIELDS | ({"/query/input": "index"} if texts.get("source") == "dataset" else {})
    if refusal is not None:
        return await run_in_threadpool(_form, request, parts, caller, answers.refused(refusal, fields))
    try:
        picked = await _picked(texts, parts, caller) if texts.get("source") == "dataset" else None
        asked = request_of(texts, picked)
    except FormError as error:
        return await run_in_threadpool(_form, request, parts, caller, answers.refused(error.document, fields))
    if texts.get("action") == "command":
        return await run_in_threadpool(_form, request, parts, caller, answers, asked, picked)
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
    key = {"Idempotency-Key": f"{texts.get('once', '')[:26]}-{digest}"}  # a second press of the button asks nothing new
    answer = await call(request, "POST", "/v1/verify", json=asked, headers=key)
    if answer.is_success:
        return RedirectResponse(f"/jobs/{answer.json()['id']}", 303)
    return await run_in_threadpool(_form, request, parts, caller, answers.refused(answer, fields))


async def typed(request: Request) -> tuple[dict[str, str], Mapping[str, Any] | None]:
    """The texts of a form; a network that comes along is sent to the API, and a VNNLIB file becomes text.

    Returns:
        The texts, and the problem of a file that was refused.
    """
    async with request.form(max_files=2, max_fields=40, max_part_size=_MAX_TEXT) as form:
        texts = {name: value for name, value in form.items() if isinstance(value, str)}
        network, spec = form.get("network_file"), form.get("vnnlib_file")
        if isinstance(network, UploadFile) and network.filename:
            answer = await send_network(request, network)
            if not answer.is_success:
                problem = answer.json()
                return texts, problem | {"errors": [{"pointer": "/network", "detail": problem["detail"]}]}
            texts["network"] = answer.json()["sha256"]
        if isinstance(spec, UploadFile) and spec.filename:
            try:
                texts["vnnlib"] = await _unpacked(spec)
            except VnnlibError as error:
                return texts, FormError(vnnlib=str(error)).document
    return texts, None


async def _unpacked(file: UploadFile) -> str:
    pieces: list[bytes] = []

    def keep(piece: bytes) -> None:
        pieces.append(piece)
        if sum(map(len, pieces)) > _MAX_TEXT:
            msg = f"{file.filename} is larger than {_MAX_TEXT} bytes, the most accepted here"
            raise VnnlibError(msg)

    writer = Inflating(keep, file.filename or "the file", VnnlibError)
    writer.write(await file.read(_MAX_TEXT + 1))
    writer.close()
    return b"".join(pieces).decode(errors="replace")


async def _picked(texts: Mapping[str, str], parts: Parts, caller: Principal) -> Picked | None:
    """The chosen input of a data set. Raises FormError where there is none such."""
    if not texts.get("dataset"):
        return None
    try:
        record = await known_dataset(texts["dataset"], parts, caller)
    except NotFoundError as error:
        raise FormError(dataset=str(error)) from error
    count, text = record.summary["count"], texts.get("index", "").strip()
    if not text.isdecimal() or len(text) > 9 or int(text) >= count:
        raise FormError(index=f"expected a whole number from 0 to {count - 1}, got {text[:20]!r}")
    return await run_in_threadpool(_read, record, int(text), parts)


def _read(record: DatasetRecord, index: int, parts: Parts) -> Picked:
    rows = read_rows(parts.artifacts.get(record.artifact).path, index, index + 1, name=record.name)
    return Picked(index, rows.label(0), [float(entry) for entry in rows.input(0)])
