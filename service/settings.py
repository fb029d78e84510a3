"""Everything that an operator may set, from ``NETPROOF_*`` environment variables.

One object is built at the edge (command line, worker entry, test) and handed down; no other module reads the
environment.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings"]


#: More web processes than that are worth their memory only to those who ask for them.
_MOST_WEBS = 4
#: sockaddr_un holds 108 bytes on Linux and 104 on macOS, with the final zero.
_SOCKET_PATH_BYTES = 103


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "netproof"


class Settings(BaseSettings):
    """Settings of one deployment; the web process, its workers and its reaper must agree on them."""

    model_config = SettingsConfigDict(env_prefix="NETPROOF_", env_ignore_empty=True, frozen=True, extra="forbid")

    data_dir: Path = Field(default_factory=_default_data_dir, description="ledger, artifacts and logs live here")
    database_url: str | None = Field(default=None, description="SQLAlchemy URL; None: SQLite in data_dir")
    redis_url: str | None = Field(default=None, description="Redis or Valkey; None: an embedded server")
    artifacts: str | None = Field(
        default=None, description="folder or fsspec URL of artifacts, such as s3://bucket/prefix; None: in data_dir"
    )
    artifact_cache_mb: int = Field(default=8192, ge=1, description="local copies of artifacts that a URL keeps")
    access: Literal["auto", "on", "off"] = Field(
        default="auto", description="whether callers need a key; auto: unless the service listens on loopback only"
    )
    keep_jobs_days: float | None = Field(default=None, ge=0, description="ended jobs are kept so long; None: for ever")
    keep_batches_days: float | None = Field(default=None, ge=0, description="the same for batches, by their end")
    keep_networks_days: float | None = Field(
        default=None, ge=0, description="networks and data sets that no job and no batch is about are kept so long"
    )
    keep_audit_days: float | None = Field(default=None, ge=0, description="entries of the audit log are kept so long")
    gc_safety_hours: float = Field(
        default=24.0, ge=0, description="what nothing refers to is kept so long, and an hour more than any job takes"
    )
    quota_running: int | None = Field(default=None, ge=1, description="jobs of one owner that run at the same time")
    quota_queued: int | None = Field(default=None, ge=1, description="questions of one owner that have not ended")
    quota_batches: int | None = Field(default=None, ge=1, description="batches of one owner that have not ended")
    quota_cpu_seconds: float | None = Field(default=None, gt=0, description="CPU seconds of one owner on one day")
    quota_model_bytes: int | None = Field(default=None, ge=1, description="the largest network of one owner")
    quota_time_limit: float | None = Field(default=None, gt=0, description="the longest time limit of one owner")
    quota_rate: float | None = Field(default=100.0, gt=0, description="requests of one key a second")
    quota_burst: int | None = Field(default=400, ge=1, description="requests of one key at once")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    allowed_hosts: str | None = Field(
        default=None,
        description="names that requests may be addressed to, comma-separated, or *; None: any where callers need "
        "a key, else this machine's own",
    )

    web_processes: int | None = Field(
        default=None, ge=1, description="processes that answer HTTP; None: one a core, at most 4"
    )
    workers: int = Field(default=2, ge=0, description="worker processes that `netproof serve` starts")
    threads: int | None = Field(default=None, ge=1, description="threads of one job; None: cores / workers")
    memory_limit_mb: int = Field(default=8192, ge=256, description="address space that one job may add to its worker's")
    max_attempts: int = Field(default=3, ge=1, description="attempts before a job fails as worker_lost")

    default_time_limit: float = Field(default=300.0, gt=0, description="seconds of a query that names no limit")
    max_time_limit: float = Field(default=86_400.0, gt=0)
    wait_max: float = Field(default=60.0, ge=0, description="longest `?wait=` and `Prefer: wait=`, seconds")
    max_model_bytes: int = Field(default=512 * 2**20, ge=1)
    max_dataset_bytes: int = Field(default=2**30, ge=1, description="largest data set, unpacked")
    max_batch_items: int = Field(default=200_000, ge=1, description="items of one batch: inputs times epsilons")
    inspect_seconds: float = Field(default=60.0, gt=0, description="time that reading an uploaded file may take")

    check_seconds: float = Field(default=60.0, gt=0, description="time that checking a certificate may take")

    probe_seconds: float = Field(default=2.0, gt=0, description="time that a part has to answer /readyz and /metrics")
    log_format: Literal["text", "json"] = Field(default="text", description="of the lines on stderr")
    shutdown_delay: float = Field(
        default=0.0, ge=0, description="on SIGTERM the web process answers on for so many seconds, as not ready"
    )
    min_free_mb: int = Field(default=256, ge=0, description="with less free disk in data_dir, /readyz says not ready")
    scale_seconds: float = Field(default=60.0, gt=0, description="autoscaling: within this, queued jobs should be done")

    share_workers: int = Field(default=100, ge=0, description="idle workers that may help one hard query; 0: none")
    share_after: float = Field(default=5.0, ge=0, description="seconds that a search takes before others help it")
    share_worth: float = Field(
        default=1.0, ge=0, description="seconds of work that make a part of a query worth its way"
    )
    share_seconds: float = Field(default=15.0, gt=0, description="a helper answers after this, with what is left")

    heartbeat_seconds: float = Field(default=0.5, gt=0, description="a running job renews its lease this often")
    lease_seconds: float = Field(default=15.0, gt=0, description="a job whose lease is older has lost its worker")
    grace_seconds: float = Field(default=10.0, ge=0, description="past its time limit a job is killed after this")
    cancel_seconds: float = Field(default=5.0, gt=0, description="a cancelled job that goes on is killed after this")
    drain_seconds: float = Field(default=5.0, ge=0, description="on SIGTERM a job may finish within this")
    reap_seconds: float = Field(default=5.0, gt=0, description="period of the reaper")
    stray_seconds: float = Field(default=20.0, gt=0, description="queued this long but in no queue: put back")

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.lease_seconds < 3 * self.heartbeat_seconds:
            msg = (
                f"lease_seconds ({self.lease_seconds:g}) must be at least three times heartbeat_seconds "
                f"({self.heartbeat_seconds:g}), or one slow renewal loses a healthy worker"
            )
            raise ValueError(msg)
        if self.artifacts is not None and "@" in urlsplit(self.artifacts).netloc:
            msg = (
                "artifacts must not hold credentials, which would end up in logs; leave them to the environment, such "
                "as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
            raise ValueError(msg)
        if self.default_time_limit > self.max_time_limit:
            msg = (
                f"default_time_limit ({self.default_time_limit:g}) exceeds max_time_limit ({self.max_time_limit:g}); "
                "raise the latter or lower the former"
            )
            raise ValueError(msg)
        return self

    @cached_property
    def access_on(self) -> bool:
        """Whether callers need a key."""
        return self.access == "on" or (self.access == "auto" and not self.loopback)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'ledger.db'}"

    @property
    def socket(self) -> Path:
        """Unix socket of the embedded queue server.

        It lies in ``data_dir``; when that path is longer than a socket address may be, in a private folder under the
        system's temporary one, named after ``data_dir`` so that every process finds the same.
        """
        path = self.data_dir.absolute() / "valkey.sock"
        if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES:
            return path
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"netproof-{os.getuid()}-{digest}" / "valkey.sock"

    @property
    def queue_url(self) -> str:
        """URL of the Redis or Valkey server, the embedded one by default."""
        return self.redis_url or f"unix://{self.socket}"

    @property
    def artifact_dir(self) -> Path:
        """Where artifacts are kept, unless ``artifacts`` names another place."""
        return self.data_dir / "artifacts"

    @property
    def artifact_cache_dir(self) -> Path:
        """Local copies of artifacts that are kept elsewhere."""
        return self.data_dir / "cache"

    @property
    def log_dir(self) -> Path:
        """Where job tracebacks and dumps go."""
        return self.data_dir / "logs"

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for processes to be started."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {f"NETPROOF_{name.upper()}": str(value) for name, value in values.items()}

    @cached_property
    def webs(self) -> int:
        """Processes that answer HTTP on this machine."""
        return self.web_processes or min(os.cpu_count() or 1, _MOST_WEBS)

    @cached_property
    def job_threads(self) -> int:
        """CPU threads of one job: by default all workers together use each core once."""
        return self.threads or max(1, (os.cpu_count() or 1) // max(1, self.workers))
