"""A PostgreSQL server of the tests' own, where PostgreSQL is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from service.ledger import Ledger
from service.models import metadata

__all__ = ["Postgres", "postgres_server"]


class Postgres:
    """A running server on a socket in ``folder``, with databases made as they are asked for."""

    def __init__(self, folder: Path, user: str, control: list[str | Path]) -> None:
        self._folder = folder
        self._control = control
        self._user = user
        self._made = 0
        self._shared: str | None = None

    def restart(self) -> bool:
        """Break all connections and be away for a moment."""
        subprocess.run([*self._control, "-m", "immediate", "restart"], check=True, stdout=subprocess.DEVNULL)
        return True

    def database(self) -> str:
        """The URL of a new database; each takes seven megabytes and as many files as a hundred tests do not need."""
        self._made += 1
        engine = create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE test{self._made}"))
        engine.dispose()
        return self._url(f"test{self._made}")

    def listen(self, host: str, *, user: str, password: str) -> int:
        """Also listen on TCP, where ``user`` has to show the password; returns the port."""
        engine = create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'"))
        engine.dispose()
        with (self._folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all {user} 0.0.0.0/0 scram-sha-256\n")
        options = f"-c unix_socket_directories='{self._folder}' -c fsync=off -c listen_addresses='{host}'"
        subprocess.run([*self._control, "-m", "fast", "stop"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([*self._control, "-o", options, "start"], check=True, stdout=subprocess.DEVNULL)
        return 5432

    def own(self, database: str, user: str) -> None:
        """Give a database to a user."""
        engine = create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {database} OWNER TO {user}"))
        engine.dispose()

    def emptied(self) -> str:
        """The URL of one database with all tables and no rows, for tests that come one after the other."""
        if self._shared is None:
            self._shared = self.database()
            ledger = Ledger(self._shared)
            ledger.create()
            ledger.close()
        engine = create_engine(self._shared)
        with engine.begin() as connection:
            connection.execute(text(f"TRUNCATE {', '.join(table.name for table in metadata.sorted_tables)}"))
        engine.dispose()
        return self._shared

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://{self._user}@/{name}?host={self._folder}"


@contextmanager
def postgres_server(folder: Path) -> Iterator[Postgres]:
    """A server that ends with the context; skips the test where there is none to start."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'netproof[postgres]'")
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), None]
    programs = {name: _program(name, places) for name in ("initdb", "pg_ctl")}
    if None in programs.values():
        pytest.skip("PostgreSQL is not installed")
    become, user = _unprivileged(folder)
    data = folder / "data"
    # no fsync: a crash of this server loses nothing that anybody wants
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
    subprocess.run(
        [*become, programs["initdb"], "-D", data, "-A", "trust", "-U", user], check=True, capture_output=True
    )
    control = [*become, programs["pg_ctl"], "-D", data, "-l", folder / "log", "-w"]
    subprocess.run([*control, "-o", options, "start"], check=True, stdout=subprocess.DEVNULL)
    try:
        yield Postgres(folder, user, control)
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL)


def _program(name: str, places: list[Path | None]) -> str | None:
    found = (shutil.which(name, path=None if place is None else str(place)) for place in places)
    return next((program for program in found if program), None)


def _unprivileged(folder: Path) -> tuple[list[str], str]:
    """A prefix of commands that gives up root, which PostgreSQL refuses to run as, and the user that runs them."""
    if os.getuid() != 0:
        return [], pwd.getpwuid(os.getuid()).pw_name
    user = next((entry.pw_name for entry in pwd.getpwall() if entry.pw_name in {"postgres", "nobody"}), None)
    if user is None or shutil.which("setpriv") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no other user to run it as")
    entry = pwd.getpwnam(user)
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"], user
