from __future__ import annotations

import torch

from bounds.adam import Adam


def test_moves_as_torchs_own_does() -> None:
    torch.manual_seed(0)
    start = [torch.randn(5, 3, dtype=torch.float64), torch.randn(4, dtype=torch.float64)]
    ours = [tensor.clone().requires_grad_() for tensor in start]
    theirs = [tensor.clone().requires_grad_() for tensor in start]
    adam, reference = Adam(ours, 0.1), torch.optim.Adam(theirs, 0.1)
    for _ in range(12):
        gradients = [torch.randn_like(tensor) for tensor in start]
        adam.step(gradients)
        for tensor, gradient in zip(theirs, gradients, strict=True):
            tensor.grad = gradient
        reference.step()
        assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(ours, theirs, strict=True))
