"""Certificates: proofs of robustness as files, and the small program that checks them with NumPy alone.

The checker reads the ONNX file itself and trusts nothing in the certificate; torch, MIP solvers and ONNX Runtime are
never imported here. ``python -m certificates CERTIFICATE NETWORK`` runs it in a process of its own.
"""

from __future__ import annotations

from certificates.checker import Report, check
from certificates.document import BoxSplit, Certificate, Claim, Node, PhaseSplit, Tree, write
from certificates.errors import CertificateError
from certificates.reading import read
from certificates.slopes import NeuronSlopes

__all__ = [
    "BoxSplit",
    "Certificate",
    "CertificateError",
    "Claim",
    "NeuronSlopes",
    "Node",
    "PhaseSplit",
    "Report",
    "Tree",
    "check",
    "read",
    "write",
]
