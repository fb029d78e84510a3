"""What the benchmarks run on: the Wong–Kolter network and MNIST where they are at hand, else the digits example."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from benchmarks.places import ROOT, data_folder
from netproof.api import ball_query
from networks import Dataset, Network, Query, load

__all__ = ["Material", "material"]


@dataclass(frozen=True)
class Material:
    """A network, a data set and, per index, what is known to be true ("" where nothing is)."""

    title: str
    network_path: Path
    network: Network
    dataset: Dataset
    epsilon: str
    truth: dict[int, str]

    def query(self, index: int) -> Query:
        """Does input ``index`` keep its class under every perturbation?"""
        image, label = self.dataset.input(index), self.dataset.label(index)
        return ball_query(self.network, image, self.epsilon, label=label, domain=(0, 1))


def material() -> Material:
    """WK17a at ε = 0.1 from the data folder, or the digits where there is none."""
    folder = data_folder()
    path = folder / "mipverify" / "mnist_wk17a_linf0.1.onnx"
    images = folder / "mnist" / "mnist_test.npz"
    if path.exists() and images.exists():
        with (folder / "mipverify" / "wk17a_truth_dev_001_250.csv").open() as file:
            truth = {int(row["index_0based"]): row["verdict"] for row in csv.DictReader(file)}
        return Material("WK17a, ε = 0.1", path, load(path), Dataset.read(images), "0.1", truth)
    path = ROOT / "examples" / "digits_robust.onnx"
    title = f"the digits example, ε = 0.1, because {folder} has no MNIST (set NETPROOF_DATA)"
    return Material(title, path, load(path), Dataset.read(ROOT / "examples" / "digits.npz"), "0.1", {})
