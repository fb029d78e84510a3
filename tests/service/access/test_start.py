"""Where callers need a key, and what is said at the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.access import Scope
from service.ledger import Ledger
from service.settings import Settings
from service.supervisor import _prepare


@pytest.mark.parametrize(
    ("host", "access", "on"),
    [
        ("127.0.0.1", "auto", False),
        ("127.8.8.8", "auto", False),
        ("::1", "auto", False),
        ("localhost", "auto", False),
        ("0.0.0.0", "auto", True),
        ("::", "auto", True),
        ("10.0.0.7", "auto", True),
        ("netproof.example", "auto", True),
        ("127.0.0.1", "on", True),
        ("0.0.0.0", "off", False),
    ],
)
def test_callers_need_a_key_beyond_loopback(host: str, access: str, on: bool) -> None:
    assert Settings(host=host, access=access).access_on is on


def test_the_start_says_that_nobody_has_a_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(data_dir=tmp_path, access="on")
    _prepare(settings)
    assert "netproof keys create" in caplog.text
    ledger = Ledger(settings.ledger_url)
    ledger.keys.create("ops", Scope.ADMIN)
    ledger.close()
    caplog.clear()
    _prepare(settings)
    assert caplog.text == ""


def test_the_start_warns_where_everybody_may_do_everything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _prepare(Settings(data_dir=tmp_path, access="off"))
    assert caplog.text == ""
    _prepare(Settings(data_dir=tmp_path, access="off", host="0.0.0.0"))
    assert "may do everything" in caplog.text
