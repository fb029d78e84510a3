"""The checker's process: what it answers, what it imports, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from certificates import Report
from solver import Budget, Options, Trust, verify
from solver.checking import Checker
from tests.certificates.proofs import proven
from tests.random_networks import random_dense

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="worker processes need POSIX")


def go_on():
    return False


def test_one_process_checks_one_certificate_after_the_other():
    network, data = proven("boxes")
    with Checker(network) as checker:
        first = checker.check(data, go_on)
        pid = checker._child.pid
        assert isinstance(first, Report)
        assert first.proven
        assert checker.check(data, go_on).claims == first.claims
        assert "damaged" in checker.check(data[:80], go_on) or "not a certificate" in checker.check(data[:80], go_on)
        assert checker.check(data, go_on).proven, "a bad file ends nothing"
        assert checker._child.pid == pid
    assert not psutil.pid_exists(pid)


def test_a_certificate_about_another_network_is_refused():
    _, data = proven("root")
    with Checker(random_dense(77)) as checker:
        assert "about the network with sha256" in checker.check(data, go_on)


def test_the_strongest_claim_is_reported():
    network, data = proven("root")
    with Checker(network) as checker:
        assert checker.check(data, go_on).semantics == "float32"
    verdict = verify(network, _query(data), options=Options(certificate=True), budget=Budget(60, 1))
    assert (verdict.trust, verdict.semantics) == (Trust.CERTIFIED, "float32")
    assert verdict.to_json()["semantics"] == "float32"
    assert verdict.to_json()["certificate"]["leaves"] == verdict.checked.claims


def _query(data):
    from certificates import read

    return read(data).query


def test_a_check_that_takes_too_long_is_given_up_and_the_next_starts_anew():
    network, data = proven("root")
    with Checker(network) as checker:
        assert checker.check(data, lambda: True) == "the check did not end within the budget"
        assert checker.check(data, go_on).proven


def test_a_checker_that_dies_certifies_nothing():
    network, data = proven("root")
    with Checker(network) as checker:
        checker.check(data, go_on)
        os.kill(checker._child.pid, 9)
        assert checker.check(data, go_on) == "the checker ended with code -9"


def test_the_process_imports_numpy_and_the_reading_of_onnx_alone():
    probe = (
        "import sys; from certificates.serving import serve; import onnx; print(sorted({name.partition('.')[0] for name"
        " in sys.modules} & {'torch', 'pyomo', 'scipy', 'highspy', 'gurobipy', 'onnxruntime', 'bounds', 'solver'}))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_the_checker_ends_with_its_prover():
    code = (
        "import os, time; from solver.checking import Checker; from tests.random_networks import random_dense;"
        "c = Checker(random_dense(1)); c.start(); print(c._child.pid, flush=True); time.sleep(60)"
    )
    prover = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    pid = int(prover.stdout.readline())
    assert psutil.pid_exists(pid)
    prover.kill()
    prover.wait()
    prover.stdout.close()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
