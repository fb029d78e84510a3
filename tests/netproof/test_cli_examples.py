"""The example files come with the command line."""

from __future__ import annotations

from pathlib import Path

from networks.examples import EXAMPLES, examples_folder
from tests.netproof.conftest import EXAMPLES as SOURCE


def test_examples_are_copied_and_copied_again(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        answer = run("examples")
        assert answer.code == 0
        assert answer.out.split() == [str(Path("examples") / name) for name in EXAMPLES]
    for name in EXAMPLES:
        assert Path("examples", name).read_bytes() == (SOURCE / name).read_bytes()


def test_other_files_are_not_overwritten(run, tmp_path):
    (tmp_path / "digits.npz").write_bytes(b"mine")
    answer = run("examples", tmp_path)
    assert answer.code == 2
    assert "digits.npz; name another folder" in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["digits.npz"]


def test_a_checkout_has_them_where_they_are_made():
    assert examples_folder() == SOURCE
