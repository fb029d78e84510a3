"""Who asks, and what is theirs: keys, scopes, owners, quotas, rate limits, sessions and the audit log.

`service.access.principal` is what the rest of the service knows of a caller; `service.access.dependencies` finds out
who it is. With access off, everybody is the one local principal, which may do everything.
"""

from __future__ import annotations

from service.access.principal import LOCAL, Principal, Quota, Scope

__all__ = ["LOCAL", "Principal", "Quota", "Scope"]
