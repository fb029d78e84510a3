"""Whatever is changed in a certificate: it is refused, proves nothing, or claims what is true and shows what it claims.

The truth comes from enumeration on networks of a few ReLUs, the claim from a reader of its own
(`tests.certificates.tiny`). The quick tests take one change in many, the slow ones take all.
"""

from __future__ import annotations

import io
import re
import struct
import time
import zipfile
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from certificates import CertificateError, check
from certificates.__main__ import main
from certificates.walk import MAX_DEPTH
from networks import Network
from tests.certificates.proofs import pack, unpack
from tests.certificates.tampering import (
    archived,
    contents,
    flipped,
    flipped_inside,
    parent_of,
    rearranged,
    silent,
    strangers,
)
from tests.certificates.tiny import CERTIFICATES, Claims, certificate, claims, true

#: One change in so many is tried in the quick tests.
FEW = 797
LONGEST = 10.0
"""CPU seconds that an answer may take."""

_REGION = re.compile(
    r"region    (\d+) inputs between (.+) and (.+), each in an interval at most (.+) wide(?:, (\d+) of them fixed)?"
    r"(?:, within (l\d) distance (.+) of a center)?(?:, with (\d+) linear constraints)?"
)
_WAYS: dict[tuple[str, ...], dict[str, Any]] = {
    (): {},
    ("--exact",): {"exact": True},
    ("--float32",): {"semantics": "float32"},
}
_TERM = re.compile(r"([+-]) (?:((?:≈ )?[\d.][\d.e+-]*) ?)?(?:y(\d+))?")


class Bench:
    """Runs the command on one network's certificates and compares what it says with what is true."""

    def __init__(self, kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.network, self.data = certificate(kind)
        self._files = folder / "proof", folder / "net.onnx"
        self._files[1].write_bytes(self.network.model)
        self._capsys = capsys
        self.found: Counter[str] = Counter()

    def answer(self, data: bytes, *options: str) -> bool:
        """Whether the command accepts it; everything that it says is compared."""
        began = time.process_time()
        self._files[0].write_bytes(data)
        code = main([*map(str, self._files), *options])
        assert time.process_time() - began < LONGEST
        printed, errors = self._capsys.readouterr()
        lines = printed.splitlines()
        assert (code == 2) == (not lines) == errors.startswith("bad input: ")
        assert (code == 1) == printed.startswith("not proven: ")
        assert (code == 0) == printed.startswith("proven (")
        self.found[("accepted", "not proven", "refused")[code]] += 1
        if code == 0:
            said = claims(data)
            assert true(self.network, said), said
            agree(lines, said)
            self.found["other claim" if said != claims(self.data) else "same claim"] += 1
        return code == 0

    def answer_quickly(self, data: bytes) -> bool:
        """`answer` where the checker accepts, in whatever arithmetic; else only that it refuses or says why not."""
        began = time.process_time()
        proven = []
        for flags, options in _WAYS.items():
            try:
                report = check(data, self.network, **options)
            except CertificateError:
                if not flags:
                    self.found["refused"] += 1
                    return False
                continue  # float32 inference is not covered
            assert report.proven == (report.reason == "")
            if report.proven:
                proven.append(flags)
        assert time.process_time() - began < LONGEST
        if proven:
            return self.answer(data, *proven[0])
        self.found["not proven"] += 1
        return False

    def tell(self, what: str) -> None:
        """Prints how many changes came to what."""
        with self._capsys.disabled():
            print(f"\n{what}: {dict(self.found)}")


def agree(lines: list[str], said: Claims) -> None:
    """The printed lines say what is claimed, number by number where they show numbers."""
    _, cases = said
    clauses = sum(len(case[-1]) for case in cases)
    inputs = len(cases[0][0])
    assert f"no violation of {clauses} clauses on {len(cases)} region(s) of {inputs} inputs" in lines[0]
    for case, region, prop in zip(cases, lines[1::2], lines[2::2], strict=False):
        lower, upper, ball, limits, _, violations = case
        shown = _REGION.fullmatch(region.strip())
        assert shown, region
        widths = [high - low for low, high in zip(lower, upper, strict=True)]
        count, low, high, wide, fixed, norm, radius, constraints = shown.groups()
        assert int(count) == inputs
        for text, value in ((low, min(lower)), (high, max(upper)), (wide, max(widths))):
            same(text, value)
        assert int(fixed or 0) == widths.count(0)
        assert (norm is None) == (ball is None)
        assert int(constraints or 0) == len(limits)
        if ball is not None:
            assert norm == ball[0]
            same(radius, ball[2])
        property_agrees(prop.strip().removeprefix("property  "), violations)
    assert (len(lines) - 1) == 2 * min(len(cases), 3) + (len(cases) > 3)


def same(text: str, value: Fraction) -> None:
    """A number that is shown is the number, unless it is marked as rounded."""
    if text.startswith("≈ "):
        assert abs(Fraction(text[2:]) - value) <= abs(value) / 10**5
    else:
        assert Fraction(text) == value


def property_agrees(text: str, violations: Any) -> None:
    if text.startswith("output "):
        found = re.fullmatch(r"output (\d+) stays above outputs? (.+)", text)
        assert found is not None, text
        winner, rivals = found.groups()
        runs = [list(map(int, run.split("-"))) for run in re.split(", | and ", rivals)]
        shown = {rival for run in runs for rival in range(run[0], run[-1] + 1)}
        rows = {tuple(sorted([(int(winner), Fraction(1)), (rival, Fraction(-1))])) for rival in shown}
        assert {((row, Fraction(0)),) for row in rows} == set(violations)
        return
    told = text.removeprefix("never ").split(", or ")
    if told[-1].endswith(" more") and len(violations) > 3:
        assert told.pop() == f"{len(violations) - 3} more"
    for clause, rows in zip(told, violations[:3], strict=True):
        each = clause.strip("()").split(" and ")
        assert len(each) == len(rows) <= 3
        for row, (form, offset) in zip(each, rows, strict=True):
            signed = row if row.startswith("-") else f"+ {row}"
            terms = _TERM.findall(signed.removesuffix(" ≤ 0"))
            numbers = {i: (sign, number or "1") for sign, number, i in terms}
            assert set(numbers) == {str(i) for i, _ in form} | ({""} if offset else set()), row
            for key, value in [*((str(i), c) for i, c in form), *([("", offset)] if offset else [])]:
                sign, number = numbers[key]
                assert (sign == "-") == (value < 0)
                same(number, abs(value))


#: What the quick tests leave to the slow ones.
_SLOW = {"boxes", "l2 phases", "constraints", "margin", "distance", "equivalence", "monotone", "version 3"}
_KINDS = [pytest.param(kind, marks=[pytest.mark.slow] if kind in _SLOW else []) for kind in CERTIFICATES]


@pytest.fixture(params=_KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(request.param, tmp_path, capsys)


def test_certificates_of_every_kind_are_accepted_and_true(bench: Bench) -> None:
    for option in ((), ("--exact",), ("--float32",)):
        bench.answer(bench.data, *option)
    assert bench.found["accepted"] >= 2  # inference of a product network is not that of the networks


def test_a_flipped_bit_says_nothing_else(bench: Bench) -> None:
    flips_change_nothing(bench, flipped(bench.data, FEW))


def test_what_is_accepted_after_a_change_is_true(bench: Bench) -> None:
    for changed in (*flipped_inside(bench.data, FEW), *rearranged(bench.data, FEW)):
        bench.answer_quickly(changed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_flipped_bit_says_anything_else(bench: Bench) -> None:
    flips_change_nothing(bench, flipped(bench.data))
    bench.tell("flipped")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_is_accepted_after_any_change_is_true(bench: Bench) -> None:
    for changes in (flipped_inside, rearranged):
        bench.found.clear()
        for changed in changes(bench.data):
            bench.answer_quickly(changed)
        bench.tell(changes.__name__)


def flips_change_nothing(bench: Bench, flips: Iterable[tuple[int, bytes]]) -> None:
    """A file that differs in one bit is refused, unless it holds the same bytes once they are unpacked."""
    unread = silent(bench.data)
    for bit, changed in flips:
        if bench.answer_quickly(changed):
            assert contents(changed) == contents(bench.data)
            bench.found["unread bytes" if bit // 8 in unread else "other compression"] += 1


def test_objects_hold_nothing_that_is_not_read(bench: Bench) -> None:
    changes = list(strangers(bench.data))
    assert len(changes) > 5
    for changed in changes:
        refused(bench.network, changed, "keys")


def refused(network: Network, data: bytes, words: str) -> None:
    with pytest.raises(CertificateError, match=words):
        check(data, network)


def test_archives_hold_nothing_beside_their_files() -> None:
    network, data = certificate("phases")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        start, second = archive.start_dir, archive.infolist()[1].header_offset
    for at in (0, second, start, len(data)):
        refused(network, data[:at] + b"more" + data[at:], "archive|certificate")
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as archive:
        archive.comment = b"proven for every input"
    refused(network, out.getvalue(), "other bytes")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = [(name, archive.read(name)) for name in archive.namelist()]
    for extra, comment in ((b"\xfe\xca\x04\x00more", b""), (b"", b"more")):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, content in files:
                entry = zipfile.ZipInfo(name)
                entry.extra, entry.comment = extra, comment
                archive.writestr(entry, content)
        refused(network, out.getvalue(), "no more about it")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name), content)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(zipfile.ZipInfo(files[0][0]), files[0][1])
    refused(network, out.getvalue(), "repeated")


@pytest.mark.parametrize("place", [4, 6, 10, 14, 18, 22])
def test_a_file_and_the_directory_say_the_same(place: int) -> None:
    network, data = certificate("bounds")
    changed = bytearray(data)
    changed[place] ^= 2
    refused(network, bytes(changed), "different things")


def test_compressed_data_end_where_the_archive_says() -> None:
    """A member may not carry bytes behind its compressed data, which no program shows."""
    network, data = certificate("bounds")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (entry,), start = archive.infolist(), archive.start_dir
    size = struct.pack("<L", entry.compress_size + 4)
    changed = bytearray(data[:start] + b"more" + data[start:])
    changed[18:22] = changed[start + 4 + 20 : start + 4 + 24] = size
    end = len(changed) - 22
    changed[end + 16 : end + 20] = struct.pack("<L", start + 4)
    with zipfile.ZipFile(io.BytesIO(changed)) as archive:
        assert archive.read(entry.filename) == contents(data)[entry.filename]
    refused(network, bytes(changed), "Bad size or checksum")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_manifests_are_plain_utf_8(encoding: str) -> None:
    network, data = certificate("bounds")
    text = contents(data)["manifest.json"].decode()
    assert check(pack(text.encode()), network).proven
    refused(network, pack(text.encode(encoding)), "malformed")


def test_weights_do_not_make_a_bound_larger() -> None:
    """Weights of 2⁴⁰ multiply what is bounded; the bound that is shown is for weights that sum to 1."""
    network, data = certificate("conjunction")
    manifest, arrays = unpack(data)
    shown = check(data, network).weakest
    for tree in manifest["trees"]:
        for node in tree["nodes"]:
            for claim in node[0]:
                claim[1] = [(float.fromhex(weight) * 2.0**40).hex() for weight in claim[1]]
    assert 0.99 * shown < check(pack(manifest, arrays), network).weakest <= shown


def test_a_file_that_is_replaced_is_not_worded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """The question that is printed is that of the bytes that were checked."""
    network, data = certificate("bounds")
    other = certificate("boxes")[1]
    proof, model = tmp_path / "proof", tmp_path / "net.onnx"
    proof.write_bytes(data)
    model.write_bytes(network.model)

    def replaced(*args: Any, **options: Any) -> Any:
        proof.write_bytes(other)
        return check(*args, **options)

    monkeypatch.setattr("certificates.command.check", replaced)
    assert main([str(proof), str(model)]) == 0
    assert "region    4 inputs" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{'descr': '<f4', 'shape': ((2, 1", "{'descr': '<f4'", "# (2, 1, 1)", "(1L,)", ""])
def test_headers_of_arrays_are_those_that_numpy_writes(text: str) -> None:
    """NumPy's own reader ends on some of them with an error of Python's tokenizer, and warns of others."""
    network, data = certificate("phases")
    for name, content in contents(data).items():
        if name.endswith(".npy"):
            header = text.encode().ljust(len(content[10:].split(b"\n")[0])) + b"\n"
            refused(
                network,
                archived(contents(data) | {name: content[:10] + header + content[10 + len(header) :]}),
                "header",
            )


@pytest.mark.parametrize(("kind", "radius"), [("l2", "1" + "0" * 155), ("l1", "1" + "0" * 309), ("l2", "9" * 4000)])
def test_balls_beyond_float64_are_refused(kind: str, radius: str) -> None:
    network, data = certificate(kind)
    manifest, arrays = unpack(data)
    manifest["cases"][0]["region"]["radius"] = radius
    refused(network, pack(manifest, arrays), "epsilon must be at most")


@pytest.mark.parametrize("split", ["relu", "anew", "cut"])
def test_trees_are_not_deeper_than_memory_holds(split: str) -> None:
    """A chain of 8000 splits takes a file of 1.5 kB, and took 4.6 GiB to check."""
    network, data = certificate("bounds")
    manifest, arrays = unpack(data)
    place = float(Fraction(manifest["cases"][0]["region"]["lower"][0])).hex() if split == "cut" else 0
    where = [split, 0 if split == "cut" else network.relu_nodes[0], place]
    leaf = [[[0, ["0x1.0p+0"], []]]]
    for depth, words in ((40, ""), (MAX_DEPTH + 1, "more than 2048 splits")):
        manifest["trees"] = [{"case": 0, "nodes": [[[], where]] * depth + [leaf] * (depth + 1)}]
        if words:
            refused(network, pack(manifest, arrays), words)
        else:
            assert check(pack(manifest, arrays), network).proven


@pytest.mark.parametrize("value", ["٣", "３", "1/٣", " 1", "1_0", "0x1.8p+٣"])
def test_numbers_are_written_in_ascii(value: str) -> None:
    network, data = certificate("bounds")
    manifest, arrays = unpack(data)
    manifest["cases"][0]["region"]["upper"][0] = value
    refused(network, pack(manifest, arrays), "a finite hexadecimal float")


@pytest.mark.parametrize(
    ("path", "value"),
    [(("cases", 0, "region", "lower"), "1234"), (("cases", 0, "clauses", 0, "label"), ["class 1"]),
     (("trees", 0, "nodes", 0, 0, 0, 2), None), (("trees", 0, "bounds"), None), (("trees",), {})],
)  # fmt: skip
def test_values_are_of_their_type(path: tuple[Any, ...], value: Any) -> None:
    """Text is no list of its letters, and null is not the same as nothing."""
    network, data = certificate("bounds")
    manifest, arrays = unpack(data)
    parent_of(manifest, path)[path[-1]] = value
    refused(network, pack(manifest, arrays), "malformed")


@pytest.mark.parametrize("radius", ["3", str(2**70), str(10**300)])
def test_an_l0_ball_moves_no_more_entries_than_there_are(radius: str) -> None:
    network, data = certificate("l0")
    manifest, arrays = unpack(data)
    manifest["cases"][0]["region"]["radius"] = radius
    for exact in (False, True):
        assert check(pack(manifest, arrays), network, exact=exact).proven
