"""Keys on the user's side: made on the command line, shown by the client, and what is said where one does not do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netproof.client import Client, ForbiddenError, LimitError, NotFoundError, UnauthenticatedError
from networks.errors import InputError
from service.access import Quota, Scope
from tests.netproof.conftest import Answer
from tests.service.serving import Service, ball
from tests.small_servers import Handler, running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that wants keys, and has no worker."""
    running = Service(tmp_path_factory.mktemp("guarded"), access="on")
    yield running
    running.close()


@pytest.fixture
def keys(run: Callable[..., Answer], guarded: Service, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """``netproof keys`` where the service's ledger is."""
    monkeypatch.setenv("NETPROOF_DATA_DIR", str(guarded.settings.data_dir))
    return lambda *arguments: run("keys", *arguments)


def test_a_key_made_on_the_command_line_opens_the_service(keys: Callable[..., Answer], guarded: Service) -> None:
    made = keys("create", "--owner", "ann", "--scope", "read", "--name", "CI", "--expires", "90d", "--quota", "rate=9")
    assert (made.code, made.err) == (0, "")
    key = made.out.strip()
    with Client(guarded.url, api_key=key) as client:
        assert client.version()
        with pytest.raises(ForbiddenError, match="scope submit"):
            client.upload(b"anything")
    name = key.split("_")[1]
    listed = keys("list", "--owner", "ann").out
    assert name in listed
    assert "read" in listed
    assert "rate=9" in listed
    assert key not in listed
    document = json.loads(keys("list", "--json").out.splitlines()[0])
    assert (document["id"], document["quota"], document["name"]) == (name, {"rate": 9.0}, "CI")


def test_a_key_is_rotated_and_revoked_on_the_command_line(keys: Callable[..., Answer], guarded: Service) -> None:
    old = keys("create", "--owner", "bob").out.strip()
    new = keys("rotate", old, "--overlap", "2h").out.strip()
    for key in (old, new):
        with Client(guarded.url, api_key=key) as client:
            assert client.version()
    assert "revoked" in keys("revoke", new.split("_")[1]).out
    time.sleep(2.1)  # the web process remembers it for so long
    with Client(guarded.url, api_key=new) as client, pytest.raises(UnauthenticatedError, match="was revoked"):
        client.version()
    log = keys("audit", "--owner", "bob").out
    assert [word for word in ("createKey", "rotateKey", "revokeKey") if word in log] == [
        "createKey",
        "rotateKey",
        "revokeKey",
    ]
    actions = [json.loads(line)["action"] for line in keys("audit", "--owner", "bob", "--json").out.splitlines()]
    assert actions[-3:] == ["revokeKey", "rotateKey", "createKey"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create",), "--owner"),
        (("create", "--owner", "a b"), "no name of an owner"),
        (("create", "--owner", "a", "--scope", "all"), "read"),
        (("create", "--owner", "a", "--expires", "soon"), "90d"),
        (("create", "--owner", "a", "--quota", "speed=1"), "cpu_seconds"),
        (("create", "--owner", "a", "--quota", "running=0"), "positive"),
        (("revoke", "nothing"), "no key 'nothing'"),
        (("rotate", "nothing"), "no key 'nothing'"),
    ],
)
def test_what_is_wrong_is_said(keys: Callable[..., Answer], arguments: tuple[str, ...], said: str) -> None:
    answer = keys(*arguments)
    assert answer.code == 2
    assert said in answer.err


def test_commands_take_the_key_from_a_file_or_the_environment(
    run: Callable[..., Answer], guarded: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = guarded.ledger.keys.create("ann", Scope.SUBMIT)
    answer = run("status", "0" * 26, "--server", guarded.url)
    assert answer.code == 2
    assert "wants a key" in answer.err
    assert "NETPROOF_API_KEY" in answer.err
    file = tmp_path / "key"
    file.write_text(made.text + "\n")
    answer = run("status", "0" * 26, "--server", guarded.url, "--api-key-file", file)
    assert answer.code == 2
    assert "there is no job" in answer.err
    assert run("batch", "list", "--server", guarded.url, "--api-key-file", file).code == 0
    monkeypatch.setenv("NETPROOF_API_KEY", made.text)
    assert run("batch", "list", "--server", guarded.url).code == 0
    with Client(guarded.url) as client, pytest.raises(NotFoundError):
        client.job("0" * 26)
    with Client(guarded.url, api_key="") as client, pytest.raises(UnauthenticatedError):
        client.version()


def test_a_quota_is_an_error_once_the_client_has_waited(guarded: Service) -> None:
    made = guarded.ledger.keys.create("cat", Scope.SUBMIT, quota=Quota(queued=1))
    from tests.random_networks import dense_model

    with Client(guarded.url, api_key=made.text, retries=0) as client:
        client.verify(dense_model(3), **ball(), wait=False)
        with pytest.raises(LimitError, match="as this key allows") as refused:
            client.verify(dense_model(3), **ball(epsilon=0.5), wait=False)
    assert isinstance(refused.value, InputError)
    assert refused.value.status == 429


class _Later(Handler):
    """Refuses once, and asks to come back after as long as the path says."""

    asked = 0

    def answer(self) -> None:
        type(self).asked += 1
        body = b'{"version": "9"}' if self.asked > 1 else b"{}"
        self.reply(200 if self.asked > 1 else 429, body, Retry_After=self.path.split("/")[1])


@pytest.fixture
def later() -> Iterator[str]:
    _Later.asked = 0
    with running(_Later) as url:
        yield url


def test_the_client_waits_as_long_as_the_service_says(later: str) -> None:
    begun = time.monotonic()
    with Client(f"{later}/1") as client:
        assert client.version() == "9"
    assert time.monotonic() - begun >= 1


def test_the_client_does_not_wait_for_tomorrow(later: str) -> None:
    with Client(f"{later}/3600") as client, pytest.raises(LimitError):
        client.version()
    assert _Later.asked == 1
