"""Networks are read in a child process, which answers or refuses, and never takes its parent along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from onnx import helper

from networks.errors import NetworkError, NetworkFormatError, UnsupportedOperatorError
from service.inspection import inspect
from tests.random_networks import dense_model, model
from tests.service.serving import read_with


def inspected(path: Path, **limits: Any) -> dict[str, Any]:
    values = {"name": "n.onnx", "seconds": 60.0, "memory_mb": 2048, "max_bytes": 2**26, **limits}
    return read_with(inspect, path, **values)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "network"
    path.write_bytes(content)
    return path


def test_network_is_summarised(tmp_path: Path) -> None:
    summary = inspected(written(tmp_path, dense_model(0, (3, 5, 4, 2))))
    assert summary["inputs"] == 3
    assert summary["outputs"] == 2
    assert summary["relus"] == 9
    assert summary["parameters"] == 3 * 5 + 5 + 5 * 4 + 4 + 4 * 2 + 2
    assert [layer["kind"] for layer in summary["layers"]].count("relu") == 2
    assert len(summary["sha256"]) == 64


def test_garbage_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(NetworkFormatError, match="not an ONNX model"):
        inspected(written(tmp_path, b"\x00garbage" * 1000))


def test_unsupported_operator_is_named(tmp_path: Path) -> None:
    content = model([helper.make_node("Sin", ["x"], ["y"], name="wave")], [1, 3])
    with pytest.raises(UnsupportedOperatorError) as caught:
        inspected(written(tmp_path, content))
    assert (caught.value.op, caught.value.node) == ("Sin", "wave")


def test_slow_reading_is_ended(tmp_path: Path) -> None:
    with pytest.raises(NetworkFormatError, match=r"could not be read within 0\.05 seconds"):
        inspected(written(tmp_path, dense_model(0)), seconds=0.05)


def test_memory_is_limited(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="takes more than 64 MB of memory"):
        inspected(written(tmp_path, dense_model(0, (8, 2000, 2000, 2))), memory_mb=64)
