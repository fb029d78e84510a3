"""Damaged, forged and borrowed certificates: none proves a false claim, each fails with a reason."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import zipfile

import numpy as np
import pytest

import networks
from certificates import CertificateError, check, read
from tests.certificates.proofs import pack, proven, root_certificate, unpack
from tests.random_networks import dense_model

KINDS = ["root", "boxes", "phases"]


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest):
    network, data = proven(request.param)
    manifest, arrays = unpack(data)
    return network, data, manifest, arrays


def refused(network: networks.Network, data: bytes, words: str) -> None:
    with pytest.raises(CertificateError, match=words):
        check(data, network)


def last_tree(manifest: dict) -> list:
    return max((tree["nodes"] for tree in manifest["trees"]), key=len)


def test_the_original_passes(case) -> None:
    network, data, manifest, arrays = case
    report = check(data, network)
    assert report.proven, report
    assert report.weakest > 0
    assert check(pack(manifest, arrays), network).proven


def test_a_dropped_leaf_is_noticed(case) -> None:
    network, _, manifest, arrays = case
    last_tree(manifest).pop()
    refused(network, pack(manifest, arrays), "ends before its last leaf")


def test_a_doubled_leaf_is_noticed(case) -> None:
    network, _, manifest, arrays = case
    nodes = last_tree(manifest)
    nodes.append(copy.deepcopy(nodes[-1]))
    refused(network, pack(manifest, arrays), "after its last leaf")


def test_a_leaf_without_claims_proves_nothing(case) -> None:
    network, _, manifest, arrays = case
    last_tree(manifest)[-1][0] = []
    report = check(pack(manifest, arrays), network)
    assert not report.proven
    assert "whole region" in report.reason


def test_a_dropped_tree_proves_nothing(case) -> None:
    network, _, manifest, _ = case
    manifest["trees"] = []
    report = check(pack(manifest), network)
    assert not report.proven
    assert "no tree proves" in report.reason


@pytest.mark.parametrize("kind", ["boxes", "phases"])
def test_the_root_of_a_split_tree_is_not_enough(kind: str) -> None:
    network, data = proven(kind)
    manifest, _ = unpack(data)
    clause = next(claim for node in last_tree(manifest) for claim in node[0])
    manifest["trees"] = [{"case": 0, "nodes": [[[[c, clause[1], []] for c in range(2)]]]}]
    report = check(pack(manifest), network)
    assert not report.proven
    assert "only bounded by" in report.reason


def test_negated_multipliers_prove_nothing_more() -> None:
    network, data = proven("phases")
    manifest, arrays = unpack(data)
    honest = check(data, network)
    for name in [name for name in arrays if not name.endswith("columns")]:
        arrays[name] = -8 * arrays[name] - 1
    report = check(pack(manifest, arrays), network)
    assert not report.proven
    assert report.weakest < honest.weakest


def test_perturbed_multipliers_change_the_bound_a_little() -> None:
    network, data = proven("phases")
    manifest, arrays = unpack(data)
    for name in [name for name in arrays if not name.endswith("columns")]:
        arrays[name] = np.nextafter(arrays[name], np.float32(1)).astype(arrays[name].dtype)
    report = check(pack(manifest, arrays), network)
    assert math.isclose(report.weakest, check(data, network).weakest, abs_tol=1e-3)


def test_a_swapped_phase_is_only_accepted_if_it_is_proven() -> None:
    network, data = proven("phases")
    manifest, arrays = unpack(data)
    nodes = last_tree(manifest)
    leaf = [len(node) == 1 or not node[1] for node in nodes]
    first = next(i for i in range(len(nodes)) if leaf[i : i + 3] == [False, True, True])
    nodes[first + 1], nodes[first + 2] = nodes[first + 2], nodes[first + 1]
    swapped = check(pack(manifest, arrays), network)
    assert swapped.weakest < check(data, network).weakest or swapped.proven


def test_a_box_that_grows_is_bounded_anew() -> None:
    network, data = proven("boxes")
    manifest, arrays = unpack(data)
    manifest["cases"][0]["region"]["upper"] = ["1000"] * network.inputs
    report = check(pack(manifest, arrays), network)
    assert not report.proven


def test_a_region_shifted_by_one_ulp_is_another_claim() -> None:
    network, data = proven("boxes")
    manifest, arrays = unpack(data)
    split = next(node[1] for node in last_tree(manifest) if len(node) > 1)
    at = float.fromhex(split[2])
    # The split's face moves for both children at once: still a cover.
    split[2] = math.nextafter(at, math.inf).hex()
    check(pack(manifest, arrays), network)
    split[2] = (1e6).hex()
    refused(network, pack(manifest, arrays), "outside the box")


def test_another_network_is_refused(case) -> None:
    network, data, manifest, arrays = case
    center = read(data).query.cases[0][0].center
    label = networks.evaluate(network, center[None]).argmax()
    widths = (network.inputs, 8, 3)
    others = (networks.load_bytes(dense_model(seed, widths)) for seed in range(1000, 1100))
    other = next(other for other in others if networks.evaluate(other, center[None]).argmax() != label)
    refused(other, data, "is about the network with sha256")
    manifest["network"] = other.sha256
    with contextlib.suppress(CertificateError):  # its ReLUs need not even fit
        assert not check(pack(manifest, arrays), other).proven


def test_another_label_is_another_claim(case) -> None:
    network, _, manifest, arrays = case
    for clause in manifest["cases"][0]["clauses"]:
        for row in clause["rows"]:
            row["coefficients"] = [[i, (-float.fromhex(c)).hex()] for i, c in row["coefficients"]]
    report = check(pack(manifest, arrays), network)
    assert not report.proven


def test_an_offset_counts(case) -> None:
    network, _, manifest, arrays = case
    manifest["cases"][0]["clauses"][0]["rows"][0]["offset"] = "-1000000"
    assert not check(pack(manifest, arrays), network).proven


def test_a_zero_row_is_no_proof(case) -> None:
    network, _, manifest, arrays = case
    for tree in manifest["trees"]:
        for node in tree["nodes"]:
            for claim in node[0]:
                claim[1] = ["0x0.0p+0"]
    assert not check(pack(manifest, arrays), network).proven


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_multipliers_that_are_not_finite_are_refused(value: float) -> None:
    network, data = proven("phases")
    manifest, arrays = unpack(data)
    name = next(name for name in arrays if arrays[name].size and arrays[name].dtype.kind == "f")
    arrays[name] = arrays[name].copy()
    arrays[name].flat[0] = value
    refused(network, pack(manifest, arrays), "finite numbers")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 1}, "format version 1; this checker reads versions 3 and 4"),
        ({"format": "other"}, "does not say that this is"),
        ({"extra": 1}, "keys"),
        ({"cases": []}, "at least one case"),
        ({"network": "abc"}, "sha256"),
        ({"trees": [{"case": 7, "nodes": []}]}, "index of one of 1 cases"),
        ({"trees": [{"case": 0, "nodes": []}]}, "ends before"),
        ({"trees": [{"case": 0, "nodes": [[[[0, ["-0x1.0p+0"], []]]]]}]}, "nonnegative"),
        ({"trees": [{"case": 0, "nodes": [[[[0, ["nan"], []]]]]}]}, "hexadecimal"),
        ({"trees": [{"case": 0, "nodes": [[[[0, ["0x1.8p+5000"], []]]]]}]}, "malformed"),
        ({"trees": [{"case": 0, "nodes": [[[[True, ["0x1.0p+0"], []]]]]}]}, "index of a clause"),
        ({"trees": [{"case": 0, "nodes": [[[], ["relu", 1, 0]], [[]], [[]]]}]}, "no ReLU"),
        ({"trees": [{"case": 0, "nodes": [[[], ["anew", 0, 0]], [[]], [[]]]}]}, "no ReLU"),
        ({"trees": [{"case": 0, "nodes": [[[], ["hop", 1, 0]], [[]], [[]]]}]}, "box, cut, relu or anew"),
        ({"trees": [{"case": 0, "nodes": [[[[0, ["0x1.0p+0"], ["slopes", 0]]]]]}]}, "multipliers that are stored"),
    ],
)
def test_what_is_not_understood_is_refused(change: dict, words: str) -> None:
    network, data = proven("root")
    manifest, _ = unpack(data)
    refused(network, pack(manifest | change), words)


def test_constants_and_repeated_keys_are_refused() -> None:
    network, data = proven("root")
    manifest, _ = unpack(data)
    refused(network, pack(json.dumps(manifest | {"version": math.nan}).encode()), "NaN")
    text = json.dumps(manifest)
    refused(network, pack(text.replace('"version": 4', '"version": 4, "version": 4').encode()), "each key once")


def test_truncated_archives_are_refused(case) -> None:
    network, data, _, _ = case
    for size in (0, 10, len(data) // 2, len(data) - 1):
        refused(network, data[:size], "damaged or truncated|not a certificate")


def test_flipped_bytes_never_help(case) -> None:
    network, data, _, _ = case
    rng = np.random.default_rng(1)
    for place in rng.integers(0, len(data), 40).tolist():
        broken = bytearray(data)
        broken[place] ^= 1 << int(rng.integers(8))
        try:
            report = check(bytes(broken), network)
        except CertificateError:
            continue
        # Some bytes, such as time stamps, mean nothing.
        assert report.proven
        assert report.clauses == 2


@pytest.mark.parametrize("name", ["manifest.json", "multipliers.npz"])
def test_zip_bombs_stay_small(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, data = proven("root")
    monkeypatch.setattr("certificates.reading.MAX_MANIFEST", 2**20)
    monkeypatch.setattr("certificates.reading.MAX_ARRAYS", 2**20)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        if name != "manifest.json":
            archive.writestr("manifest.json", json.dumps(unpack(data)[0]))
        archive.writestr(name, bytes(2**24))
    refused(network, out.getvalue(), "unpacks to more|damaged")


def test_array_headers_are_not_believed() -> None:
    network, data = proven("phases")
    manifest, arrays = unpack(data)
    out = io.BytesIO()
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            text = buffer.getvalue()
            if name.endswith("slopes"):
                header = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 2, 1)}
                buffer = io.BytesIO()
                np.lib.format.write_array_header_1_0(buffer, header)
                text = buffer.getvalue()
            archive.writestr(f"{name}.npy", text)
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("multipliers.npz", inner.getvalue())
    refused(network, out.getvalue(), "numbers in tree")


def test_pickles_are_refused() -> None:
    network, data = proven("phases")
    manifest, arrays = unpack(data)
    arrays["tree0.rows"] = np.array([{}], dtype=object)
    refused(network, pack(manifest, arrays), "float32, float64 or int64")


def test_unknown_files_are_refused() -> None:
    network, data = proven("root")
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("../evil", "x")
    refused(network, out.getvalue(), "unknown")


def test_root_certificates_of_false_claims_fail() -> None:
    for seed in range(10):
        network = networks.load_bytes(dense_model(seed, (3, 6, 3)))
        region = networks.Region.box([-1] * 3, [1] * 3)
        for label in range(3):
            query = networks.Query.single(region, networks.Property.classification(label, 3))
            report = check(root_certificate(network, query), network)
            if report.proven:
                x = region.sample(200, np.random.default_rng(seed))
                assert all(not query.cases[0][1].violated(y) for y in networks.evaluate(network, x))
