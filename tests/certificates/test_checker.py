"""The checker's arithmetic: never above the truth, in float64, in exact arithmetic and for float32 inference."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import networks
from bounds import backward_bounds, lower_bounds
from certificates import (
    Certificate,
    CertificateError,
    Claim,
    Node,
    PhaseSplit,
    Tree,
    check,
    enclosure,
    exact,
    read,
    write,
)
from certificates.enclosure import Boxes, Cell
from networks import Clause, Network, Property, Query, Region, Row
from networks.evaluation import apply, values
from networks.graph import AffineNode, ReluNode
from solver import Budget, Engine, Options, Outcome, Trust, verify
from tests.bounds.graphs import patch_network, windowed_network
from tests.bounds.test_windows import pool_network
from tests.certificates.proofs import proven, root_certificate
from tests.random_networks import random_conv, random_dense, random_residual

ROOT = Path(__file__).parents[2]
MAKERS = [random_dense, random_conv, random_residual]


def exact_outputs(network: Network, x: np.ndarray) -> list[Fraction]:
    """The network's value at one point in rational arithmetic, matrix by matrix."""
    reached = [[Fraction(v) for v in x.tolist()]]
    for node in network.nodes[1:]:
        if isinstance(node, ReluNode):
            reached.append([max(v, Fraction(0)) for v in reached[node.parent]])
            continue
        assert isinstance(node, AffineNode)
        total = [Fraction(b) for b in node.bias.tolist()]
        for parent, linear in node.terms:
            for i, row in enumerate(apply(linear, np.eye(linear.in_features)).T.tolist()):
                total[i] += sum((Fraction(w) * h for w, h in zip(row, reached[parent], strict=True) if w), Fraction(0))
        reached.append(total)
    return reached[-1]


def exact_bound(network: Network, region: Region, C: np.ndarray, cell: Cell) -> Fraction:
    box = exact.enclose(network, region.exact_lower, region.exact_upper)
    return exact.lower_bound(box, [Fraction(c) for c in C.tolist()], cell, (region.exact_lower, region.exact_upper))


def cell_of(bounds: Boxes, rng: np.random.Generator, kind: str) -> Cell:
    """Random multipliers at every ReLU, of any size."""
    columns = {node: np.arange(low.shape[1]) for node, low in bounds.pre_lower.items()}
    first = {node: rng.normal(size=len(c)) for node, c in columns.items()}
    second = {node: rng.normal(size=len(c)) for node, c in columns.items()}
    return Cell(bounds.lower[0], bounds.upper[0], (), columns, kind, first, second)


@pytest.mark.parametrize(
    ("make", "seed", "kind"), list(itertools.product(MAKERS, range(3), ["none", "slopes", "rows"]))
)
def test_float_bound_below_exact_bound_below_every_margin(make, seed: int, kind: str) -> None:
    network = make(seed)
    rng = np.random.default_rng(seed)
    lower = rng.uniform(-1, 1, network.inputs)
    region = Region.box(lower, lower + 0.3)
    bounds = enclosure.enclose(network, region.lower[None], region.upper[None])
    C = rng.integers(-2, 3, (1, network.outputs)).astype(float)
    cell = cell_of(bounds, rng, kind)
    (value,) = enclosure.lower_bounds(network, bounds, C, np.array([0]), [cell])
    truth = exact_bound(network, region, C[0], cell)
    assert value <= truth <= value + 1e-9 * (1 + abs(value))
    for x in region.sample(5, rng).astype(np.float64):
        y = exact_outputs(network, x)
        assert truth <= sum(Fraction(c) * v for c, v in zip(C[0].tolist(), y, strict=True))


def test_without_charged_rounding_bounds_would_be_too_high() -> None:
    above = 0
    for seed in range(20):
        network = random_dense(seed)
        rng = np.random.default_rng(seed)
        lower = rng.uniform(-1, 1, network.inputs)
        bounds = enclosure.enclose(network, lower[None], lower[None] + 0.3, unit=0.0)
        cell = cell_of(bounds, rng, "rows")
        C = rng.normal(size=(1, network.outputs))
        (value,) = enclosure.lower_bounds(network, bounds, C, np.array([0]), [cell])
        above += value > exact_bound(network, Region.box(lower, lower + 0.3), C[0], cell)
    assert above > 0


@pytest.mark.parametrize(("make", "seed"), list(itertools.product(MAKERS, range(3))))
def test_bounds_agree_with_the_provers(make, seed: int) -> None:
    network = make(seed)
    region = Region.box([-0.5] * network.inputs, [0.5] * network.inputs)
    mine = enclosure.enclose(network, region.lower[None], region.upper[None])
    theirs = backward_bounds(network, region)
    for node in network.relu_nodes:
        np.testing.assert_allclose(mine.pre_lower[node][0], theirs.lower[node], atol=1e-9)
        np.testing.assert_allclose(mine.pre_upper[node][0], theirs.upper[node], atol=1e-9)
    C = np.eye(network.outputs)
    cells = [Cell(region.lower, region.upper)] * len(C)
    value = enclosure.lower_bounds(network, mine, C, np.zeros(len(C), int), cells)
    np.testing.assert_allclose(value, lower_bounds(network, region, theirs, C), atol=1e-9)


@pytest.mark.parametrize(("make", "seed"), list(itertools.product(MAKERS, range(3))))
def test_bounds_under_phases_hold_where_the_signs_are_so(make, seed: int) -> None:
    network = make(seed)
    rng = np.random.default_rng(seed)
    region = Region.box([-1] * network.inputs, [1] * network.inputs)
    free = enclosure.enclose(network, region.lower[None], region.upper[None])
    places = [(k, int(j)) for k in network.relu_nodes for j in np.flatnonzero(free.slopes[k].width[0])][:3]
    points = region.sample(300, rng).astype(np.float64)
    reached = values(network, points)
    C = np.concatenate([np.eye(network.outputs), -np.eye(network.outputs)])
    tighter = 0
    for signs in itertools.product((1, -1), repeat=len(places)):
        phases = tuple((k, j, sign) for (k, j), sign in zip(places, signs, strict=True))
        bounds = enclosure.enclose(network, region.lower[None], region.upper[None], [phases])
        cells = [Cell(region.lower, region.upper, phases)] * len(C)
        value = enclosure.lower_bounds(network, bounds, C, np.zeros(len(C), int), cells)
        z = {k: reached[network.nodes[k].parent] for k in network.relu_nodes}
        here = np.all([sign * z[k][:, j] >= 0 for k, j, sign in phases], 0)
        for k in network.relu_nodes:
            assert (z[k][here] >= bounds.pre_lower[k] - 1e-12).all()
            assert (z[k][here] <= bounds.pre_upper[k] + 1e-12).all()
            tighter += int((bounds.pre_upper[k] < free.pre_upper[k] - 1e-6).sum())
        assert (reached[-1][here] @ C.T >= value - 1e-12).all()
        box = exact.enclose(network, region.exact_lower, region.exact_upper, phases)
        for row, bound in zip(C.tolist(), value.tolist(), strict=True):
            ends = region.exact_lower, region.exact_upper
            assert bound <= exact.lower_bound(box, list(map(Fraction, row)), cells[0], ends) or bound == -np.inf
    assert tighter > 0


@pytest.mark.parametrize("exactly", [False, True])
def test_phase_splits_may_bound_neurons_anew(exactly: bool) -> None:
    region = Region.box([-1] * 3, [1] * 3)
    query = Query.single(region, Property((Clause((Row(((0, Fraction(1)),), Fraction(200)),), 2, "y0 <= -200"),)))
    claim = Claim(0, (1.0,))
    gains = []
    for seed in range(6):
        network = random_dense(seed, (3, 8, 8, 8, 2))
        free = enclosure.enclose(network, region.lower[None], region.upper[None])
        weakest = []
        for keep in (True, False):
            split = PhaseSplit(2, int(free.slopes[2].width[0].argmax()), keep)
            tree = Tree(0, (Node((), split), Node((claim,)), Node((claim,))))
            data = write(Certificate(network.sha256, query, (tree,)))
            assert write(read(data)) == data
            report = check(data, network, exact=exactly)
            assert report.proven
            weakest.append(report.weakest)
        gains.append(weakest[1] - weakest[0])
    assert max(gains) > 1


@pytest.mark.parametrize(
    ("kind", "seed"), list(itertools.product(["plain", "skip", "line", "pool", "patch"], range(2)))
)
def test_bounds_on_windows_agree_with_the_provers_and_with_exact_ones(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    makers = {"pool": pool_network, "patch": patch_network}
    network = makers[kind](rng) if kind in makers else windowed_network(rng, kind)
    center = rng.uniform(0, 1, network.inputs)
    region = Region.box(center - 0.02, center + 0.02)
    mine = enclosure.enclose(network, region.lower[None], region.upper[None])
    theirs = backward_bounds(network, region)
    box = exact.enclose(network, region.exact_lower, region.exact_upper)
    reached = values(network, region.sample(50, rng))
    for node in network.relu_nodes:
        # Alike but for default slopes where a tie of −l and u is rounded differently.
        np.testing.assert_allclose(mine.pre_lower[node][0], theirs.lower[node], atol=1e-7)
        np.testing.assert_allclose(mine.pre_upper[node][0], theirs.upper[node], atol=1e-7)
        ends, scale = box.before[node], Fraction(2) ** box.before[node].shift * box.scale
        for low, value in zip(ends.low[0].tolist(), mine.pre_lower[node][0].tolist(), strict=True):
            assert abs(float(Fraction(int(low)) / scale) - value) < 1e-7
        assert (reached[network.nodes[node].parent] >= mine.pre_lower[node] - 1e-12).all()
        assert (reached[network.nodes[node].parent] <= mine.pre_upper[node] + 1e-12).all()
    C = np.eye(network.outputs)
    cells = [cell_of(mine, rng, "rows") for _ in C]
    found = enclosure.lower_bounds(network, mine, C, np.zeros(len(C), int), cells)
    for row, cell, value in zip(C, cells, found.tolist(), strict=True):
        truth = exact_bound(network, region, row, cell)
        assert value <= truth <= value + 1e-7 * (1 + abs(value))
    assert (reached[-1] >= found - 1e-12).all()


@pytest.mark.parametrize("make", MAKERS)
def test_boxes_bounded_together_are_bounded_as_alone(make) -> None:
    network = make(1)
    rng = np.random.default_rng(1)
    lower = rng.uniform(-1, 1, (4, network.inputs))
    together = enclosure.enclose(network, lower, lower + 0.4)
    for b in range(4):
        alone = enclosure.enclose(network, lower[b : b + 1], lower[b : b + 1] + 0.4)
        for node in network.relu_nodes:
            np.testing.assert_allclose(together.pre_lower[node][b], alone.pre_lower[node][0], atol=1e-9)


@pytest.mark.parametrize(("make", "seed"), list(itertools.product(MAKERS, range(3))))
def test_float32_bounds_hold_for_float32_in_any_order(make, seed: int) -> None:
    from solver.replay import Replayer

    network = make(seed)
    rng = np.random.default_rng(seed)
    region = Region.linf_ball(rng.uniform(-1, 1, network.inputs), "0.2")
    bounds = enclosure.enclose(network, region.lower[None], region.upper[None], float32=True)
    real = enclosure.enclose(network, region.lower[None], region.upper[None])
    C = np.concatenate([np.eye(network.outputs), -np.eye(network.outputs)])
    cells = [Cell(region.lower, region.upper)] * len(C)
    value = enclosure.lower_bounds(network, bounds, C, np.zeros(len(C), int), cells)
    over_reals = enclosure.lower_bounds(network, real, C, np.zeros(len(C), int), cells)
    assert (value < over_reals).all()
    outputs = Replayer(network)(region.sample(200, rng)).astype(np.float64)
    assert (outputs @ C.T >= value).all()


def test_float32_is_refused_where_inference_rounds_elsewhere() -> None:
    from onnx import helper

    from tests.random_networks import model

    leaky = model([helper.make_node("LeakyRelu", ["x"], ["y"], alpha=0.25)], [1, 2])
    network = networks.load_bytes(leaky)
    query = Query.single(Region.box([1, 0], [2, 0.5]), Property.classification(0, 2))
    data = root_certificate(network, query)
    assert check(data, network).proven
    with pytest.raises(CertificateError, match="LeakyRelu"):
        check(data, network, semantics="float32")


@pytest.mark.parametrize("kind", ["root", "boxes", "phases"])
def test_exact_arithmetic_accepts_what_floats_accept(kind: str) -> None:
    network, data = proven(kind)
    report = check(data, network, exact=True)
    assert report.proven
    assert report.exact == report.claims
    assert report.weakest >= check(data, network).weakest


def test_certificates_state_the_query_exactly() -> None:
    network = random_dense(0)
    query = Query.single(Region.linf_ball([0.1, 0.2, 0.3], "1/3"), Property.classification(0, 2))
    again = read(root_certificate(network, query)).query
    (region, prop), (expected, clauses) = again.cases[0], query.cases[0]
    assert region.exact_lower == expected.exact_lower
    assert region.exact_upper == expected.exact_upper
    assert [clause.rows for clause in prop.clauses] == [clause.rows for clause in clauses.clauses]


def test_the_checker_runs_without_torch_and_solvers(tmp_path: Path) -> None:
    network, data = proven("phases")
    (tmp_path / "proof").write_bytes(data)
    (tmp_path / "net.onnx").write_bytes(network.model)
    probe = (
        "import sys; from certificates.__main__ import main; code = main(sys.argv[1:]); "
        "print(sorted({'torch', 'pyomo', 'scipy', 'highspy', 'gurobipy', 'onnxruntime', 'flint', 'solver', 'bounds'} "
        "& sys.modules.keys())); sys.exit(code)"
    )
    command = [sys.executable, "-c", probe, str(tmp_path / "proof"), str(tmp_path / "net.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    line, *question, modules = done.stdout.splitlines()
    assert line.startswith("proven (real): no violation of 2 clauses")
    assert [said.split()[0] for said in question] == ["region", "property"]
    assert modules == "[]"


def test_the_checkers_exit_codes(tmp_path: Path) -> None:
    network, data = proven("root")
    manifest_only = root_certificate(network, read(data).query)
    (tmp_path / "net.onnx").write_bytes(network.model)
    for content, code in ((manifest_only, 0), (data[:50], 2)):
        (tmp_path / "proof").write_bytes(content)
        command = [sys.executable, "-m", "certificates", str(tmp_path / "proof"), str(tmp_path / "net.onnx")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
        assert done.returncode == code, done.stderr


@pytest.mark.parametrize(("make", "seed"), list(itertools.product(MAKERS, range(2))))
@pytest.mark.parametrize("engine", [Engine.AUTO, Engine.BAB])
def test_certified_verdicts_of_random_networks(make, seed: int, engine: Engine) -> None:
    network = make(seed)
    center = np.random.default_rng(seed).uniform(-1, 1, network.inputs)
    label = int(networks.evaluate(network, center[None])[0].argmax())
    query = Query.single(Region.linf_ball(center, "0.03"), Property.classification(label, network.outputs))
    verdict = verify(network, query, options=Options(engine, certificate=True), budget=Budget(20, 1))
    if verdict.outcome is Outcome.ROBUST:
        assert verdict.trust is Trust.CERTIFIED, verdict.stages[-1]
        assert verdict.certificate is not None
        assert check(verdict.certificate, network).proven
        assert verdict.to_json()["certificate"]["bytes"] == len(verdict.certificate)
    else:
        assert verdict.certificate is None


def test_without_the_option_nothing_is_certified() -> None:
    network = random_dense(0)
    query = Query.single(Region.box([0, 0, 0], [0.01, 0.01, 0.01]), Property.classification(0, 2))
    verdict = verify(network, query, budget=Budget(5, 1))
    assert verdict.certificate is None
    assert verdict.trust is not Trust.CERTIFIED


# Constructed and real networks


@pytest.mark.data
def test_no_fooling_network_is_certified_wrongly(data_folder: Path) -> None:
    from tests.solver.test_fooling import AS_BASE, REFUSED

    certified = 0
    for entry in json.loads((data_folder / "fooling" / "manifest.json").read_text()):
        if entry["name"] in REFUSED:
            continue
        network = networks.load(data_folder / "fooling" / entry["file"])
        region = Region.box(entry.get("lo", [0, 0]), entry.get("hi", [0.75, 0.75]))
        query = Query.single(region, Property.classification(entry.get("label", 0), network.outputs))
        expected = entry.get("expected_real", entry.get("expected", ""))
        unsafe = entry["name"] in AS_BASE or expected.startswith("not robust")
        for exactly in (False, True):
            report = check(root_certificate(network, query), network, exact=exactly)
            assert not (report.proven and unsafe), entry["name"]
        verdict = verify(network, query, options=Options(certificate=True), budget=Budget(10, 1))
        certified += verdict.trust is Trust.CERTIFIED
        assert not (verdict.trust is Trust.CERTIFIED and unsafe), entry["name"]
    assert certified >= 5


@pytest.mark.data
def test_real_networks_are_certified(data_folder: Path) -> None:
    network = networks.load(data_folder / "mipverify" / "mnist_wk17a_linf0.1.onnx")
    images = networks.Dataset.read(data_folder / "mnist" / "mnist_test.npz")
    region = Region.linf_ball(images.input(0), "0.1", (0, 1))
    query = Query.single(region, Property.classification(images.label(0), 10))
    queries = [(network, query, "linear")]
    for name, stage in (("1_6", "linear"), ("2_2", "bab")):
        network = networks.load(next((data_folder / "acasxu" / "onnx").glob(f"*_{name}_batch*")))
        spec = next((data_folder / "acasxu" / "vnnlib").glob("prop_3.vnnlib*"))
        queries.append((network, networks.read_vnnlib(spec, 5, 5), stage))
    for network, query, stage in queries:
        verdict = verify(network, query, options=Options(certificate=True), budget=Budget(100, 1))
        assert verdict.decided_by == stage
        assert verdict.trust is Trust.CERTIFIED, verdict.stages[-1]
