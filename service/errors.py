"""Errors of the service package.

NetproofError (networks.errors)
└── ServiceError
    ├── NotFoundError (LookupError)         no such network, job or artifact: HTTP 404
    ├── ConflictError (RuntimeError)        the request contradicts what is recorded: HTTP 409 or 422
    │   ├── StateChangeError                a job cannot go from its state to the wanted one
    │   └── IdempotencyError (ValueError)   a key was used before with another request
    ├── TooLargeError (ValueError)          an upload beyond the limit: HTTP 413
    └── EmbeddedServerError (RuntimeError)  no queue server could be started
"""

from __future__ import annotations

from networks.errors import NetproofError

__all__ = [
    "ConflictError",
    "EmbeddedServerError",
    "IdempotencyError",
    "NotFoundError",
    "ServiceError",
    "StateChangeError",
    "TooLargeError",
]


class ServiceError(NetproofError):
    """Root of the service's errors."""


class NotFoundError(ServiceError, LookupError):
    """There is no such thing; ``kind`` and ``key`` say which."""

    def __init__(self, key: str, *, kind: str) -> None:
        super().__init__(f"there is no {kind} {key!r}; check the identifier, or create it first")
        self.kind = kind
        self.key = key


class ConflictError(ServiceError, RuntimeError):
    """The request contradicts what is recorded."""


class StateChangeError(ConflictError):
    """A job cannot go from ``before`` to ``after``."""

    def __init__(self, job: str, before: str, after: str) -> None:
        super().__init__(f"job {job} is {before}, and a {before} job cannot become {after}")
        self.job = job
        self.before = before
        self.after = after


class IdempotencyError(ConflictError, ValueError):
    """The idempotency key ``key`` came earlier with another request."""

    def __init__(self, key: str, job: str) -> None:
        super().__init__(
            f"idempotency key {key!r} belongs to job {job}, which was asked something else; "
            "send a new key with a new request"
        )
        self.key = key
        self.job = job


class TooLargeError(ServiceError, ValueError):
    """More than ``limit`` bytes were sent."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the file is larger than {limit} bytes, the most that this service accepts; "
            "ask its operator to raise NETPROOF_MAX_MODEL_BYTES"
        )
        self.limit = limit


class EmbeddedServerError(ServiceError, RuntimeError):
    """No queue server could be started on this machine."""
