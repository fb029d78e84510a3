"""Files of audit records: what can be continued, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from networks import Dataset
from solver.audit import Ball
from solver.errors import RecordsError
from solver.records import RecordFile, heading
from tests.bounds.graphs import dense_network

NETWORK = replace(dense_network(np.random.default_rng(0), (2, 3, 2)), name="small.onnx", sha256="a" * 64)
DATA = Dataset.of(np.zeros((3, 2), np.float32), np.zeros(3, int), "zeros.npz")
HEAD = heading(NETWORK, DATA, Ball("0.1", domain=("0", "1")))


def record(index, verdict="robust", **more):
    return {"index": index, "label": 0, "verdict": verdict, "seconds": 0.5, "engine": "auto", "limit": 60.0, **more}


def opened(path, head=HEAD, *, resume=True, engine="auto", limit=60.0, certificates=None):
    return RecordFile.open(path, head, resume=resume, engine=engine, limit=limit, certificates=certificates)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "records.jsonl"
    with opened(path) as file:
        assert file.known == {}
        file.append(record(4))
        file.append(record(2, "counterexample"))
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_first_line_says_what_was_asked(path):
    head, *records = lines(path)
    assert head["audit"]["query"] == {"kind": "ball", "norm": "linf", "epsilon": "0.1", "domain": ["0", "1"]}
    assert head["audit"]["network"]["sha256"] == NETWORK.sha256
    assert [r["index"] for r in records] == [4, 2]


def test_continues_where_it_ended(path):
    with opened(path) as file:
        assert list(file.known) == [4, 2]
        file.append(record(0))
    assert [r["index"] for r in lines(path)[1:]] == [4, 2, 0]


def test_an_unfinished_line_is_removed(path):
    before = path.read_text()
    path.write_text(before + '{"index": 7, "verd')
    with opened(path) as file:
        assert list(file.known) == [4, 2]
    assert path.read_text() == before


def test_an_unfinished_first_line_starts_anew(path):
    path.write_text(path.read_text()[:30])
    with opened(path) as file:
        assert file.known == {}
    assert lines(path) == [HEAD]


def test_unknown_is_tried_again_with_more_time_or_another_engine(path):
    with opened(path) as file:
        file.append(record(7, "unknown"))
    for again, options in [(False, {}), (False, {"limit": 5.0}), (True, {"limit": 61.0}), (True, {"engine": "milp"})]:
        text = path.read_text()
        with opened(path, **options) as file:
            assert (7 not in file.known) == again
        assert (len(lines(path)) == 3) == again
        path.write_text(text)


def test_robust_inputs_that_nobody_tried_to_certify_are_decided_again_for_certificates(path, tmp_path):
    (tmp_path / "8.zip").write_bytes(b"")
    tried = {"trust": "solver", "stages": [{"name": "certificate", "seconds": 1.0}]}
    with opened(path) as file:
        file.append(record(7, **tried))
        file.append(record(8, trust="certified", certificate={"file": "8.zip"}))
        file.append(record(9, trust="certified", certificate={"file": "9.zip"}))
        file.append(record(10, "counterexample", trust="replayed"))
    text = path.read_text()
    for options, kept in (
        ({}, {4, 2, 7, 8, 9, 10}),
        ({"certificates": tmp_path}, {2, 7, 8, 10}),
        ({"certificates": tmp_path, "limit": 61.0}, {2, 8, 10}),
    ):
        with opened(path, **options) as file:
            assert set(file.known) == kept
        path.write_text(text)


def test_the_same_numbers_written_otherwise_are_the_same_question(path):
    with opened(path, heading(NETWORK, DATA, Ball("1/10", domain=(0, 1.0)))) as file:
        assert list(file.known) == [4, 2]


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (heading(NETWORK, DATA, Ball("0.2", domain=("0", "1"))), "epsilon 0.1 there, 0.2 here"),
        (heading(NETWORK, DATA, Ball("0.1")), "domain .* there, none here"),
        (heading(replace(NETWORK, sha256="b" * 64), DATA, Ball("0.1", domain=("0", "1"))), "network small.onnx"),
        (heading(NETWORK, Dataset.of(DATA.stored + 1, DATA.labels), Ball("0.1", domain=("0", "1"))), "data set"),
    ],
)
def test_another_question_is_refused_and_the_file_kept(path, head, says):
    before = path.read_text()
    with pytest.raises(RecordsError, match=says):
        opened(path, head)
    assert path.read_text() == before


def test_without_resume_nothing_is_overwritten(path, tmp_path):
    with pytest.raises(RecordsError, match="has records already"):
        opened(path, resume=False)
    note = tmp_path / "note.txt"
    note.write_text("no newline at its end")
    with pytest.raises(RecordsError):
        opened(note, resume=False)
    assert note.read_text() == "no newline at its end"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("index,verdict\n1,robust\n", "line 1 .* not a JSON object"),
        ('{"index": 1}\n', "first line must say"),
        ('{"audit": {"version": 9}}\n', "version 9"),
        ('{"audit": {"version": 1}}\n', "does not say what was asked"),
        (json.dumps(HEAD) + '\n{"index": 1}\n', "line 2 .* not an audit record"),
        (json.dumps(HEAD) + "\n" + 2 * (json.dumps(record(1)) + "\n"), "line 3 .* second record of input 1"),
    ],
)
def test_a_file_that_is_something_else_is_refused(tmp_path, text, says):
    path = tmp_path / "other.jsonl"
    path.write_text(text)
    with pytest.raises(RecordsError, match=says):
        opened(path)
    assert path.read_text() == text


def test_a_lone_unfinished_line_of_something_else_is_not_overwritten(tmp_path):
    path = tmp_path / "other.txt"
    path.write_text("my only copy")
    with pytest.raises(RecordsError):
        opened(path)
    assert path.read_text() == "my only copy"


def test_two_runs_cannot_write_one_file(path):
    with opened(path) as first:
        with pytest.raises(RecordsError, match="another audit is writing"):
            opened(path)
        first.append(record(9))
    with opened(path) as file:
        assert 9 in file.known


def test_a_link_stays_a_link(path, tmp_path):
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    path.write_text(path.read_text() + "{")
    opened(link).close()
    assert link.is_symlink()
    assert len(lines(path)) == 3
