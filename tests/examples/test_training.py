"""The example networks, and the script that made them."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from bounds import interval_bounds, lower_bounds
from examples import demo, train
from networks import evaluate, load
from solver import pose
from tests.netproof.conftest import EXAMPLES


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    with np.load(EXAMPLES / "digits.npz") as file:
        return file["images"], file["labels"]


@pytest.mark.parametrize("build", [train.plain, train.robust])
def test_export_computes_what_torch_computes(build, digits):
    torch.manual_seed(3)
    model = build()
    session = onnxruntime.InferenceSession(train.to_onnx(model, "test").SerializeToString())
    images = digits[0][:5].reshape(-1, 1, 8, 8)
    (outputs,) = session.run(None, {"image": images})
    with torch.no_grad():
        np.testing.assert_allclose(outputs, model(torch.from_numpy(images)).numpy(), atol=1e-5)


def test_attack_stays_within_ball_and_domain(digits):
    torch.manual_seed(3)
    x, y = torch.from_numpy(digits[0][:8].reshape(-1, 1, 8, 8)), torch.from_numpy(digits[1][:8])
    z = train.attack(train.plain(), x, y, 0.1, steps=5)
    assert float((z - x).abs().max()) <= 0.1 + 1e-6
    assert float(z.min()) >= 0
    assert float(z.max()) <= 1


def test_training_learns_and_is_reproducible(digits):
    x, y = torch.from_numpy(digits[0].reshape(-1, 1, 8, 8)), torch.from_numpy(digits[1])
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(train.robust())
        train.train(models[-1], x, y, epsilon=0.02, epochs=6)
    assert train.evaluate(models[0], x, y, 0.0) > 0.5
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))


@pytest.mark.parametrize(("name", "accuracy"), [("plain", 0.95), ("robust", 0.95)])
def test_shipped_networks_are_small_and_accurate(name, accuracy, digits):
    path = EXAMPLES / f"digits_{name}.onnx"
    assert path.stat().st_size < 200_000
    outputs = evaluate(load(path), digits[0].reshape(len(digits[0]), -1))
    assert (outputs.argmax(1) == digits[1]).mean() > accuracy


def test_shipped_query_is_the_scripts(digits):
    image, label = digits[0][train.QUERY].reshape(-1), int(digits[1][train.QUERY])
    assert (EXAMPLES / "digits.vnnlib").read_text() == train.vnnlib(image, label)


def test_demonstration_asks_nothing_trivial(digits):
    image, label = digits[0][demo.INDEX], int(digits[1][demo.INDEX])
    for name in ("plain", "robust"):
        network = load(EXAMPLES / f"digits_{name}.onnx")
        assert evaluate(network, image.reshape(1, -1)).argmax() == label
    query = pose(network, input=image, epsilon=demo.EPSILON, label=label, domain=(0, 1)).query
    ((region, prop),) = query.cases
    rows = np.concatenate([clause.matrix for clause in prop.clauses])
    assert lower_bounds(network, region, interval_bounds(network, region), rows).min() < 0
