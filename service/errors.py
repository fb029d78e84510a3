"""Errors of the service package.

NetproofError (networks.errors)
└── ServiceError
    ├── NotFoundError (LookupError)         no such network, data set, job, batch or artifact: HTTP 404
    ├── ConflictError (RuntimeError)        the request contradicts what is recorded: HTTP 409 or 422
    │   ├── StateChangeError                a job or batch cannot go from its state to the wanted one
    │   ├── InUseError                      something else still refers to what is to be removed
    │   └── IdempotencyError (ValueError)   a key was used before with another request
    ├── StorageError (OSError)              artifacts cannot be read or written: HTTP 503
    │   ├── StorageFullError                there is no room for them: HTTP 507
    │   └── StorageDamagedError             one has other bytes than its name says: HTTP 500
    ├── QuotaError (RuntimeError)           an owner has, or uses, as much as its key allows: HTTP 429
    ├── TooLargeError (ValueError)          an upload beyond the limit: HTTP 413
    ├── BackupError (ValueError)            a folder holds no backup, or a deployment is not empty
    ├── SchemaError (RuntimeError)          the ledger's schema is not one that this version knows
    └── EmbeddedServerError (RuntimeError)  no queue server could be started
"""

from __future__ import annotations

from networks.errors import NetproofError

__all__ = [
    "BackupError",
    "ConflictError",
    "EmbeddedServerError",
    "IdempotencyError",
    "InUseError",
    "NotFoundError",
    "QuotaError",
    "SchemaError",
    "ServiceError",
    "StateChangeError",
    "StorageDamagedError",
    "StorageError",
    "StorageFullError",
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
    """A job, or a batch, cannot go from ``before`` to ``after``."""

    def __init__(self, key: str, before: str, after: str, *, kind: str = "job") -> None:
        super().__init__(f"{kind} {key} is {before}, and a {before} {kind} cannot become {after}")
        self.key = key
        self.before = before
        self.after = after


class InUseError(ConflictError):
    """What is to be removed is still needed; the message says by what, and what to do."""


class IdempotencyError(ConflictError, ValueError):
    """The idempotency key ``key`` came earlier with another request; ``owner`` names what that request made."""

    def __init__(self, key: str, owner: str) -> None:
        super().__init__(
            f"idempotency key {key!r} belongs to {owner}, which was asked something else; "
            "send a new key with a new request"
        )
        self.key = key
        self.owner = owner


class StorageError(ServiceError, OSError):
    """Artifacts cannot be read or written now."""


class StorageDamagedError(StorageError):
    """An artifact has other bytes than its name says."""


class StorageFullError(StorageError):
    """There is no room for artifacts now."""


class QuotaError(ServiceError, RuntimeError):
    """An owner has, or uses, as much as its key allows; ``seconds`` is after how long to ask again."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class TooLargeError(ServiceError, ValueError):
    """More than ``limit`` bytes were sent."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the file is larger than {limit} bytes, the most that this service accepts; "
            "ask its operator to raise NETPROOF_MAX_MODEL_BYTES, or NETPROOF_MAX_DATASET_BYTES"
        )
        self.limit = limit


class BackupError(ServiceError, ValueError):
    """A backup cannot be written to, or brought back from, where it was said."""


class SchemaError(ServiceError, RuntimeError):
    """The ledger has schema ``found``, which cannot be brought to ``expected``."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(
            f"the ledger has schema {found}, but this netproof knows schemas up to {expected}; start a version at "
            "least as new as the one that migrated it"
        )
        self.found = found
        self.expected = expected


class EmbeddedServerError(ServiceError, RuntimeError):
    """No queue server could be started on this machine."""
