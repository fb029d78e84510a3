from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bounds import backward_bounds
from bounds.enclosure import Enclosure
from bounds.relaxation import relax
from networks.evaluation import values
from networks.region import Region
from tests.bounds.graphs import dense_network


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(-18, 0), st.sampled_from([1e-3, 1.0, 1e3]))
def test_rows_are_those_of_the_network_however_narrow_the_bounds(seed: int, exponent: int, scale: float) -> None:
    """Bounds that are hardly more than rounding errors give no row with coefficients of 1e13."""
    rng = np.random.default_rng(seed)
    network = dense_network(rng, (3, 6, 5, 2), scale=scale)
    region = Region.box([-1.0] * 3, [1.0] * 3)
    found = backward_bounds(network, region)
    last = network.relu_nodes[-1]
    lower, upper = dict(found.lower), dict(found.upper)
    lower[last], upper[last] = lower[last] * 10.0**exponent, upper[last] * 10.0**exponent
    r = relax(network, region, Enclosure(lower, upper), -1)
    assert (np.abs(r.value) <= 2.0**20).all()
    assert (np.maximum(r.above, r.below) <= 1).all()
    columns = np.append(rng.uniform(-1, 1, r.m), np.zeros(r.k))
    z_of = values(network, r.point(columns[: r.m])[None])
    pairs = [(node, int(j)) for node, neurons in zip(r.nodes, r.neurons, strict=True) for j in neurons]
    for row, (node, j) in enumerate(pairs):
        entries = slice(r.start[row], r.start[row + 1])
        terms = r.value[entries] * columns[r.index[entries]]
        z, s = z_of[node - 1][0, j], r.scale[row]
        assert abs(terms.sum() + r.rhs[row] - z / s) <= r.dropped[row] + 1e-12 * np.abs(terms).sum()
        assert r.above[row] * s == upper[node][j]
        assert r.below[row] * s == -lower[node][j]
        columns[r.m + row] = max(z, 0.0) / upper[node][j]
