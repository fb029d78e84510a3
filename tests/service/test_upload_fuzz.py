"""Broken uploads of every kind get answers, and nothing else happens; `make fuzz` sends ten thousand."""

from __future__ import annotations

import ast
import asyncio
import gzip
import http.client
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.fuzz_uploads import Findings, real_datasets, send
from benchmarks.hostile_uploads import certificates, datasets, networks
from tests.certificates.proofs import proven
from tests.service.serving import NETWORK, Service, problem

ROOT = Path(__file__).parents[2]
EXAMPLES = [path.read_bytes() for path in sorted((ROOT / "examples").glob("*.onnx"))]
PACKAGES = ("networks", "certificates", "service", "netproof")


def test_broken_networks_data_sets_and_certificates(web: Service) -> None:
    network, certificate = proven("root")
    sha256 = web.upload(network.model)
    findings = Findings()

    async def everything() -> None:
        await send(web.url, "/v1/networks", islice(networks(3, [*EXAMPLES, NETWORK]), 100), findings)
        await send(web.url, "/v1/datasets", islice(datasets(3, real_datasets()), 20), findings)
        await send(web.url, f"/v1/check?network={sha256}", islice(certificates(3, [certificate]), 12), findings)

    asyncio.run(everything())
    assert findings.faults == []
    assert sum(findings.statuses.values()) == 132
    assert len(findings.kinds) > 15
    assert findings.statuses["/v1/networks", 422] > 40
    assert findings.statuses["/v1/networks", 201] > 0, "small changes leave networks that can be read"
    assert web.http.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/", "network"),
        ("..", ".."),
        ("a\r\nSet-Cookie: x=1.onnx", "a_Set-Cookie_x_1.onnx"),
        ("--help", "help"),
        ("\x1b[2J\x00.onnx", "_2J_.onnx"),
        ("<script>", "_script_"),
        ("x" * 255, "x" * 100),
    ],
)
def test_names_are_labels_and_never_paths(web: Service, given: str, kept: str) -> None:
    before = {path for path in web.settings.data_dir.rglob("*") if "artifacts" not in path.parts}
    network = NETWORK + b"\xfa\x3f" + bytes([len(given.encode()) % 100]) + bytes(len(given.encode()) % 100)
    answer = web.http.post("/v1/networks", content=network, params={"name": given})
    assert answer.status_code in {200, 201, 422}, answer.text
    if answer.is_success:
        assert answer.json()["name"] == kept
        assert "Set-Cookie" not in answer.headers
    else:
        assert given not in answer.text
    assert {path for path in web.settings.data_dir.rglob("*") if "artifacts" not in path.parts} == before


def test_what_unpacks_to_too_much_is_refused_while_it_comes(web: Service) -> None:
    bomb = gzip.compress(bytes(2**28), 9)
    assert len(bomb) < web.settings.max_model_bytes
    problem(web.http.post("/v1/networks", content=bomb), 413)
    problem(web.http.post("/v1/datasets", content=bomb), 413)
    many = b"".join(gzip.compress(bytes(2**20), 9) for _ in range(50))
    problem(web.http.post("/v1/networks", content=many), 413)


def test_forms_have_few_parts(web: Service) -> None:
    parts = [("network", ("n.onnx", NETWORK))] * 50
    problem(web.http.post("/v1/networks", files=parts), 400)
    problem(web.http.post("/v1/verify", data={f"a{i}": "b" for i in range(100)}, files={"network": NETWORK}), 400)
    connection = http.client.HTTPConnection(web.url.removeprefix("http://"))
    head = b"--b\r\nContent-Disposition: form-data; name=a" + b"\r\nX: y" * 5000 + b"\r\n\r\n\r\n--b--\r\n"
    connection.request("POST", "/v1/verify", head, {"Content-Type": "multipart/form-data; boundary=b"})
    assert connection.getresponse().status in {400, 413, 422}
    connection.close()


@pytest.mark.parametrize(
    "query",
    [
        "[" * 100_000,
        '{"a":' * 50_000,
        "1" * 100_000,
        '{"epsilon": "1e999999999"}',
        '{"epsilon": 1e400}',
        "NaN",
        '"\\ud800"',
    ],
    ids=lambda text: text[:20],
)
def test_deep_and_huge_json_is_refused(web: Service, query: str) -> None:
    answer = web.http.post("/v1/verify", files={"network": NETWORK}, data={"query": query})
    assert answer.status_code in {400, 422}, answer.text[:300]
    body = b'{"network": "%s", "query": %s}' % (web.upload().encode(), query.encode())
    answer = web.http.post("/v1/verify", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}, answer.text[:300]


def trees() -> dict[str, ast.Module]:
    paths = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths}


def test_nothing_that_runs_code_reads_what_strangers_send() -> None:
    """No pickle and its kin; NumPy is told not to; nothing is evaluated, no shell is started."""
    forbidden = {"pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
    calls = {"eval", "exec", "os.system", "os.popen", "torch.load", "yaml.load", "yaml.unsafe_load"}
    loads = 0
    for name, tree in trees().items():
        for node in ast.walk(tree):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not forbidden & set(imported), name
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            assert called not in calls, f"{name}: {called}"
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert given.get("shell") != "True", name
            if called in {"np.load", "numpy.load", "npy.read_array", "np.lib.format.read_array"}:
                assert given.get("allow_pickle") == "False", f"{name}: {ast.unparse(node)}"
                loads += 1
    assert loads >= 3


def test_the_service_fetches_no_address() -> None:
    """Nothing in a request can make the service connect to somewhere: it has no client but one that asks itself."""
    clients = {"requests", "urllib.request", "urllib3", "aiohttp", "http.client", "ftplib", "smtplib"}
    sending = {"Client", "AsyncClient", "get", "post", "put", "request", "stream"}
    using = set()
    for name, tree in trees().items():
        if not name.startswith(("service/", "networks/", "certificates/")):
            continue
        for node in ast.walk(tree):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not clients & set(imported), name
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {f"httpx.{call}" for call in sending}:
                using.add(name)
    assert using <= {"service/dashboard/inside.py"}
    inside = ROOT / "service" / "dashboard" / "inside.py"
    assert not using or "httpx.ASGITransport(" in inside.read_text()
