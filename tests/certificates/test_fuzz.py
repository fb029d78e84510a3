"""Whatever is handed to the checker, it answers: proven, not proven with a reason, or refused with one."""

from __future__ import annotations

import copy
import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from certificates import CertificateError, check
from networks import Network
from tests.certificates.proofs import pack, proven, unpack
from tests.certificates.tampering import POOL, parent_of, places

KINDS = ["root", "boxes", "phases"]


def answer(data: bytes, network: Network, **options: Any) -> bool:
    """Whether it is proven; every other answer has a reason."""
    try:
        report = check(data, network, **options)
    except CertificateError as error:
        proves, reason = False, str(error)
    else:
        proves, reason = report.proven, report.reason
    assert proves == (reason == "")
    return proves


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_refused(seed: int) -> None:
    network, data = proven("root")
    rng = np.random.default_rng(seed)
    noise = rng.bytes(int(rng.integers(0, 3000)))
    assert not answer(noise, network)
    assert not answer(data[:30] + noise, network)
    assert not answer(noise[:20] + data[20:], network)
    assert not answer(b"PK\x03\x04" + noise, network)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_broken_bytes_never_help(kind: str, seed: int) -> None:
    network, data = proven(kind)
    rng = np.random.default_rng(seed)
    original = check(data, network)
    for _ in range(40):
        broken = bytearray(data)
        for place in rng.integers(0, len(data), int(rng.integers(1, 4))).tolist():
            broken[place] = int(rng.integers(256))
        if answer(bytes(broken), network):  # some bytes, such as time stamps, mean nothing
            assert check(bytes(broken), network).weakest == original.weakest


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", KINDS)
def test_manifests_of_any_shape_are_answered(kind: str, seed: int) -> None:
    network, data = proven(kind)
    manifest, arrays = unpack(data)
    rng = np.random.default_rng(seed)
    paths = list(places(manifest))
    for _ in range(40):
        changed = copy.deepcopy(manifest)
        # Most entries are ends of the region; the others matter as much.
        short = [path for path in paths if path[:3] != ("cases", 0, "region")] if rng.random() < 0.8 else paths
        path = short[int(rng.integers(len(short)))]
        holder = parent_of(changed, path)
        if rng.random() < 0.2 and isinstance(holder, list):
            holder.insert(path[-1], copy.deepcopy(holder[path[-1]]))
        elif rng.random() < 0.2:
            del holder[path[-1]]
        else:
            holder[path[-1]] = copy.deepcopy(POOL[int(rng.integers(len(POOL)))])
        answer(pack(changed, arrays), network)


@pytest.mark.parametrize("seed", range(4))
def test_arrays_of_any_shape_are_answered(seed: int) -> None:
    network, data = proven("phases")
    manifest, arrays = unpack(data)
    rng = np.random.default_rng(seed)
    for _ in range(20):
        changed = dict(arrays)
        name = sorted(arrays)[int(rng.integers(len(arrays)))]
        array = arrays[name]
        choice = int(rng.integers(7))
        if choice == 0:
            del changed[name]
        elif choice == 1:
            changed[name] = array[:-1]
        elif choice == 2:
            changed[name] = array.reshape(-1)
        elif choice == 3:
            changed[name] = np.asfortranarray(np.concatenate([array] * 2, -1))
        elif choice == 4:
            changed[name] = (array * -(2.0**100)).astype(array.dtype if array.dtype.kind == "f" else float)
        elif choice == 5:
            changed[name] = array + np.asarray(1000, array.dtype)
        else:
            changed[f"tree{int(rng.integers(12))}.rows"] = array.astype(np.float32)
        answer(pack(manifest, changed), network)


@pytest.mark.parametrize("kind", KINDS)
def test_huge_numbers_are_answered_in_exact_arithmetic(kind: str) -> None:
    network, data = proven(kind)
    manifest, arrays = unpack(data)
    rng = np.random.default_rng(1)
    for end in ("lower", "upper"):
        ends = manifest["cases"][0]["region"][end]
        # Denominators of a thousand digits that have nothing in common, close to the ends themselves.
        for i, text in enumerate(ends):
            value = Fraction(text) if "/" in text else Fraction(float.fromhex(text))
            odd = int(rng.integers(10**9)) * 10**1000 + 2 * i + 1
            ends[i] = str(Fraction(math.floor(value * odd) if end == "upper" else math.ceil(value * odd), odd))
    assert answer(pack(manifest, arrays), network, exact=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_region_that_is_one_step_larger_is_bounded_on_the_larger_region(kind: str) -> None:
    network, data = proven(kind)
    manifest, arrays = unpack(data)
    for end, way in (("lower", -math.inf), ("upper", math.inf)):
        changed = copy.deepcopy(manifest)
        ends = changed["cases"][0]["region"][end]
        value = Fraction(ends[0]) if "/" in ends[0] else Fraction(float.fromhex(ends[0]))
        ends[0] = math.nextafter(math.nextafter(float(value), way), way).hex()
        report = check(pack(changed, arrays), network)
        assert report.weakest <= check(data, network).weakest + 1e-12
        assert abs(report.weakest - check(data, network).weakest) < 1e-9


def test_deeply_nested_manifests_are_refused() -> None:
    network, _ = proven("root")
    assert not answer(pack(b"[" * 100_000 + b"]" * 100_000), network)
    assert not answer(pack(b'{"a":' * 50_000 + b"1" + b"}" * 50_000), network)
    assert not answer(pack(json.dumps({"format": "netproof-certificate", "version": 4}).encode()), network)
