"""Requests that another site's page, a rebound name, a slow client or a smuggler would send."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from service import guard, protocol
from service.guard import SESSION_COOKIE, allowed_hosts
from service.settings import Settings
from tests.service.serving import NETWORK, Service, problem


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that waits less than a second for anybody."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "HEAD_SECONDS", 0.4)
        patch.setattr(guard, "PAUSE_SECONDS", 0.4)
        service = Service(tmp_path_factory.mktemp("impatient"))
        yield service
        service.close()


def said(service: Service, *pieces: bytes, pause: float = 0.0) -> bytes:
    """What the service answers to raw bytes, until it closes the connection or is silent for a while."""
    host, port = service.url.removeprefix("http://").split(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=3) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            while piece := connection.recv(2**16):
                answer += piece
        except (TimeoutError, ConnectionError):
            pass
    return answer


def test_only_this_machines_names_are_answered(web: Service) -> None:
    port = web.url.rpartition(":")[2]
    for name in (f"127.0.0.1:{port}", f"localhost:{port}", "LOCALHOST", f"[::1]:{port}"):
        assert web.http.get("/v1/version", headers={"Host": name}).status_code == 200
    for name in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "localhost@evil.example", ""):
        refused = problem(web.http.get("/v1/version", headers={"Host": name}), 421)
        assert "NETPROOF_ALLOWED_HOSTS" in refused["detail"]
    refused = problem(web.http.post("/v1/networks", content=NETWORK, headers={"Host": "evil.example"}), 421)
    assert refused["type"] == "urn:netproof:problem:misdirected"


def test_the_names_can_be_set_and_a_key_makes_them_needless() -> None:
    assert allowed_hosts(Settings(host="::1")) == {"localhost", "127.0.0.1", "[::1]"}
    assert allowed_hosts(Settings(allowed_hosts="Proof.example, localhost")) == {"proof.example", "localhost"}
    assert allowed_hosts(Settings(host="0.0.0.0")) == {"*"}
    assert allowed_hosts(Settings(access="on")) == {"*"}
    assert allowed_hosts(Settings(host="0.0.0.0", allowed_hosts="a.example")) == {"a.example"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Cookie": f"{SESSION_COOKIE}=secret"},
    ],
    ids=str,
)
def test_another_sites_page_cannot_act(web: Service, headers: dict[str, str]) -> None:
    for path in ("/v1/networks", "/v1/verify", "/v1/batches", "/v1/jobs/x/cancel"):
        refused = problem(web.http.post(path, content=NETWORK, headers=headers), 403)
        assert refused["type"] == "urn:netproof:problem:foreign-origin"
    assert web.http.get("/v1/networks", headers=headers).status_code == 200


def test_our_own_pages_and_programs_can_act(web: Service) -> None:
    cookie = {"Cookie": f"{SESSION_COOKIE}=x"}
    for headers in (
        {},
        {"Sec-Fetch-Site": "same-origin"} | cookie,
        {"Origin": web.url} | cookie,
        {"Cookie": "theme=x"},
    ):
        assert web.http.post("/v1/networks", content=NETWORK, headers=headers).is_success


def test_no_page_from_elsewhere_may_read(web: Service) -> None:
    """No header of CORS at all, not even for a preflight request."""
    origin = {"Origin": "https://evil.example"}
    preflight = origin | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    for answer in (web.http.get("/v1/networks", headers=origin), web.http.options("/v1/verify", headers=preflight)):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert web.http.options("/v1/verify", headers=preflight).status_code == 405


def test_every_answer_carries_the_security_headers(web: Service) -> None:
    for answer in (
        web.http.get("/v1/networks"),
        web.http.get("/v1/nothing"),
        web.http.post("/v1/verify", content=b"{"),
        web.http.get("/v1/version", headers={"Host": "evil.example"}),
        web.http.get("/"),
    ):
        headers = answer.headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] in {"no-referrer", "same-origin"}
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "server" not in headers


def test_a_slow_head_is_not_waited_for(impatient: Service) -> None:
    begun = time.monotonic()
    assert said(impatient).startswith(b"HTTP/1.1 408"), "nothing comes"
    assert said(impatient, b"GET /v1/version HTTP/1.1\r\nHost: 127.0.0.1\r\nX-").startswith(b"HTTP/1.1 408")
    drip = [b"GET /v1/version HTTP/1.1\r\n", *[b"X-A: b\r\n"] * 20]
    assert said(impatient, *drip, pause=0.1).startswith(b"HTTP/1.1 408") or time.monotonic() - begun < 6
    whole = b"GET /v1/version HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    again = said(impatient, whole, b"GET /v1/version HTTP/1.1\r\nX-", pause=0.2)
    assert (again.count(b"HTTP/1.1 200"), again.count(b"HTTP/1.1 408")) == (1, 1)
    assert time.monotonic() - begun < 8


def test_a_slow_body_is_not_waited_for(impatient: Service) -> None:
    head = b"POST /v1/networks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n"
    assert said(impatient, head, b"abc").startswith(b"HTTP/1.1 408")
    head = head.replace(b"networks", b"verify").replace(
        b"Content-Length", b"Content-Type: application/json\r\nContent-Length"
    )
    assert said(impatient, head, b"{").startswith(b"HTTP/1.1 408")


def test_waiting_for_a_job_is_not_a_slow_request(impatient: Service) -> None:
    job = impatient.queued_job()
    begun = time.monotonic()
    assert impatient.http.get(f"/v1/jobs/{job}", params={"wait": 1.2}).status_code == 200
    assert time.monotonic() - begun > 1


def test_a_large_head_is_refused(web: Service) -> None:
    head = b"GET /v1/version HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X-A: " + b"a" * 2**18
    assert said(web, head).startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))
    many = b"GET /v1/version HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X-A: b\r\n" * 2**15
    assert said(web, many).startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))


SMUGGLED = b"GET /v1/version HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: chunked\r\n folded: x\r\n",
        b"X: a\nContent-Length: 500\r\n",
        b"X\x00: a\r\n",
    ],
    ids=str,
)
def test_requests_that_proxies_may_read_differently_are_refused(web: Service, head: bytes) -> None:
    """One request in, at most one answer out, and the connection closed where its end is in doubt."""
    request = b"POST /v1/verify HTTP/1.1\r\nHost: 127.0.0.1\r\n" + head + b"\r\n" + b"0\r\n\r\n" + SMUGGLED
    answer = said(web, request)
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert web.http.get("/v1/version").status_code == 200
