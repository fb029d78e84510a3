"""Errors of the certificates package.

NetproofError (networks.errors)
└── InputError
    └── CertificateError               a file that is not a certificate of this version, damaged, or beyond the limits

A certificate that is well formed but proves nothing raises no error: the checker's report says which claim fails.
"""

from __future__ import annotations

from networks.errors import InputError

__all__ = ["CertificateError"]


class CertificateError(InputError):
    """A certificate that cannot be read as one."""
