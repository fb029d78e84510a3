"""``python -m certificates CERTIFICATE NETWORK``: check one certificate, print what was found and what it is about.

Exit codes: 0 proven, 1 not proven, 2 bad input.
"""

from __future__ import annotations

import argparse
import sys

from certificates.command import check_files
from networks.errors import InputError

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Checks the files named on the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m certificates", description="Check a certificate of robustness.")
    parser.add_argument("certificate", help="the certificate file")
    parser.add_argument("network", help="the ONNX file that it is about (also .onnx.gz)")
    parser.add_argument("--float32", action="store_true", help="prove float32 inference too, in any summation order")
    parser.add_argument("--exact", action="store_true", help="decide every claim in exact arithmetic")
    options = parser.parse_args(arguments)
    semantics = "float32" if options.float32 else "real"
    try:
        report, question = check_files(options.certificate, options.network, semantics=semantics, exact=options.exact)
    except (InputError, OSError) as error:
        print(f"bad input: {error}", file=sys.stderr)
        return 2
    print("\n  ".join([str(report), *question]))
    return 0 if report.proven else 1


if __name__ == "__main__":
    sys.exit(main())
