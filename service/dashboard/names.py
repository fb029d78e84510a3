"""What networks are called, for pages that would show their hashes."""

from __future__ import annotations

from service.access.principal import Principal
from service.parts import Parts

__all__ = ["network_names"]

#: Older networks are shown by their hashes.
_NEWEST = 200


def network_names(parts: Parts, caller: Principal) -> dict[str, str]:
    """The names of the caller's newest networks, by sha256."""
    return {each.sha256: each.name for each in parts.ledger.networks(limit=_NEWEST, owner=caller.reach)}
