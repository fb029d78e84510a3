"""VNNLIB: what a file says, and how it is told that it does not say it right."""

from __future__ import annotations

import csv
import gzip
import itertools
import re
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import networks
from networks import VnnlibError, parse_vnnlib, read_vnnlib
from networks.constraints import Constraint


def declared(inputs, outputs, body):
    lines = [f"(declare-const X_{i} Real)" for i in range(inputs)] + [
        f"(declare-const Y_{i} Real)" for i in range(outputs)
    ]
    return "\n".join(lines) + "\n" + body


UNIT = "(assert (<= X_0 1)) (assert (>= X_0 0))\n"


def parse(body, inputs=1, outputs=2):
    return parse_vnnlib(declared(inputs, outputs, body), inputs, outputs)


def single(body, **sizes):
    ((region, prop),) = parse(body, **sizes).cases
    return region, prop


def test_common_form():
    region, prop = single(
        """
        ; a comment (with parentheses
        (assert (<= X_0 0.1))  ; another
        (assert (>= X_0 -1e-3))
        (assert (or
            (and (>= Y_1 Y_0))
            (and (>= Y_2 Y_0) (<= Y_2 2.5))))
        """,
        outputs=3,
    )
    assert (region.exact_lower, region.exact_upper) == ((Fraction(-1, 1000),), (Fraction(1, 10),))
    one = Fraction(1)
    assert [set(row.coefficients) for row in prop.clauses[0].rows] == [{(0, one), (1, -one)}]
    assert [row.offset for row in prop.clauses[1].rows] == [0, Fraction(-5, 2)]
    assert prop.clauses[0].label == "Y_0 - Y_1 <= 0"
    assert not prop.violated(np.float32([1, 0, 0]))
    assert prop.violated(np.float32([1, 1, 0]))
    assert prop.violated(np.float32([1, 0, 2.5]))
    assert not prop.violated(np.float32([1, 0, 3]))


@pytest.mark.parametrize(
    ("condition", "y", "violated"),
    [
        ("(<= Y_0 1.5)", [1.5, 0], True),
        ("(<= 1.5 Y_0)", [1.25, 0], False),
        ("(>= 1.5 Y_0)", [1.5, 0], True),
        ("(>= Y_0 Y_1)", [1, 2], False),
        ("(= Y_0 Y_1)", [1, 1], True),
        ("(= Y_0 Y_1)", [1, 2], False),
        ("(<= (+ (* 2 Y_0) Y_1) 3)", [1, 1], True),
        ("(<= (+ (* 2 Y_0) Y_1 0.5) 3)", [1, 1], False),
        ("(<= (- Y_0 Y_1 1) (- 2))", [0, 1], True),
        ("(<= (* Y_0 0.1) 0.1)", [1, 0], True),
        ("(<= (* Y_0 0.1) 0.1)", [1.0000001, 0], False),
        ("(and (<= Y_0 0) (or (<= Y_1 0) (>= Y_1 2)))", [0, 3], True),
        ("(and (<= Y_0 0) (or (<= Y_1 0) (>= Y_1 2)))", [0, 1], False),
    ],
)
def test_output_conditions(condition, y, violated):
    _, prop = single(UNIT + f"(assert {condition})")
    assert prop.violated(np.float32(y)) == violated


@pytest.mark.parametrize("number", ["-0.5", "0.5", ".5", "5.", "+1", "1e-3", "00.10", "-1.25E+2", "7", "0." + "1" * 90])
def test_numbers_are_exact(number):
    region, _ = single(f"(assert (= X_0 {number})) (assert (<= Y_0 0))")
    assert region.exact_lower == region.exact_upper == (Fraction(number),)


@pytest.mark.parametrize("word", ["1_000", "1/2", "0x10", "inf", "-", "1.2.3", "1e", "--1"])
def test_other_words_are_no_numbers(word):
    with pytest.raises(VnnlibError, match="finite number"):
        single(f"(assert (= X_0 {word})) (assert (<= Y_0 0))")


def test_assertions_are_a_conjunction():
    _, prop = single(
        UNIT + "(assert (<= Y_0 0)) (assert (or (<= Y_1 0) (>= Y_1 2))) (assert (or (<= Y_0 -1) (>= Y_0 -2)))"
    )
    assert len(prop.clauses) == 4
    assert all(len(clause.rows) == 3 for clause in prop.clauses)


def test_boxes_inside_disjuncts_become_cases_and_equal_ones_are_shared():
    query = parse(
        """
        (assert (>= X_1 0)) (assert (<= X_1 1))
        (assert (or
            (and (>= X_0 0) (<= X_0 0.5) (<= Y_0 1))
            (and (>= X_0 0) (<= X_0 0.5) (>= Y_0 2))
            (and (<= X_0 9) (>= X_0 8) (<= X_1 0.5) (<= Y_0 1))
            (and (<= X_0 9) (>= X_0 8) (>= X_1 2) (<= Y_0 1))))
        """,
        inputs=2,
    )
    assert [len(prop.clauses) for _, prop in query.cases] == [2, 1]
    assert query.cases[0][0].upper.tolist() == [0.5, 1]
    assert query.cases[1][0].upper.tolist() == [9, 0.5]
    assert query.statement["cases"] == 2


def test_equality_and_repeated_bounds_of_inputs():
    region, _ = single("(assert (= X_0 0.25)) (assert (<= X_0 7)) (assert (>= X_0 -3)) (assert (<= Y_0 0))")
    assert region.exact_lower == region.exact_upper == (Fraction(1, 4),)
    region, _ = single("(assert (<= (* -2 X_0) 1)) (assert (<= (+ X_0 1) 2)) (assert (<= Y_0 0))")
    assert (region.exact_lower, region.exact_upper) == ((Fraction(-1, 2),), (Fraction(1),))


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("(assert (<= X_0 1))\n(assert (<= Y_0 0))", r"line 1, column 1: X_0 has no lower bound"),
        ("(assert (>= X_0 1))\n(assert (<= Y_0 0))", r"line 1, column 1: X_0 has no upper bound"),
        (
            "(assert (<= X_0 0))\n(assert (>= X_0 1))\n(assert (<= Y_0 0))",
            r"line [45], column 9: X_0 is bounded to nothing",
        ),
        (
            UNIT + "(assert (or (and (<= X_0 -1) (<= Y_0 0))\n (and (>= X_0 2) (<= Y_0 0))))",
            "bounds some input to nothing",
        ),
        (UNIT + "(assert (<= Y_0 Z_1))", r"line 5, column 17: 'Z_1' is neither"),
        (UNIT + "(assert (<= Y_0 Y_2))", r"line 5, column 17: 'Y_2' is neither"),
        (UNIT + "(assert (<= X_0 Y_0))", "relates inputs and outputs"),
        (UNIT + "(assert (<= (+ X_0 Y_0) 1))", "not supported"),
        (UNIT + "(assert (< Y_0 1))", r"line 5, column 10: strict comparison"),
        (UNIT + "(assert (not (<= Y_0 1)))", "unknown connective not"),
        (UNIT + "(assert (<= (* Y_0 Y_1) 1))", "multiplies variables"),
        (UNIT + "(assert (<= (sin Y_0) 1))", "unknown term"),
        (UNIT + "(assert (<= Y_0))", "compares two terms"),
        (UNIT + "(assert (<= 0 1))", "does not restrict"),
        (UNIT + "(assert (<= Y_0 Y_0))", "does not restrict"),
        (UNIT + "(assert (<= Y_0 1e999999999))", "finite number"),
        (UNIT + "(assert (<= Y_0 1e400))", "too large"),
        (UNIT + "(assert (<= Y_0 nan))", "finite number"),
        (UNIT + "(assert Y_0)", "expected a condition"),
        (UNIT + "(assert)", "takes one condition"),
        (UNIT + "(assert (or))", "empty disjunction"),
        (UNIT + "(assert (<= Y_0 1)", r"line 5, column 1: the parenthesis that opens here is never closed"),
        (UNIT + "(assert (<= Y_0 1)))", r"line 5, column 20: a closing parenthesis"),
        (UNIT + "stray (assert (<= Y_0 1))", "outside of parentheses"),
        (UNIT + "(minimize Y_0)", "unknown command"),
        (UNIT, "says nothing about the outputs"),
        ("", "there is no assert"),
        (UNIT + "(declare-const X_0 Real)", "declared twice"),
        (UNIT + "(declare-const X_7 Real)", r"X_7 is declared, but the network has 1 inputs"),
        (UNIT + "(declare-const X_1 Int)", "expected"),
        (UNIT + "(vnnlib-version <2.0>)", "VNNLIB 2"),
        (UNIT + "(assert " + "(and " * 200 + "(<= Y_0 1)" + ")" * 201, "nested deeper"),
        (UNIT + "(assert (and " + "(or (<= Y_0 1) (<= Y_1 1)) " * 30 + "))", "more than 200000 disjuncts"),
        (UNIT + "(assert (or (<= Y_0 1) (<= Y_1 1)))" * 30, "more than 200000 disjuncts"),
    ],
)
def test_errors_name_the_line_and_the_reason(body, word):
    with pytest.raises(VnnlibError, match=word) as caught:
        parse(body)
    assert "line " in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "outputs", "word"), [(2, 2, "1 inputs"), (1, 3, "2 outputs"), (1, 1, "Y_1 is declared")]
)
def test_specification_of_another_network_is_refused(inputs, outputs, word):
    with pytest.raises(VnnlibError, match=word):
        parse_vnnlib(declared(1, 2, UNIT + "(assert (<= Y_0 0))"), inputs, outputs)


def test_older_declarations_and_other_commands_are_read():
    text = (
        "(set-logic QF_LRA)(declare-fun X_0 () Real)(declare-fun Y_0 () Real)" + UNIT + "(assert (<= Y_0 0))(check-sat)"
    )
    assert parse_vnnlib(text, 1, 1).clauses == 1


def test_files(tmp_path):
    text = declared(1, 2, UNIT + "(assert (<= Y_0 0))")
    (tmp_path / "p.vnnlib").write_text(text)
    (tmp_path / "p.vnnlib.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "marked.vnnlib").write_text(text, encoding="utf-8-sig")
    for name in ("p.vnnlib", "p.vnnlib.gz", "marked.vnnlib"):
        assert read_vnnlib(tmp_path / name, 1, 2).statement["name"] == name
    with pytest.raises(VnnlibError, match="there is no specification"):
        read_vnnlib(tmp_path / "absent", 1, 2)
    (tmp_path / "half.gz").write_bytes(gzip.compress(text.encode())[:40])
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("half.gz", "binary"):
        with pytest.raises(VnnlibError, match=name):
            read_vnnlib(tmp_path / name, 1, 2)


FORMULAS = st.recursive(
    st.tuples(
        st.sampled_from(["<=", ">="]),
        st.sampled_from(["Y_0", "Y_1"]),
        st.sampled_from(["Y_0", "Y_1", "0", "0.5", "-1"]),
    ).filter(lambda f: f[1] != f[2]),
    lambda inner: st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=8,
)


def written(formula):
    if len(formula) == 3:
        return f"({formula[0]} {formula[1]} {formula[2]})"
    return f"({formula[0]} {' '.join(written(f) for f in formula[1])})"


def holds(formula, y):
    if len(formula) == 3:
        left, right = (y[int(t[2])] if t[0] == "Y" else float(t) for t in formula[1:])
        return left <= right if formula[0] == "<=" else left >= right
    return (all if formula[0] == "and" else any)(holds(f, y) for f in formula[1])


@given(FORMULAS)
def test_normal_form_means_the_same(formula):
    _, prop = single(UNIT + f"(assert {written(formula)})")
    for y in itertools.product([-1, 0, 0.25, 0.5, 1], repeat=2):
        assert prop.violated(np.float32(y)) == holds(formula, y)


@pytest.mark.parametrize("term", ["(+ X_0 (* -1 X_1))", "(- X_0 X_1)", "(* (- X_0 X_1) 1 1)", "(+ (- X_0 X_1 1) 1)"])
def test_comparisons_of_inputs_constrain_the_region(term):
    box = "".join(f"(assert (>= X_{i} 0)) (assert (<= X_{i} 1))" for i in range(2))
    region, _ = single(f"{box} (assert (<= {term} 0.25)) (assert (<= Y_0 0))", inputs=2)
    assert region.constraints == (Constraint.of([1, -1], "0.25"),)
    assert region.contains_exactly([Fraction(1, 2), Fraction(1, 4)])
    assert not region.contains_exactly([Fraction(51, 100), Fraction(1, 4)])


def test_constraints_bound_inputs_that_nothing_else_bounds():
    region, _ = single(
        """(assert (>= X_0 0)) (assert (<= X_1 X_0)) (assert (<= X_0 X_2)) (assert (<= (+ X_2 (* 2 X_0)) 3))
        (assert (>= X_1 (- X_0 0.5))) (assert (<= Y_0 0))""",
        inputs=3,
    )
    # x_2 ≥ x_0 ≥ 0, so 2 x_0 ≤ 3 − x_2 ≤ 3 and x_1 ≤ x_0 ≤ 3/2
    assert region.exact_lower == (0, Fraction(-1, 2), 0)
    assert region.exact_upper == (Fraction(3, 2), Fraction(3, 2), 3)
    with pytest.raises(VnnlibError, match="X_1 has no lower bound"):
        parse("(assert (>= X_0 0)) (assert (<= X_0 1)) (assert (<= X_1 X_0)) (assert (<= Y_0 0))", inputs=2)


def test_constraints_inside_disjuncts_make_cases():
    box = "".join(f"(assert (>= X_{i} 0)) (assert (<= X_{i} 1))" for i in range(2))
    query = parse(
        box
        + """(assert (<= (+ X_0 X_1) 1.5))
        (assert (or
            (and (<= X_0 X_1) (<= Y_0 0))
            (and (<= X_0 X_1) (<= Y_1 0))
            (and (>= X_0 X_1) (<= Y_0 1))
            (and (>= (+ X_0 X_1) 5) (<= Y_0 2))
            (<= Y_0 -1)))""",
        inputs=2,
    )
    shared = Constraint.of([1, 1], "1.5")
    assert [region.constraints for region, _ in query.cases] == [
        (shared, Constraint.of([1, -1], 0)),
        (shared, Constraint.of([-1, 1], 0)),
        (shared,),
    ]
    assert [len(prop.clauses) for _, prop in query.cases] == [2, 1, 1]


def test_a_place_is_that_of_the_word_also_behind_comments_and_in_nested_forms():
    text = declared(1, 2, UNIT + "(assert ; why\n  (or (<= Y_0 1)\n      (and (<= Y_1\t(+ 2 Q_1)))))")
    with pytest.raises(VnnlibError, match=r"line 7, column 26: 'Q_1'"):
        parse_vnnlib(text.expandtabs(2), 1, 2)


def broken(text, rng):
    """The text with a few characters or pieces lost, doubled, swapped or replaced."""
    pieces = list(text)
    for _ in range(rng.integers(1, 3)):
        at, other = rng.integers(0, len(pieces), 2)
        kind = rng.integers(0, 5)
        if kind == 0:
            del pieces[at : at + int(rng.integers(1, 12))]
        elif kind == 1:
            pieces[at] = '()[];"<=>-.,eXYr 019\n\0é'[rng.integers(0, 23)]
        elif kind == 2:
            pieces[at:at] = pieces[other : other + 15]
        elif kind == 3:
            pieces[at], pieces[other] = pieces[other], pieces[at]
        else:
            pieces = pieces[: max(at, 1)]
        if not pieces:
            return ""
    return "".join(pieces)


@pytest.mark.parametrize("version", [1, 2])
def test_broken_files_are_refused_with_a_place_or_read(version):
    """Nothing but a VnnlibError, which names a place inside the text; what still reads is a query."""
    old = declared(2, 2, "(assert (or (and (<= X_0 1) (>= X_0 -0.5) (<= Y_0 Y_1)) (and (>= X_0 2) (<= X_0 3e0))))")
    old += "(assert (<= X_1 X_0))(assert (>= X_1 0)) ; end\n(assert (<= (+ Y_0 (* 2 Y_1)) 3))"
    new = """(vnnlib-version <2.0>)
(declare-network f (declare-input X real [1,2] "in") (declare-output Y real [2]))
(assert (and (<= X[0,0] 1.0) (>= X[0,0] -0.5) (<= X[0,1] X[0,0]) (>= X[0,1] 0.0)))
(assert (or (<= Y[0] Y[1]) (and (== (* 2.0 Y[1]) 0.5) (<= Y[0] 1.0))))"""
    text = {1: old, 2: new}[version]
    rng = np.random.default_rng(version)
    read = refused = 0
    for _ in range(1500):
        changed = broken(text, rng)
        message = ""
        try:
            assert parse_vnnlib(changed, 2, 2).clauses >= 1
            read += 1
            continue
        except VnnlibError as error:
            message = str(error)
        refused += 1
        place = re.search(r"line (\d+), column (\d+): ", message)
        assert place is not None, (changed, message)
        lines = changed.split("\n")
        assert 1 <= int(place[1]) <= len(lines)
        assert 1 <= int(place[2]) <= len(lines[int(place[1]) - 1]) + 1
    assert min(read, refused) > 20


def test_megabytes_take_seconds():
    disjuncts = "\n".join(
        f"(and (>= X_0 0.{i:05d}1) (<= X_0 0.{i:05d}2) ({op} Y_0 0.{i:05d}))"
        for i in range(5_000)
        for op in ("<=", ">=")
    )
    text = declared(1, 1, f"(assert (or {disjuncts}))")
    start = time.perf_counter()
    query = parse_vnnlib(text, 1, 1)
    assert time.perf_counter() - start < 20
    assert len(query.cases) == 5_000


@pytest.mark.slow
@pytest.mark.data
def test_every_real_specification_is_read_in_two_seconds(data_folder):
    files = sorted(data_folder.rglob("*.vnnlib*"))
    assert len(files) > 400
    for path in files:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        sizes = [len(set(re.findall(rf"declare-const\s+{kind}_\d+", text))) for kind in "XY"]
        start = time.process_time()
        query = read_vnnlib(path, *sizes)
        assert time.process_time() - start < 2, path
        assert query.clauses >= 1


@pytest.mark.data
def test_real_specifications_fit_their_networks(data_folder):
    seen = set()
    with (data_folder / "ground_truth.csv").open() as file:
        for row in csv.DictReader(file):
            folder = data_folder / row["set"]
            key = (row["set"], row["vnnlib"][:16])
            if key in seen or row["set"] == "nn4sys_lindex":
                continue
            seen.add(key)
            network = networks.load(folder / row["onnx"], compare=False)
            query = read_vnnlib(folder / row["vnnlib"], network.inputs, network.outputs)
            assert query.clauses >= 1


@pytest.mark.data
def test_learned_index_has_one_case_per_key(data_folder):
    (path,) = data_folder.glob("nn4sys_lindex/*/lindex_200.vnnlib.gz")
    query = read_vnnlib(path, 1, 1)
    assert (len(query.cases), query.clauses) == (200, 400)
