"""`netproof.AsyncClient` against a running service: what `Client` does, awaited, and several at once."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import netproof
from netproof.async_batches import AsyncBatches
from netproof.async_client import AsyncClient
from netproof.batches import Batches
from netproof.client import Client, NotFoundError, RefusedError, ServiceError, UnreachableError
from tests.faults.deployment import obstinate_model
from tests.netproof.test_client import NEVER_LARGE, SHA256, busy
from tests.service.serving import NETWORK, Service, ball

__all__ = ["busy"]

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(url: str, work: Callable[[AsyncClient], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        async with AsyncClient(url, **options) as client:
            return await work(client)

    return asyncio.run(main())


@pytest.mark.parametrize(("plain", "awaited"), [(Client, AsyncClient), (Batches, AsyncBatches)])
def test_both_clients_have_the_same_methods(plain: type, awaited: type) -> None:
    def methods(kind: type) -> dict[str, str]:
        found = {name: value for name, value in vars(kind).items() if inspect.isfunction(value) and name[0] != "_"}
        signatures = {name: inspect.signature(value) for name, value in found.items()}
        return {
            name: str(each).replace("Async", "").replace("collections.abc.", "") for name, each in signatures.items()
        }

    assert methods(plain) == methods(awaited)
    for name in methods(plain):
        waits = inspect.iscoroutinefunction(vars(awaited)[name]) or inspect.isasyncgenfunction(vars(awaited)[name])
        assert waits, name
    options = [set(inspect.signature(kind).parameters) for kind in (Client, AsyncClient)]
    assert options[0] == options[1]


def test_questions_are_asked_at_once(service: Service) -> None:
    async def several(client: AsyncClient) -> list[Any]:
        asked = (client.verify(NETWORK, **ball(epsilon=f"0.00{i + 1}")) for i in range(4))
        return await asyncio.gather(*asked, client.verify(NETWORK, vnnlib=NEVER_LARGE, certificate=True))

    *balls, proven = run(service.url, several)
    assert {job.verdict for job in balls} <= {"robust", "counterexample"}
    assert proven.trust == "certified"

    async def evidence(client: AsyncClient) -> tuple[bytes, dict[str, Any], list[str], str]:
        proof = await client.certificate(proven.id)
        listed = [job.id async for job in client.jobs(network=SHA256, limit=2)]
        return proof, await client.check(proof, SHA256), listed, await client.version()

    proof, found, listed, version = run(service.url, evidence)
    assert found["accepted"]
    assert found["certificate"]["bytes"] == len(proof)
    assert {job.id for job in (*balls, proven)} <= set(listed)
    assert version


def test_progress_is_streamed_and_cancelling_keeps_the_bounds(service: Service) -> None:
    async def stop(client: AsyncClient) -> Any:
        question = {"input": [0.5] * 12, "label": 0, "epsilon": 0.5, "domain": (0, 1)}
        job = await client.verify(obstinate_model(), **question, wait=False)
        assert not job.ended
        names = []
        async for event in client.events(job.id):
            names.append(event.name)
            if event.name == "progress" and event.data["margin"][0] is not None:
                await client.cancel(job.id)
        assert names[-1] == "state"
        return await client.wait(job.id)

    job = run(service.url, stop)
    assert (job.state, job.reason) == ("cancelled", "cancelled")
    assert job.margin[0] is not None


def test_a_batch_is_followed(service: Service, tmp_path: Path) -> None:
    data = EXAMPLES / "digits.npz"

    async def follow(client: AsyncClient) -> Any:
        batch = await client.batches.submit(EXAMPLES / "digits_plain.onnx", data, epsilon="0.01", domain=(0, 1), end=3)
        seen = [now.state async for now in client.batches.follow(batch.id)]
        assert seen[-1] == "finished"
        items = [item async for item in client.batches.items(batch.id, limit=2)]
        await client.batches.export(batch.id, tmp_path / "records.csv")
        return items, (await client.batches.wait(batch.id)).robust_accuracy

    items, accuracy = run(service.url, follow)
    assert len(items) == 3
    assert accuracy[0] == accuracy[1]
    assert (tmp_path / "records.csv").read_text().count("\n") == 4

    with Client(service.url) as client:
        (batch,) = client.batches.list(limit=1)
        assert [now.state for now in client.batches.follow(batch.id)] == ["finished"]


def test_a_torch_module_is_uploaded(service: Service) -> None:
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    network = netproof.from_torch(module, torch.zeros(1, 3))
    with Client(service.url) as client:
        known = client.upload(network)
        assert (known["sha256"], known["relus"]) == (network.sha256, 4)
        job = client.verify(network, input=np.zeros(3), epsilon="0.001", label=int(module(torch.zeros(3)).argmax()))
        assert job.network == network.sha256


def test_errors_are_those_of_the_client(service: Service, busy: str) -> None:
    async def refused(client: AsyncClient) -> None:
        with pytest.raises(RefusedError, match="3"):
            await client.verify(NETWORK, input=[0.5, 0.5], label=0, epsilon=0.1)
        with pytest.raises(NotFoundError, match="no job"):
            await client.job("x")
        with pytest.raises(NotFoundError):
            [event async for event in client.events("x")]

    run(service.url, refused)
    assert run(busy, lambda client: client.version(), retries=2) == "9"
    with pytest.raises(ServiceError, match="is it a netproof service"):
        run(busy, lambda client: client.network("0" * 64))
    with pytest.raises(UnreachableError, match="netproof serve"):
        run("http://127.0.0.1:9", lambda client: client.version(), retries=1)


class _Cut(httpx.AsyncBaseTransport):
    """A stream of events that breaks off after the first, and says from where the second connection goes on."""

    def __init__(self) -> None:
        self.resumed: list[str | None] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.resumed.append(request.headers.get("Last-Event-ID"))
        first = b'id: 1\nevent: progress\ndata: {"n": 1}\n\nid: 2\nevent: progress\nda'
        second = b': still there\n\nid: 2\nevent: state\ndata: {"state": "succeeded"}\n\n'
        return httpx.Response(200, content=first if len(self.resumed) == 1 else second)


def test_a_stream_that_broke_goes_on_where_it_broke() -> None:
    transport = _Cut()

    async def all_events(client: AsyncClient) -> list[tuple[str, str]]:
        return [(event.id, event.name) async for event in client.events("x")]

    assert run("http://service", all_events, transport=transport) == [("1", "progress"), ("2", "state")]
    assert transport.resumed == [None, "1"]
