"""What the benchmarks run on: networks for MNIST where they are at hand, else the digits example."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.places import ROOT, data_folder
from networks import Dataset, Network, Query, load
from solver import pose

__all__ = ["NETWORKS", "Material", "material"]

#: The networks of the data folder: file, and where it is known which inputs are robust at 0.1, that file.
NETWORKS = {
    "WK17a": ("mipverify/mnist_wk17a_linf0.1.onnx", "mipverify/wk17a_truth_dev_001_250.csv"),
    "RSL18a": ("mipverify/mnist_rsl18a_linf0.1.onnx", ""),
    "mnist_fc 256x2": ("mnist_fc/onnx/mnist-net_256x2.onnx", ""),
    "mnist_fc 256x4": ("mnist_fc/onnx/mnist-net_256x4.onnx", ""),
}


@dataclass(frozen=True)
class Material:
    """A network, a data set and, per index, what is known to be true ("" where nothing is)."""

    title: str
    network_path: Path
    network: Network
    dataset: Dataset
    epsilon: str
    truth: dict[int, str]

    def query(self, index: int, epsilon: str | None = None, targets: Sequence[int] | None = None) -> Query:
        """Does input ``index`` keep its class (against ``targets``, if given) under every perturbation?"""
        image, label = self.dataset.input(index), self.dataset.label(index)
        radius = epsilon or self.epsilon
        asked = pose(self.network, input=image, epsilon=radius, label=label, targets=targets, domain=(0, 1))
        return asked.query


def material(name: str = "WK17a") -> Material:
    """One of `NETWORKS` at ε = 0.1 from the data folder, or the digits where there is none."""
    folder = data_folder()
    onnx, known = NETWORKS[name]
    path, images = folder / onnx, folder / "mnist" / "mnist_test.npz"
    if path.exists() and images.exists():
        truth = {}
        if known:
            with (folder / known).open() as file:
                truth = {int(row["index_0based"]): row["verdict"] for row in csv.DictReader(file)}
        return Material(f"{name}, ε = 0.1", path, load(path), Dataset.read(images), "0.1", truth)
    path = ROOT / "examples" / "digits_robust.onnx"
    title = f"the digits example, ε = 0.1, because {folder} has no MNIST (set NETPROOF_DATA)"
    return Material(title, path, load(path), Dataset.read(ROOT / "examples" / "digits.npz"), "0.1", {})
