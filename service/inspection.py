"""Reading an uploaded network, away from the web process.

Parsing ONNX means running a large native parser on a stranger's bytes, so a child process does it under limits on time
and memory. `inspect` is the parent's side and imports nothing heavy; ``python -m service.inspection PATH`` is the
child, which prints one JSON object: the summary, or the refusal with the name of the error class.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from networks import errors
from networks.errors import NetproofError, NetworkError, NetworkFormatError
from service.child import ChildError, ask
from service.limits import die_with_parent, limit_memory
from solver.sizes import is_memory_error

__all__ = ["inspect", "inspect_network", "main"]

_MAX_BYTES = 512 * 2**20


async def inspect(path: Path, *, name: str, seconds: float, memory_mb: int, max_bytes: int) -> dict[str, Any]:
    """What the network file at ``path`` holds, see `inspect_network`.

    Args:
        path: the file.
        name: what the user calls it, for messages.
        seconds: limit on the child's wall clock.
        memory_mb: limit on the child's memory.
        max_bytes: largest network, decompressed.

    Raises:
        NetworkError: the network cannot be verified, or not be read within the limits.
    """
    try:
        reply = await ask(
            __name__,
            *(str(path), "--name", name, "--memory-mb", str(memory_mb), "--max-bytes", str(max_bytes)),
            seconds=seconds,
        )
    except TimeoutError as error:
        msg = (
            f"{name or 'the network'} could not be read within {seconds:g} seconds; simplify the model, or ask the "
            "operator to raise NETPROOF_INSPECT_SECONDS"
        )
        raise NetworkFormatError(msg) from error
    except ChildError as error:
        msg = (
            f"{name or 'the network'} could not be read: the ONNX parser ended with {error}; "
            "check the file with onnx.checker.check_model"
        )
        raise NetworkFormatError(msg) from error
    if "refused" in reply:
        raise _rebuilt(reply["refused"])
    return reply


def _rebuilt(refusal: dict[str, Any]) -> NetproofError:
    """The child's error, as if it had been raised here."""
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
    parser = argparse.ArgumentParser(prog="python -m service.inspection", description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--name", default="")
    parser.add_argument("--memory-mb", type=int, default=4096)
    parser.add_argument("--max-bytes", type=int, default=_MAX_BYTES)
    parser.add_argument("--parent", type=int, default=None)
    options = parser.parse_args(arguments)
    if options.parent is not None:
        die_with_parent(options.parent)
    # imported before the limit is set, which counts from what is mapped then
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401

    limit_memory(options.memory_mb)
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


if __name__ == "__main__":
    sys.exit(main())
