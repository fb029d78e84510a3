"""A second machine for tests: a network namespace with a link that can be cut; programs there share no folder."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from service.embedded import find_server
from tests.service.postgres import Postgres

__all__ = ["Link", "listening_postgres", "listening_valkey", "second_machine"]


class Link:
    """The way between this machine (``here``) and the other (``there``)."""

    def __init__(self, name: str, here: str, there: str) -> None:
        self._name = name
        self.here = here
        self.there = there

    def command(self) -> list[str]:
        """A prefix that runs a program on the other machine."""
        return ["ip", "netns", "exec", self._name]

    def cut(self) -> None:
        """Let nothing through; this machine's own end stays up, as a cable that is pulled elsewhere leaves it."""
        subprocess.run([*self.command(), "ip", "link", "set", f"{self._name}b", "down"], check=True)

    def mend(self) -> None:
        subprocess.run([*self.command(), "ip", "link", "set", f"{self._name}b", "up"], check=True)


@contextlib.contextmanager
def second_machine() -> Iterator[Link]:
    """A network namespace, joined to this one; skips the test where none can be made."""
    if os.getuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a second machine needs root and iproute2")
    name, net = f"np{secrets.token_hex(3)}", f"10.77.{os.getpid() % 250}"
    link = Link(name, f"{net}.1", f"{net}.2")
    inside = link.command()
    steps = [
        ["ip", "netns", "add", name],
        ["ip", "link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name],
        ["ip", "address", "add", f"{link.here}/24", "dev", f"{name}a"],
        ["ip", "link", "set", f"{name}a", "up"],
        [*inside, "ip", "address", "add", f"{link.there}/24", "dev", f"{name}b"],
        [*inside, "ip", "link", "set", f"{name}b", "up"],
        [*inside, "ip", "link", "set", "lo", "up"],
    ]
    try:
        for step in steps:
            if (ran := subprocess.run(step, capture_output=True, text=True, check=False)).returncode != 0:
                pytest.skip(f"no second machine can be made here: {ran.stderr.strip()}")
        yield link
    finally:
        subprocess.run(["ip", "link", "delete", f"{name}a"], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@contextlib.contextmanager
def listening_valkey(folder: Path, host: str) -> Iterator[str]:
    """A queue server on TCP that asks for a password; gives its URL."""
    password = secrets.token_hex(8)
    port = 20_000 + os.getpid() % 10_000
    options = [
        "--bind",
        host,
        "--port",
        str(port),
        "--requirepass",
        password,
        "--appendonly",
        "yes",
        "--dir",
        str(folder),
    ]
    with (folder / "valkey.log").open("w") as log:
        server = subprocess.Popen([find_server(), *options], stdout=log, stderr=log)
    url = f"redis://:{password}@{host}:{port}/0"
    try:
        with redis.Redis.from_url(url) as client:
            while True:
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    break
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(0.05)
                assert server.returncode is None, (folder / "valkey.log").read_text()
        yield url
    finally:
        server.terminate()
        server.wait()


def listening_postgres(server: Postgres, host: str) -> str:
    """Let a PostgreSQL server also listen on TCP, for a user with a password; gives the URL of a new database."""
    password = secrets.token_hex(8)
    port = server.listen(host, user="netproof", password=password)
    name = server.database().partition("@/")[2].partition("?")[0]
    server.own(name, "netproof")
    return f"postgresql+psycopg://netproof:{password}@{host}:{port}/{name}"
