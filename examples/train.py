"""Train the two example networks on scikit-learn's 8×8 digits and write them as ONNX, with their test images.

    python examples/train.py [FOLDER]

* ``digits_plain.onnx``: 64-48-48-10, trained on clean images.
* ``digits_robust.onnx``: one convolution and two dense layers, trained on images that PGD has perturbed by up to 0.1.
* ``digits.npz``: the 450 test images (float32 in [0, 1], shape ``(450, 8, 8)``) and their labels.
* ``digits.vnnlib``: one query: does every image within 0.1 of test image 10 keep its class?

Seeds are fixed and one thread is used, so the same versions of torch and scikit-learn write the same weights on the
same kind of machine; the whole takes under half a minute.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 0.1
QUERY = 10
OPSET = 17


def main(folder: Path) -> None:
    """Train both networks and write the files into ``folder``."""
    torch.set_num_threads(1)
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels.astype(np.int64), test_size=450, random_state=0, stratify=labels
    )
    np.savez_compressed(folder / "digits.npz", images=test_x.reshape(-1, 8, 8), labels=test_y)
    (folder / "digits.vnnlib").write_text(vnnlib(test_x[QUERY].reshape(-1), int(test_y[QUERY])))
    for name, build, epsilon, epochs in (("plain", plain, 0.0, 40), ("robust", robust, EPSILON, 80)):
        torch.manual_seed(0)
        model = build()
        train(model, torch.from_numpy(train_x), torch.from_numpy(train_y), epsilon, epochs)
        accuracy = evaluate(model, torch.from_numpy(test_x), torch.from_numpy(test_y), 0.0)
        attacked = evaluate(model, torch.from_numpy(test_x), torch.from_numpy(test_y), EPSILON)
        path = folder / f"digits_{name}.onnx"
        onnx.save(to_onnx(model, f"digits_{name}"), path)
        print(f"{path}: {accuracy:.1%} right, {attacked:.1%} under PGD with epsilon {EPSILON}")


def plain() -> nn.Sequential:
    """64-48-48-10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 10))


def robust() -> nn.Sequential:
    """One strided convolution, two dense layers."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 48),
        nn.ReLU(),
        nn.Linear(48, 10),
    )


def train(model: nn.Sequential, images: Tensor, labels: Tensor, epsilon: float, epochs: int) -> None:
    """Adam on batches of 64; with ``epsilon`` > 0 on perturbed images, the radius growing over the first half."""
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(epochs):
        radius = epsilon * min(1.0, 2 * (epoch + 1) / epochs)
        for batch in torch.randperm(len(images)).split(64):
            x, y = images[batch], labels[batch]
            x = attack(model, x, y, radius, steps=7) if radius else x
            optimiser.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimiser.step()


def attack(model: nn.Sequential, x: Tensor, y: Tensor, epsilon: float, steps: int) -> Tensor:
    """Projected gradient ascent on the loss from a random start in the ℓ∞ ball, intersected with [0, 1]."""
    z = (x + epsilon * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    for _ in range(steps):
        z.requires_grad_()
        (gradient,) = torch.autograd.grad(functional.cross_entropy(model(z), y), z)
        z = z.detach() + 2.5 * epsilon / steps * gradient.sign()
        z = z.clamp(x - epsilon, x + epsilon).clamp(0, 1)
    return z.detach()


def evaluate(model: nn.Sequential, images: Tensor, labels: Tensor, epsilon: float) -> float:
    """Share of ``images`` that keep their label, after PGD when ``epsilon`` > 0."""
    x = attack(model, images, labels, epsilon, steps=30) if epsilon else images
    with torch.no_grad():
        return float((model(x).argmax(1) == labels).float().mean())


def to_onnx(model: nn.Sequential, name: str) -> onnx.ModelProto:
    """``model`` as ONNX, node by node; the layers are few, so no exporter is needed."""
    nodes, weights, value = [], [], "image"

    def constant(label: str, tensor: NDArray[np.float32]) -> str:
        weights.append(numpy_helper.from_array(tensor, label))
        return label

    for i, layer in enumerate(model):
        after = f"{type(layer).__name__.lower()}_{i}"
        if isinstance(layer, nn.Linear | nn.Conv2d):
            assert layer.bias is not None
            inputs = [
                value,
                constant(f"{after}.weight", layer.weight.detach().numpy()),
                constant(f"{after}.bias", layer.bias.detach().numpy()),
            ]
            if isinstance(layer, nn.Linear):
                nodes.append(helper.make_node("Gemm", inputs, [after], after, transB=1))
            else:
                options = {"strides": [2, 2], "pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
                nodes.append(helper.make_node("Conv", inputs, [after], after, **options))
        else:
            op = {nn.ReLU: "Relu", nn.Flatten: "Flatten"}[type(layer)]
            nodes.append(helper.make_node(op, [value], [after], after))
        value = after
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["batch", 10])],
        weights,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def vnnlib(image: NDArray[np.float32], label: int) -> str:
    """The ball of radius `EPSILON` around ``image``, within [0, 1], and "some other class scores at least as high"."""
    lines = [f"; every image within {EPSILON} of test image {QUERY} is a {label}", ""]
    lines += [f"(declare-const X_{i} Real)" for i in range(image.size)]
    lines += [f"(declare-const Y_{i} Real)" for i in range(10)]
    lines.append("")
    radius = Decimal(str(EPSILON))
    for i, pixel in enumerate(image):
        value = Decimal(float(pixel))  # a sixteenth, so the decimal is exact
        lines.append(f"(assert (>= X_{i} {max(value - radius, Decimal(0))}))")
        lines.append(f"(assert (<= X_{i} {min(value + radius, Decimal(1))}))")
    lines += ["", "(assert (or"]
    lines += [f"  (and (>= Y_{other} Y_{label}))" for other in range(10) if other != label]
    return "\n".join([*lines, "))", ""])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
