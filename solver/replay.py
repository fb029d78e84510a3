"""Replay of inputs through ONNX Runtime in float32: nothing is a counterexample without it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from networks.evaluation import evaluate
from networks.exact import rounded
from networks.exact_evaluation import evaluate_exactly
from networks.graph import Network
from networks.property import Property
from networks.region import Region
from networks.runtime import onnx_runtime
from solver.verdict import Counterexample

__all__ = ["Replayer"]

_DTYPES: dict[str, type[np.floating]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
}


class Replayer:
    """Runs the network's original ONNX file on the CPU, one input at a time, on one thread.

    Attributes:
        disagreed: whether a candidate for an exact witness violated the property in one arithmetic only.
    """

    def __init__(self, network: Network) -> None:
        onnxruntime = onnx_runtime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.disagreed = False
        self._network = network
        # one point is often looked at from several sides, one after the other
        self._last: tuple[NDArray[np.floating], NDArray[np.float32]] | None = None
        self._session = onnxruntime.InferenceSession(network.model, options, providers=["CPUExecutionProvider"])
        declared = self._session.get_inputs()[0]
        self._name = declared.name
        self._dtype: type[np.floating] = _DTYPES[declared.type]
        # Symbolic dimensions are the batch; the loader has fixed them to 1 as well.
        self._shape = tuple(d if isinstance(d, int) else 1 for d in declared.shape)

    def __call__(self, x: ArrayLike) -> NDArray[np.float32]:
        """The outputs for ``x`` of shape ``(inputs,)`` or ``(B, inputs)``: ``(outputs,)`` or ``(B, outputs)``, as the
        model returns them.
        """
        points = np.asarray(x)
        if points.ndim > 1:
            return np.stack([self(point) for point in points])
        feed = points.astype(self._dtype).reshape(self._shape)
        if self._last is None or not np.array_equal(self._last[0], feed):
            self._last = feed, np.asarray(self._session.run(None, {self._name: feed})[0]).reshape(-1)
        return self._last[1].copy()

    def margin(self, prop: Property, x: NDArray[np.float32]) -> float:
        """The property's margin at the replayed output of ``x``; NaN if the output is not finite.

        Where a final Softmax was stripped, the margin is that of the logits in float64, so that it can be compared with
        proven bounds.
        """
        if self._network.stripped:
            output: NDArray[np.floating] = evaluate(self._network, x.reshape(1, -1).astype(np.float64))[0]
        else:
            output = self(x)
        return float(prop.margin(output)) if np.isfinite(output).all() else float("nan")

    def counterexample(self, region: Region, prop: Property, x: NDArray[np.float32]) -> Counterexample | None:
        """``x`` as a counterexample, if it lies in the region exactly and its replayed output violates the property.

        Where the region holds no float32 point at all, the exact witness beside ``x``, if there is one.

        Args:
            region: the input region.
            prop: the property.
            x: float32 point, shape ``(inputs,)``.
        """
        point = np.asarray(x, dtype=np.float32).reshape(-1)
        if not np.isfinite(point).all():
            return None
        if not region.replayable:
            point = region.project(point)
        if not np.array_equal(point.astype(self._dtype), point):
            return None
        if not region.replayable:
            return self._exact_witness(region, prop, point)
        if not region.contains(point):
            return None
        output = self(point)
        if not prop.violated(output):
            return None
        clause = min(prop.clauses, key=lambda clause: clause.margin(output))
        shaped = point.reshape(self._network.input_shape)
        return Counterexample(shaped, output, clause.label, float(clause.margin(output)))

    def _exact_witness(self, region: Region, prop: Property, x: NDArray[np.float32]) -> Counterexample | None:
        """The point of the region nearest to ``x``, if some clause is violated there over the reals and, replayed, at
        ``x``.

        *Soundness.* The point lies in the region by rational arithmetic, and the outputs there are exact.
        """
        witness = region.exact_point(x)
        if not region.contains_exactly(witness):
            return None
        output = self(x)
        replayed = prop.violated(output)
        # Exact arithmetic can take seconds, so float64 goes first.
        if replayed != prop.violated(evaluate(self._network, np.array([witness], dtype=np.float64))[0]):
            self.disagreed = True
            return None
        if not replayed:
            return None
        exact = evaluate_exactly(self._network, witness)
        clauses = [clause for clause in prop.clauses if max(clause.margin(output), clause.margin(exact)) <= 0]
        if not clauses:
            self.disagreed = True
            return None
        clause = min(clauses, key=lambda clause: clause.margin(exact))
        return Counterexample(
            x.reshape(self._network.input_shape),
            output,
            clause.label,
            float(clause.margin(output)),
            exact_margin=rounded(prop.margin(exact)),
            exact_input=witness,
        )
