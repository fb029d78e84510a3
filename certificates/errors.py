"""Errors of the certificates package.

NetproofError (networks.errors)
└── InputError
    └── CertificateError               a file that is not a certificate of this version, damaged, or beyond the limits

A certificate that is well formed but proves nothing raises no error: the checker's report says which claim fails.
"""

from __future__ import annotations

from typing import Any

from networks.errors import InputError

__all__ = ["CertificateError", "require"]


class CertificateError(InputError):
    """A certificate that cannot be read as one."""


def require(holds: bool, expected: str, found: Any) -> None:
    """Refuses a certificate in which something was found where something else was expected."""
    if not holds:
        msg = f"the certificate is malformed: expected {expected}, got {repr(found)[:80]}"
        raise CertificateError(msg)
