"""The root of netproof's errors, and those about input.

NetproofError
├── InputError (ValueError)            what the user sent cannot be used: exit 2, HTTP 4xx
│   ├── NetworkError                   a network file
│   │   ├── NetworkFormatError         not ONNX, truncated, too large, external data
│   │   ├── NetworkShapeError          shapes that are dynamic or do not fit together
│   │   ├── NonFiniteWeightError       NaN or infinity among the weights
│   │   └── UnsupportedOperatorError   an op, attribute or opset outside the supported set
│   ├── RegionError                    an empty, non-finite or misshapen input region
│   ├── PropertyError                  a label, target or row that does not fit the network
│   ├── VnnlibError                    a VNNLIB file that cannot be read
│   └── DatasetError                   a data set or an index into it
└── SoundnessError (AssertionError)    two proven facts contradict each other; never caught to continue

Messages say what came, what was expected and what to do.
"""

from __future__ import annotations

__all__ = [
    "DatasetError",
    "InputError",
    "NetproofError",
    "NetworkError",
    "NetworkFormatError",
    "NetworkShapeError",
    "NonFiniteWeightError",
    "PropertyError",
    "RegionError",
    "SoundnessError",
    "UnsupportedOperatorError",
    "VnnlibError",
]


class NetproofError(Exception):
    """Root of every error that netproof raises on purpose."""


class InputError(NetproofError, ValueError):
    """What the user sent cannot be used as it is."""


class NetworkError(InputError):
    """A network file that cannot be verified."""


class NetworkFormatError(NetworkError):
    """Not an ONNX file, truncated, too large, or with external data."""


class NetworkShapeError(NetworkError):
    """Shapes that stay dynamic or do not fit together."""


class NonFiniteWeightError(NetworkError):
    """NaN or infinity among the weights."""


class UnsupportedOperatorError(NetworkError):
    """An operator (or an attribute of one) outside the supported set.

    Attributes: node, op, opset and shape name the place, as far as they are known.
    """

    def __init__(
        self,
        message: str,
        *,
        node: str = "",
        op: str = "",
        opset: int = 0,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(message)
        self.node = node
        self.op = op
        self.opset = opset
        self.shape = shape


class RegionError(InputError):
    """An input region that is empty, non-finite or of the wrong shape."""


class PropertyError(InputError):
    """A property that does not fit the network's outputs."""


class VnnlibError(InputError):
    """A VNNLIB file that cannot be read."""


class DatasetError(InputError):
    """A data set, or an index into one, that cannot be used."""


class SoundnessError(NetproofError, AssertionError):
    """Two facts that were both proven contradict each other."""
