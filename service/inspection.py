"""Reading an uploaded network, away from the web process.

Parsing ONNX means running a large native parser on a stranger's bytes, so a process of its own does it, confined as
`service.sandbox` says. `inspect` is the web process's side and imports nothing heavy; `main` is the reader, which
prints one JSON object: the summary, or the refusal with the name of the error class.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from networks import errors
from networks.errors import NetproofError, NetworkError, NetworkFormatError
from service.readers import ReaderError, Readers
from service.sandbox import confine
from solver.sizes import is_memory_error

__all__ = ["inspect", "inspect_network", "main"]

_MAX_BYTES = 512 * 2**20
#: What reading takes of memory: a hundredth of a gigabyte of weights must not get what a gigabyte needs.
_FEWEST_MB, _COPIES = 2048, 12


async def inspect(
    readers: Readers, path: Path, *, name: str, seconds: float, memory_mb: int, max_bytes: int
) -> dict[str, Any]:
    """What the network file at ``path`` holds, see `inspect_network`.

    Args:
        readers: have it read.
        path: the file.
        name: what the user calls it, for messages.
        seconds: limit on the reader's wall clock.
        memory_mb: limit on the reader's memory; small files get less, see `_memory_for`.
        max_bytes: largest network, decompressed.

    Raises:
        NetworkError: the network cannot be verified, or not be read within the limits.
    """
    try:
        reply = await readers.ask(
            __name__,
            *(str(path), "--name", name, "--max-bytes", str(max_bytes)),
            *("--memory-mb", str(_memory_for(path, memory_mb)), "--seconds", f"{seconds:g}"),
            seconds=seconds,
        )
    except TimeoutError as error:
        msg = (
            f"{name or 'the network'} could not be read within {seconds:g} seconds; simplify the model, or ask the "
            "operator to raise NETPROOF_INSPECT_SECONDS"
        )
        raise NetworkFormatError(msg) from error
    except ReaderError as error:
        msg = (
            f"{name or 'the network'} could not be read: the ONNX parser ended with {error}; "
            "check the file with onnx.checker.check_model"
        )
        raise NetworkFormatError(msg) from error
    if "refused" in reply:
        raise _rebuilt(reply["refused"])
    return reply


def _memory_for(path: Path, most: int) -> int:
    """MB that reading a file may take: several copies of its weights, and the values of some inputs in every layer."""
    return min(most, _FEWEST_MB + _COPIES * path.stat().st_size // 2**20)


def _rebuilt(refusal: dict[str, Any]) -> NetproofError:
    """The reader's error, as if it had been raised here."""
    kind = getattr(errors, refusal["error"], NetworkError)
    if not (isinstance(kind, type) and issubclass(kind, NetproofError)):
        kind = NetworkError
    details = refusal.get("details", {})
    if details.get("shape") is not None:
        details["shape"] = tuple(details["shape"])
    return kind(refusal["message"], **details)


def inspect_network(path: Path, *, name: str = "", max_bytes: int = _MAX_BYTES) -> dict[str, Any]:
    """Load a network and say what it is; imports ONNX.

    Returns:
        `networks.summary.summarise` of it.

    Raises:
        NetworkError: the network cannot be verified.
    """
    import networks
    from networks.summary import summarise

    return summarise(networks.load_bytes(path.read_bytes(), name or path.name, max_bytes=max_bytes))


def _refusal(error: Exception, memory_mb: int) -> dict[str, Any]:
    if is_memory_error(error):
        message = f"reading the network takes more than {memory_mb} MB of memory; it is too large for this service"
        return {"error": NetworkFormatError.__name__, "message": message}
    details = {}
    if isinstance(error, errors.UnsupportedOperatorError):
        details = {"node": error.node, "op": error.op, "opset": error.opset, "shape": error.shape}
    return {"error": type(error).__name__, "message": str(error), "details": details}


def main(arguments: list[str] | None = None) -> int:
    """Print the summary or the refusal of one file; status 0 either way, since both are answers."""
    parser = argparse.ArgumentParser(prog="service.inspection", description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--name", default="")
    parser.add_argument("--memory-mb", type=int, default=4096)
    parser.add_argument("--max-bytes", type=int, default=_MAX_BYTES)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args(arguments)
    # imported before the limits are set, which count from what is mapped then
    import onnx  # noqa: F401

    from networks.runtime import onnx_runtime

    onnx_runtime()
    confine(memory_mb=options.memory_mb, seconds=options.seconds, reads=[options.path])
    try:
        reply = inspect_network(options.path, name=options.name, max_bytes=options.max_bytes)
    except (NetworkError, MemoryError) as error:
        reply = {"refused": _refusal(error, options.memory_mb)}
    except RuntimeError as error:
        if not is_memory_error(error):
            raise
        reply = {"refused": _refusal(error, options.memory_mb)}
    print(json.dumps(reply))
    return 0
