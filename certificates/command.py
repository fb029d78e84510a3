"""Checking files, as the command lines do."""

from __future__ import annotations

from pathlib import Path

from certificates.checker import Report, check
from certificates.reading import MAX_FILE, read
from certificates.wording import worded
from networks.onnx_model import read_bytes, read_most
from networks.onnx_reader import load_bytes

__all__ = ["check_files"]


def check_files(
    certificate: str | Path, network: str | Path, *, semantics: str = "real", exact: bool = False
) -> tuple[Report, list[str]]:
    """Checks the certificate in one file against the network in another; see `certificates.check`.

    The network is not compared with ONNX Runtime, which the checker does without: that belongs to verifying.

    Returns:
        The report, and what the certificate is about, in lines of words: of the same bytes that were checked, even if
        the file is replaced meanwhile.

    Raises:
        CertificateError: the file is no certificate, or one about another network.
    """
    with Path(certificate).open("rb") as file:
        data = read_most(file, MAX_FILE)
    model = load_bytes(read_bytes(network), Path(network).name, compare=False)
    return check(data, model, semantics=semantics, exact=exact), worded(read(data).query)
