"""Random chains of operators against ONNX Runtime: views compose, and nodes see what they should."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

import networks
from networks.graph import AffineNode, InputNode, ReluNode
from tests.random_networks import model, random_conv, random_dense, random_residual


class Chain:
    """A model in the making; values are small integers, so that both evaluations are exact."""

    def __init__(self, draw, shape):
        self.draw, self.shape = draw, shape
        self.start = shape
        self.nodes, self.constants, self.last = [], {}, "x"

    def integers(self, shape):
        seed = self.draw(st.integers(0, 1000))
        return np.random.default_rng(seed).integers(-2, 3, shape).astype(np.float32)

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def put(self, op, *inputs, **attributes):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        self.last = name

    def axis(self):
        return self.draw(st.integers(1, len(self.shape) - 1))

    def transpose(self):
        perm = [0, *self.draw(st.permutations(range(1, len(self.shape))))]
        self.put("Transpose", self.last, perm=perm)
        self.shape = tuple(self.shape[p] for p in perm)

    def flatten_and_fold(self):
        size = int(np.prod(self.shape))
        divisor = self.draw(st.sampled_from([d for d in range(1, size + 1) if size % d == 0]))
        self.shape = (1, divisor, size // divisor)
        self.put("Reshape", self.last, self.constant(np.array(self.shape)))

    def slice(self):
        axis = self.axis()
        start = self.draw(st.integers(0, self.shape[axis] - 1))
        step = self.draw(st.sampled_from([1, 2]))
        names = [self.constant(np.array([v])) for v in (start, 2**31, axis, step)]
        self.put("Slice", self.last, *names)
        self.resize(axis, len(range(start, self.shape[axis], step)))

    def gather(self):
        axis = self.axis()
        indices = self.draw(st.lists(st.integers(0, self.shape[axis] - 1), min_size=1, max_size=4))
        self.put("Gather", self.last, self.constant(np.array(indices)), axis=axis)
        self.resize(axis, len(indices))

    def pad(self):
        axis = self.axis()
        pads = np.zeros((2, len(self.shape)), np.int64)
        pads[:, axis] = before, after = self.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
        value = self.draw(st.sampled_from([0.0, 1.0]))
        self.put("Pad", self.last, self.constant(pads.reshape(-1)), self.constant(np.float32(value)))
        self.resize(axis, self.shape[axis] + before + after)

    def concat(self):
        other, axis = self.last, self.axis()
        self.put("Relu", self.last)
        self.put("Concat", self.last, other, axis=axis)
        self.resize(axis, 2 * self.shape[axis])

    def resize(self, axis, size):
        self.shape = (*self.shape[:axis], size, *self.shape[axis + 1 :])

    def relu(self):
        self.put("Relu", self.last)

    def skip(self):
        other = self.last
        self.put("Relu", self.last)
        self.put(self.draw(st.sampled_from(["Add", "Sub", "Max", "Min"])), self.last, other)

    def shift(self):
        self.put("Add", self.last, self.constant(self.integers(self.shape[-1:])))

    def multiply(self):
        if self.shape[-1] <= 12:
            self.put("MatMul", self.last, self.constant(self.integers((self.shape[-1], 2))))
            self.resize(len(self.shape) - 1, 2)

    def convolve(self):
        if len(self.shape) == 3 and self.shape[2] >= 2:
            kernel = self.integers((2, self.shape[1], 2))
            self.put("Conv", self.last, self.constant(kernel), pads=[1, 0])
            self.shape = (1, 2, self.shape[2])

    def total(self):
        axis = self.axis()
        self.put("ReduceSum", self.last, self.constant(np.array([axis])), keepdims=1)
        self.resize(axis, 1)


STEPS = [
    "transpose",
    "flatten_and_fold",
    "slice",
    "gather",
    "pad",
    "concat",
    "relu",
    "skip",
    "shift",
    "multiply",
    "convolve",
    "total",
]


@st.composite
def chains(draw):
    chain = Chain(draw, draw(st.sampled_from([(1, 4), (1, 2, 3), (1, 2, 2, 3)])))
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=6)):
        if np.prod(chain.shape) <= 200:
            getattr(chain, step)()
    chain.nodes.append(helper.make_node("Identity", [chain.last], ["y"]))
    return chain


@settings(max_examples=150, deadline=None)
@given(chains(), st.integers(0, 1000))
def test_chain_computes_exactly_what_onnx_runtime_computes(chain, seed):
    data = model(chain.nodes, chain.start, chain.constants)
    x = np.random.default_rng(seed).integers(-3, 4, (3, *chain.start[1:])).astype(np.float32)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    theirs = np.stack([session.run(None, {"x": row[None]})[0].reshape(-1) for row in x])
    network = networks.load_bytes(data, compare=False)
    np.testing.assert_array_equal(networks.evaluate(network, x), theirs)
    check_form(network)


@pytest.mark.parametrize("make", [random_dense, random_conv, random_residual])
@pytest.mark.parametrize("seed", range(3))
def test_loaded_networks_have_the_canonical_form(make, seed):
    check_form(make(seed))


def stored(array):
    """Plain arrays that torch can share."""
    return array.dtype == np.float64 and array.flags.c_contiguous and array.flags.writeable


def check_form(network):
    """What every later part relies on."""
    used = {len(network.nodes) - 1}
    for i, node in enumerate(network.nodes):
        if i == 0:
            assert isinstance(node, InputNode)
            continue
        assert all(0 <= parent < i for parent in node.parents)
        used.update(node.parents)
        assert node.features == np.prod(node.shape)
        if isinstance(node, ReluNode):
            assert isinstance(network.nodes[node.parent], AffineNode)
            assert node.features == network.nodes[node.parent].features
        else:
            assert stored(node.bias)
            for parent, linear in node.terms:
                assert all(stored(getattr(linear, name)) for name in ("weight", "factors") if hasattr(linear, name))
                assert linear.in_features == network.nodes[parent].features
                assert linear.out_features == node.features
    assert used | {0} == set(range(len(network.nodes)))
    assert not isinstance(network.nodes[-1], InputNode)
