"""Checking a certificate, away from the web process: its side, and the reader's.

`main` is the reader, a process of its own that is confined as `service.sandbox` says: it runs the independent checker
on a stranger's files and prints one JSON object: the report, or the refusal.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from certificates.errors import CertificateError
from networks.errors import InputError
from service.problems import CHECK_UNFINISHED, ProblemError
from service.readers import ReaderError, Readers
from service.sandbox import confine
from solver.sizes import is_memory_error

__all__ = ["check", "main"]


async def check(
    readers: Readers, certificate: Path, network: Path, *, exact: bool, seconds: float, memory_mb: int
) -> dict[str, Any]:
    """What the checker finds, as `certificates.Report.to_json` writes it, and what the certificate is about, in words.

    Args:
        readers: have it checked.
        certificate: the file.
        network: the ONNX file.
        exact: decide every claim in exact arithmetic.
        seconds: limit on the reader's wall clock.
        memory_mb: limit on its memory.

    Raises:
        CertificateError: the file is no certificate, or one about another network.
        ProblemError: the limits were reached before the check had ended.
    """
    try:
        reply = await readers.ask(
            __name__,
            *(str(certificate), str(network), *(["--exact"] if exact else [])),
            *("--memory-mb", str(memory_mb), "--seconds", f"{seconds:g}"),
            seconds=seconds,
        )
    except TimeoutError as error:
        detail = f"the check did not end within {seconds:g} seconds; run `netproof check` on a machine of your own"
        raise ProblemError(CHECK_UNFINISHED, detail) from error
    except ReaderError as error:
        detail = f"the checker ended with {error}; run `netproof check` on a machine of your own"
        raise ProblemError(CHECK_UNFINISHED, detail) from error
    if "unfinished" in reply:
        raise ProblemError(CHECK_UNFINISHED, reply["unfinished"])
    if "refused" in reply:
        raise CertificateError(reply["refused"])
    return reply


def main(arguments: list[str] | None = None) -> int:
    """Print the report or the refusal; status 0 either way, since both are answers."""
    parser = argparse.ArgumentParser(prog="service.checking", description=__doc__)
    parser.add_argument("certificate", type=Path)
    parser.add_argument("network", type=Path)
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--memory-mb", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args(arguments)
    # imported before the limits are set, which count from what is mapped then
    import onnx  # noqa: F401

    from certificates.command import check_files

    confine(memory_mb=options.memory_mb, seconds=options.seconds, reads=[options.certificate, options.network])
    try:
        report, question = check_files(options.certificate, options.network, semantics="strongest", exact=options.exact)
        reply = report.to_json() | {"summary": str(report), "question": question}
    except InputError as error:
        reply = {"refused": str(error)}
    except (MemoryError, RuntimeError) as error:
        if not is_memory_error(error):
            raise
        reply = {"unfinished": f"the check needs more than {options.memory_mb} MB of memory"}
    print(json.dumps(reply))
    return 0
