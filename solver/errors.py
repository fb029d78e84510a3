"""Errors of the solver package.

NetproofError (networks.errors)
├── BackendError (RuntimeError)        a MIP solver that cannot serve the request
│   ├── BackendUnavailableError        not installed, or no licence
│   ├── LicenceLimitError              the model exceeds the licence's size
│   ├── ModelSizeError                 the model is too large to be built
│   └── NumericsError                  coefficients that the solver would drop or refuse
└── InputError (networks.errors)
    └── RecordsError                   a file of audit records that cannot be continued
"""

from __future__ import annotations

from networks.errors import InputError, NetproofError

__all__ = [
    "BackendError",
    "BackendUnavailableError",
    "LicenceLimitError",
    "ModelSizeError",
    "NumericsError",
    "RecordsError",
]


class BackendError(NetproofError, RuntimeError):
    """A MIP solver that cannot serve the request."""


class BackendUnavailableError(BackendError):
    """The solver is not installed or has no licence."""


class LicenceLimitError(BackendError):
    """The model is larger than the solver's licence admits."""


class ModelSizeError(BackendError):
    """The model would be too large to be built."""


class NumericsError(BackendError):
    """Coefficients outside the range that the solver handles faithfully."""


class RecordsError(InputError):
    """A file of audit records that cannot be continued."""
