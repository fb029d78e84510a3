"""``netproof check``, and ``netproof verify --certificate``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "netproof", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("certificates") / "digits.npc"
    ball = ("--data", EXAMPLES / "digits.npz", "--index", 1, "--eps", "0.1", "--domain", 0, 1)
    done = run("verify", EXAMPLES / "digits_robust.onnx", *ball, "--json", "--certificate", path)
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert verdict["trust"] == "certified"
    assert verdict["certificate"]["bytes"] == path.stat().st_size
    assert f"certificate written to {path}" in done.stderr
    return path


@pytest.mark.parametrize("options", [(), ("--exact",), ("--float32",)])
def test_a_certificate_is_proven(certificate: Path, options: tuple[str, ...]) -> None:
    done = run("check", certificate, EXAMPLES / "digits_robust.onnx", *options)
    assert done.returncode == 0, done.stderr
    kind = "float32" if options == ("--float32",) else "real"
    assert done.stdout.startswith(f"proven ({kind}): no violation of 9 clauses on 1 region(s) of 64 inputs")
    assert done.stdout.endswith("in an interval at most 0.2 wide\n  property  output 0 stays above outputs 1-9\n")


def test_another_network_is_bad_input(certificate: Path) -> None:
    done = run("check", certificate, EXAMPLES / "digits_plain.onnx")
    assert done.returncode == 2
    assert "give the file that was verified" in done.stderr


def test_a_file_that_is_no_certificate_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("not a certificate")
    done = run("check", tmp_path / "x", EXAMPLES / "digits_plain.onnx")
    assert done.returncode == 2
    assert "not a certificate" in done.stderr


def test_a_proof_with_a_hole_is_not_proven(certificate: Path, tmp_path: Path) -> None:
    from tests.certificates.proofs import pack, unpack

    manifest, arrays = unpack(certificate.read_bytes())
    manifest["trees"][0]["nodes"][0][0].pop()
    (tmp_path / "hole").write_bytes(pack(manifest, arrays))
    done = run("check", tmp_path / "hole", EXAMPLES / "digits_robust.onnx")
    assert done.returncode == 1
    assert done.stdout.startswith("not proven: no tree proves")


def test_no_certificate_without_a_proof(tmp_path: Path) -> None:
    path = tmp_path / "none"
    ball = ("--data", EXAMPLES / "digits.npz", "--index", 10, "--eps", "0.1", "--domain", 0, 1)
    done = run("verify", EXAMPLES / "digits_plain.onnx", *ball, "--certificate", path)
    assert done.returncode == 1
    assert "the verdict is not robust" in done.stderr
    assert not path.exists()


def test_exact_and_float32_exclude_each_other(certificate: Path) -> None:
    done = run("check", certificate, EXAMPLES / "digits_robust.onnx", "--exact", "--float32")
    assert done.returncode == 2


def test_from_python(certificate: Path) -> None:
    import netproof

    network = EXAMPLES / "digits_robust.onnx"
    for given in (certificate, certificate.read_bytes()):
        report = netproof.check(given, network)
        assert report.proven
        assert str(report).startswith("proven (real)")
    assert netproof.check(certificate, netproof.load(network), exact=True).exact == report.claims
