"""Commands against a service: queries and batches from a shell."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from netproof.client import Client
from networks.errors import InputError
from tests.netproof.conftest import EXAMPLES, Answer
from tests.service.serving import Service

DATA = EXAMPLES / "digits.npz"


@pytest.fixture
def call(run: Callable[..., Answer], service: Service, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    monkeypatch.setenv("NETPROOF_SERVER", service.url)
    return run


def test_a_query_is_sent_and_watched(call: Callable[..., Answer], plain: Path) -> None:
    sent = call("submit", plain, "--data", DATA, "--index", "10", "--eps", "0.1", "--domain", "0", "1")
    assert sent.code == 0, sent.err
    job = sent.out.strip()
    watched = call("watch", job)
    assert watched.code == 1
    assert "counterexample (replayed)" in watched.out
    shown = call("status", job, "--json")
    assert (shown.code, json.loads(shown.out)["id"]) == (1, job)
    again = call("submit", plain, "--data", DATA, "--index", "10", "--eps", "0.2", "--domain", "0", "1").out.strip()
    cached = json.loads(call("status", again, "--json").out)["verdict"]["cached_from"]
    assert (cached["job"], cached["epsilon"]) == (job, "0.1")


def test_a_batch_is_sent_watched_and_exported(call: Callable[..., Answer], plain: Path, tmp_path: Path) -> None:
    sent = call(
        "batch", "submit", plain, "--data", DATA, "--eps", "0.02", "--eps", "0.05", "--domain", "0", "1", "--first", "6"
    )
    assert sent.code == 0, sent.err
    batch = sent.out.strip()
    watched = call("batch", "watch", batch)
    assert watched.code == 0, watched.err
    assert watched.out.startswith("finished 12/12")
    assert "robust accuracy at 0.02" in watched.out
    assert batch in call("batch", "list").out
    out = tmp_path / "records.csv"
    assert call("batch", "export", batch, out).code == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["index"]), row["epsilon"]) for row in rows] == [(i, e) for i in range(6) for e in ("0.02", "0.05")]
    assert {row["verdict"] for row in rows} <= {"robust", "counterexample"}
    refused = call("batch", "cancel", batch)
    assert refused.code == 2
    assert "nothing to cancel" in refused.err


def test_a_batch_takes_further_members_from_a_file(call: Callable[..., Answer], plain: Path, tmp_path: Path) -> None:
    query = tmp_path / "query.json"
    query.write_text('{"top_k": 2}')
    what = (
        "batch",
        "submit",
        plain,
        "--data",
        DATA,
        "--eps",
        "0.05",
        "--norm",
        "l2",
        "--domain",
        "0",
        "1",
        "--first",
        "2",
    )
    sent = call(*what, "--query", query)
    assert sent.code == 0, sent.err
    shown = json.loads(call("batch", "status", sent.out.strip(), "--json").out)
    assert shown["request"]["query"] == {"norm": "l2", "domain": ["0", "1"], "top_k": 2}
    query.write_text("[]")
    assert "one JSON object" in call(*what, "--query", query).err


def test_what_cannot_be_is_refused_in_words(call: Callable[..., Answer], plain: Path, tmp_path: Path) -> None:
    both = call("batch", "submit", plain, "--data", DATA, "--eps", "0.1", "--first", "2", "--indices", "0:3")
    assert both.code == 2
    assert "--first and --indices" in both.err
    empty = call("batch", "submit", plain, "--data", DATA, "--eps", "0.1", "--indices", "5:5")
    assert empty.code == 2
    assert "no input is chosen" in empty.err
    assert call("batch", "status", "0" * 26).code == 2


def test_the_client_says_what_to_change(service: Service) -> None:
    with Client(service.url) as client:
        with pytest.raises(InputError, match="both say which inputs"):
            client.batches.submit("a" * 64, "b" * 64, epsilon=0.1, indices=[1], end=3)
        with pytest.raises(InputError, match="cannot tell the form"):
            client.batches.export("0" * 26, "records.txt")
