"""The networks of the field's benchmark sets load, and the documentation says which (private data)."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import networks
from networks.onnx_model import decompressed, parse

DOCS = Path(__file__).resolve().parents[2] / "docs"
FIRM = {"cex_checked", "agreed"}


def instances(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Set, network and specification of every instance whose answer is known for sure."""
    with (folder / "ground_truth.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["confidence"] in FIRM:
                base = folder / row["set"]
                yield row["set"], base / row["onnx"], base / row["vnnlib"]


def operators(path: Path) -> set[str]:
    return {node.op_type for node in parse(decompressed(path.read_bytes())).graph.node}


def listed() -> dict[str, tuple[int, int, set[str]]]:
    """What docs/networks.md says of each set: instances, networks, operators."""
    text = (DOCS / "networks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \| (.+) \|$", text, re.MULTILINE)
    return {name: (int(count), int(nets), set(re.findall(r"`(\w+)`", ops))) for name, count, nets, ops in rows}


@pytest.mark.data
def test_every_network_loads_and_is_listed(data_folder: Path) -> None:
    found: dict[str, tuple[int, set[Path], set[str]]] = {}
    for name, network, _ in instances(data_folder):
        count, nets, ops = found.setdefault(name, (0, set(), set()))
        if network not in nets:
            loaded = networks.load(network)  # compares with ONNX Runtime
            assert loaded.relus > 0, network
            nets.add(network)
            ops |= operators(network)
        found[name] = (count + 1, nets, ops)
    assert listed() == {name: (count, len(nets), ops) for name, (count, nets, ops) in found.items()}


@pytest.mark.data
@pytest.mark.slow
def test_every_specification_fits_its_network(data_folder: Path) -> None:
    loaded: dict[Path, networks.Network] = {}
    for _, path, specification in instances(data_folder):
        network = loaded.setdefault(path, networks.load(path, compare=False))
        query = networks.read_vnnlib(specification, network.inputs, network.outputs)
        assert query.cases, specification
