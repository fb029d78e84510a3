"""Networks straight from torch."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import networks
from networks import Network
from networks.errors import NetworkFormatError

if TYPE_CHECKING:
    import torch

__all__ = ["from_torch"]

_OPSET = 17


def from_torch(module: torch.nn.Module, example: torch.Tensor, *, name: str = "") -> Network:
    """The network that a torch module computes in evaluation mode, exported to ONNX and read back.

    What is verified is the exported model, in `Network.model`: torch folds constants and merges batch normalisation
    into convolutions, in float32. Operators are those of docs/supported.md; control flow is traced with the example.

    >>> import netproof, torch
    >>> module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    >>> network = netproof.from_torch(module, torch.zeros(1, 2, 2))
    >>> network.inputs, network.outputs, network.relus
    (4, 2, 3)

    Args:
        module: takes one tensor and returns one tensor; its mode is left as it was.
        example: an input, on the module's device, of floating point and with a first dimension of 1.
        name: what messages and reports call the network; by default the module's class.

    Raises:
        NetworkError: module or example are something else, torch cannot export the module, or the exported model
            cannot be verified.
    """
    import torch

    module = _plain(module)
    _check_example(example)
    buffer = io.BytesIO()
    training = module.training
    module.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # The exporter that needs no further package calls itself deprecated; what tracing loses stays a warning.
            warnings.simplefilter("ignore", DeprecationWarning)
            # It writes to open files as well, which its types keep quiet about.
            torch.onnx.export(module, (example,), buffer, opset_version=_OPSET, dynamo=False)  # type: ignore[arg-type]
    except Exception as error:  # torch's exporter raises whatever the module's own code does, beside errors of its own
        msg = (
            f"torch cannot export {type(module).__name__} for an example of shape {tuple(example.shape)}: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
        )
        raise NetworkFormatError(msg) from error
    finally:
        module.train(training)
    return networks.load_bytes(buffer.getvalue(), name or type(module).__name__)


def _plain(module: torch.nn.Module) -> torch.nn.Module:
    """The module itself, without what compiles it or spreads it over devices.

    Raises:
        NetworkFormatError: it is no module.
    """
    import torch

    if not isinstance(module, torch.nn.Module):
        msg = (
            f"from_torch takes a torch.nn.Module, got {type(module).__name__}; a checkpoint is first loaded into its "
            "module: module.load_state_dict(torch.load(FILE))"
        )
        raise NetworkFormatError(msg)
    inner = getattr(module, "_orig_mod", module)  # what torch.compile leaves of it
    return inner.module if isinstance(inner, torch.nn.DataParallel) else inner


def _check_example(example: torch.Tensor) -> None:
    """Refuse what torch or ONNX Runtime would refuse later in words of their own."""
    import torch

    if not isinstance(example, torch.Tensor):
        msg = (
            f"the example must be one torch tensor, got {type(example).__name__}; torch.from_numpy makes one of an "
            "array, and a module of several inputs needs a wrapper that takes one"
        )
        raise NetworkFormatError(msg)
    if example.ndim > 1 and example.shape[0] != 1:
        msg = (
            f"the example has shape {tuple(example.shape)}, and its first dimension is the batch, which must be 1: "
            "give x[:1] of a batch x, or x[None] of a single input x"
        )
        raise NetworkFormatError(msg)
