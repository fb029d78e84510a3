"""The page that `netproof audit --report` writes: whole by itself, and with what the records say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
AUDIT = (
    "audit",
    EXAMPLES / "digits_plain.onnx",
    "--data",
    EXAMPLES / "digits.npz",
    "--eps",
    "0.1",
    "--domain",
    "0",
    "1",
)


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    from click.testing import CliRunner

    from netproof.cli import cli

    folder = tmp_path_factory.mktemp("audit")
    out = ("--out", folder / "r.jsonl", "--report", folder / "page.html", "--first", "6", "--workers", "1")
    answer = CliRunner().invoke(cli, [str(part) for part in (*AUDIT, *out)])
    assert answer.exit_code == 0, answer.output
    return folder, answer.stdout


def test_the_page_needs_nothing_else(audited):
    folder, printed = audited
    page = (folder / "page.html").read_text()
    assert f"report             {folder / 'page.html'}" in printed
    assert not re.search(r"<script|<link|<iframe|@import|url\(", page)
    sources = re.findall(r'(?:src|href|action)="([^"]*)"', page)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    elsewhere = set(re.findall(r"https?://[^\s\"'<>)]+", page)) - {"http://www.w3.org/2000/svg"}
    assert elsewhere == set()


def test_the_page_says_what_the_records_say(audited):
    folder, _ = audited
    page = (folder / "page.html").read_text()
    lines = [json.loads(line) for line in (folder / "r.jsonl").read_text().splitlines()]
    broken = [record for record in lines[1:] if record["verdict"] == "counterexample"]
    assert broken
    for record in broken:
        assert f"Input {record['index']}<" in page
    assert page.count('class="strip"') == len(broken)
    assert lines[0]["audit"]["network"]["sha256"] in page
    assert "each entry is changed by at most 0.1 and every entry stays between 0 and 1" in page
    assert f"{len(broken)} not robust" in page


def test_records_make_the_same_page_again(audited, run, tmp_path):
    folder, _ = audited
    again = ("audit", "--records", folder / "r.jsonl", "--report", tmp_path / "again.html")
    answer = run(*again, "--data", EXAMPLES / "digits.npz")
    assert (answer.code, answer.out) == (0, f"6 records: {tmp_path / 'again.html'}\n")
    first, second = ((path).read_text() for path in (folder / "page.html", tmp_path / "again.html"))
    strip = re.compile(r"<img[^>]*>")
    assert sorted(strip.findall(first)) == sorted(strip.findall(second))
    alone = run(*again)
    assert alone.code == 0
    assert "data:image/png" in (tmp_path / "again.html").read_text()  # the counterexamples by themselves


def test_records_of_several_epsilons(run, tmp_path):
    found = {"output": [0.0, 1.0], "input": [0.0, 1.0], "shape": [2], "clause": "class 1", "margin": -1.0}
    record = {"index": 0, "label": 0, "margin": [None, None], "seconds": 0.5, "trust": "solver", "decided_by": "linear"}
    lines = [
        record | {"epsilon": "1/255", "state": "done", "verdict": "robust"},
        record | {"epsilon": "8/255", "state": "done", "verdict": "counterexample", "counterexample": found},
        record | {"epsilon": "16/255", "state": "open", "verdict": None},
    ]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    answer = run("audit", "--records", tmp_path / "r.jsonl", "--report", tmp_path / "page.html")
    assert answer.code == 0, answer.err
    page = (tmp_path / "page.html").read_text()
    assert "ε 1/255: 100 %; ε 8/255: 0 %; ε 16/255: between 0 % and 100 %" in page
    assert "Input 0 at ε 8/255" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--records", "R"), "--report"),
        (("NET", "--records", "R", "--report", "P"), "leave it out"),
        (("--report", "P"), "NETWORK and --data and --eps are missing"),
    ],
)
def test_what_does_not_go_together_is_refused(run, tmp_path, arguments, words):
    (tmp_path / "r.jsonl").write_text("")
    named = {"R": tmp_path / "r.jsonl", "NET": EXAMPLES / "digits_plain.onnx", "P": tmp_path / "page.html"}
    answer = run("audit", *(named.get(each, each) for each in arguments))
    assert answer.code == 2
    assert words in answer.err


def test_records_about_another_data_set_are_refused(audited, run, tmp_path):
    import numpy as np

    folder, _ = audited
    np.savez(tmp_path / "other.npz", images=np.zeros((3, 64), np.float32), labels=np.zeros(3, int))
    answer = run(
        *("audit", "--records", folder / "r.jsonl"),
        *("--report", tmp_path / "page.html", "--data", tmp_path / "other.npz"),
    )
    assert answer.code == 2
    assert "give the one they name" in answer.err


@pytest.mark.parametrize("text", ["no json\n", '{"index": 1}\n', '{"verdict": "robust"}\n'])
def test_what_is_no_file_of_records_is_refused(run, tmp_path, text):
    (tmp_path / "r.jsonl").write_text(text)
    answer = run("audit", "--records", tmp_path / "r.jsonl", "--report", tmp_path / "page.html")
    assert answer.code == 2
    assert "line 1" in answer.err
