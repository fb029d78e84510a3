"""Networks straight from torch modules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import netproof
import networks
from networks import NetworkError, UnsupportedOperatorError


class Residual(nn.Module):
    """Most of what people put into image classifiers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU6())
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3, padding="same", groups=2), nn.LeakyReLU(0.1), nn.AvgPool2d(2))
        self.skip = nn.Sequential(nn.MaxPool2d(2), nn.Hardtanh(-0.5, 0.5))
        self.last = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.PReLU(), nn.Linear(4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        h = torch.cat([self.second(h)[:, :2], self.skip(h)[:, 2:]], dim=1) + torch.clamp(self.skip(h), min=0)
        return torch.log_softmax(self.last(h.abs()), dim=1)


def test_exported_module_computes_what_the_module_does() -> None:
    torch.manual_seed(0)
    module = Residual()
    module(torch.rand(16, 1, 6, 6))  # statistics for the batch normalisation
    module.eval()
    network = netproof.from_torch(module, torch.zeros(1, 1, 6, 6))
    x = torch.rand(5, 1, 6, 6)
    with torch.no_grad():
        theirs = module(x).numpy()
    ours = networks.evaluate(network, x.reshape(5, -1).numpy())
    ours = ours - np.log(np.exp(ours).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert (network.stripped, network.name) == ("LogSoftmax", "Residual")


def test_its_mode_stays_and_its_verdict_carries_evidence() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 2)).train()
    network = netproof.from_torch(module, torch.zeros(1, 3, 3), name="tiny")
    assert module.training
    assert network.input_shape == (3, 3)
    verdict = netproof.verify(
        network, input=np.full(9, 0.5), epsilon="0.05", domain=(0, 1), threads=1, certificate=True
    )
    if verdict.certificate is not None:
        assert netproof.check(verdict.certificate, network).proven
    else:
        assert verdict.counterexample is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_exact(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    module = nn.Linear(3, 2).to(dtype)
    network = netproof.from_torch(module, torch.zeros(1, 3, dtype=dtype))
    weight = network.nodes[1].terms[0][1].weight
    assert (weight == module.weight.detach().numpy().astype(np.float64)).all()


def test_what_cannot_be_verified_is_refused_as_any_network_is() -> None:
    with pytest.raises(UnsupportedOperatorError, match="Sigmoid"):
        netproof.from_torch(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 2)), torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("module", "example", "words"),
    [
        (nn.Linear(2, 2), torch.zeros(4, 2), r"give x\[:1\] of a batch"),
        (nn.Linear(2, 2), np.zeros((1, 2), np.float32), "got ndarray; torch.from_numpy"),
        (nn.Linear(2, 2), (torch.zeros(1, 2), torch.zeros(1, 2)), "got tuple"),
        (nn.Linear(2, 2).state_dict(), torch.zeros(1, 2), "got OrderedDict; a checkpoint is first loaded"),
        (nn.Conv2d(1, 1, 3).double(), torch.zeros(1, 1, 3, 3, dtype=torch.float64), r"of module\.float\(\)"),
    ],
)
def test_usual_mistakes_are_refused_with_what_to_do(module: nn.Module, example: torch.Tensor, words: str) -> None:
    with pytest.raises(NetworkError, match=words):
        netproof.from_torch(module, example)


def test_what_wraps_a_module_is_taken_off() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    plain = netproof.from_torch(module, torch.zeros(1, 3))
    for wrapped in (torch.compile(module, backend="eager"), nn.DataParallel(module)):
        network = netproof.from_torch(wrapped, torch.zeros(1, 3))
        assert (network.sha256, network.name) == (plain.sha256, "Sequential")


def test_module_or_checkpoint_in_the_place_of_a_network_is_named(tmp_path: Path) -> None:
    module = nn.Linear(2, 2)
    torch.save(module.state_dict(), tmp_path / "net.pt")
    with pytest.raises(NetworkError, match=r"netproof\.from_torch\(module, example\) return, got Linear"):
        netproof.verify(module, input=[0, 0], epsilon=1)
    with pytest.raises(NetworkError, match=r"zip archive, not an ONNX model .*from_torch"):
        netproof.verify(tmp_path / "net.pt", input=[0, 0], epsilon=1)


def test_network_prints_as_one_line() -> None:
    network = netproof.from_torch(nn.Sequential(nn.Flatten(), nn.Linear(9, 5), nn.ReLU()), torch.zeros(1, 3, 3))
    digest = network.sha256[:16]
    assert repr(network) == f"<Network 'Sequential': input 3×3, 5 outputs, 5 ReLUs, sha256 {digest}…>"


def test_module_that_torch_cannot_export_is_refused() -> None:
    with pytest.raises(NetworkError, match=r"torch cannot export Linear for an example of shape \(1, 5\)"):
        netproof.from_torch(nn.Linear(2, 2), torch.zeros(1, 5))
