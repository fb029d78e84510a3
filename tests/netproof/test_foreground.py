"""Long work in front of a terminal."""

from __future__ import annotations

import ctypes
import os
import pty
import signal
import subprocess
import sys
import threading

import pytest

from netproof import foreground
from solver import Progress

LONG = """
import time
from netproof import foreground
from solver import Progress

def work(progress, cancel):
    for step in range(12):
        progress(Progress("milp", 0.1 * step, lower=-0.25, upper=1.5, open=3, nodes=1234))
        time.sleep(0.1)
    return "done"

print(foreground.run(work, 60))
"""


def test_result_and_error_pass_through():
    assert foreground.run(lambda _progress, _cancel: 7, 1.0) == 7
    with pytest.raises(LookupError, match="inside"):
        foreground.run(lambda _progress, _cancel: (_ for _ in ()).throw(LookupError("inside")), 1.0)


def test_signal_handler_is_as_before_afterwards():
    before = signal.getsignal(signal.SIGINT)
    foreground.run(lambda progress, _cancel: progress(Progress("linear", 0.0)), 1.0)
    assert signal.getsignal(signal.SIGINT) is before


def test_interrupt_is_seen_though_a_solver_replaced_the_handler(capsys):
    def work(_progress, cancel):
        ctypes.CDLL(None).signal(signal.SIGINT, ctypes.c_void_p(1))  # SIG_IGN, behind Python's back as Gurobi does
        threading.Event().wait(0.5)
        os.kill(os.getpid(), signal.SIGINT)
        while not cancel():
            threading.Event().wait(0.01)
        return "kept"

    assert foreground.run(work, 1.0) == "kept"
    assert "cancelling" in capsys.readouterr().err


def test_first_interrupt_only_asks_to_stop(capsys):
    def work(_progress, cancel):
        os.kill(os.getpid(), signal.SIGINT)
        while not cancel():
            threading.Event().wait(0.01)
        return "kept"

    assert foreground.run(work, 1.0) == "kept"
    assert "cancelling, with the bounds so far" in capsys.readouterr().err


def test_piped_work_shows_no_progress():
    done = subprocess.run([sys.executable, "-c", LONG], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_terminal_shows_stage_bounds_and_nodes():
    parent, child = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "30"}
    process = subprocess.Popen(
        [sys.executable, "-c", LONG], stdout=subprocess.PIPE, stderr=child, env=environment, text=True
    )
    os.close(child)
    shown = b""
    while True:
        try:
            chunk = os.read(parent, 4096)
        except OSError:  # Linux reports the end of a terminal so
            break
        if not chunk:
            break
        shown += chunk
    os.close(parent)
    assert process.communicate()[0] == "done\n"
    for word in ("milp", "margin ≥ -0.25", "≤ 1.5", "3 open", "1,234 nodes", "of 60 s"):
        assert word in shown.decode()
