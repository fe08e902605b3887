"""Expressions: what they mean, beside numpy and plain loops, and how everything else is refused before it runs."""

from __future__ import annotations

import math
import operator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiplet import kinematics
from multiplet.data.expressions import parse, quote
from multiplet.data.formats.fields import Jagged
from multiplet.errors import DataError

OFFSETS = np.array([0, 3, 3, 4, 6])  # the second event is empty
X = np.array([1.0, -2.0, 3.5, 0.25, 8.0, -1.0], np.float32)
Y = np.array([3, 4, 5, 6, 0, 2], np.int16)
COLUMNS = {
    "x": Jagged(X, OFFSETS),
    "y": Jagged(Y, OFFSETS.copy()),
    "good": Jagged(np.array([True, False, True, True, False, False]), OFFSETS),
    "met": Jagged(np.array([10.0, 20.0, 30.0, 40.0]), None),
    "flag": Jagged(np.array([0, 1, 2, 3], np.uint8), None),
    "event": Jagged(np.array([2**63 + 1, 2**53 + 1, 7, 8], np.uint64), None),
    "other": Jagged(np.arange(4.0), np.array([0, 1, 2, 3, 4])),
    "Jet.PT": Jagged(np.array([1.0, 2.0, 3.0, 4.0]), None),
    "η": Jagged(np.array([5.0, 6.0, 7.0, 8.0]), None),
}
COUNTS = np.diff(OFFSETS)


def value(text: str) -> Jagged:
    return parse(text).evaluate(COLUMNS, 4)


def lists() -> list[list[float]]:
    return [[float(one) for one in X[low:high]] for low, high in pairwise(OFFSETS)]


POINTS: dict[str, Any] = {
    "x + y * 2 - 1": X.astype(float) + Y.astype(float) * 2 - 1,
    "-x / 4": -X.astype(float) / 4,
    "x ** 2": X.astype(float) ** 2,
    "y // 2": Y // 2,
    "y % 4": Y % 4,
    "y % x": np.mod(Y.astype(float), X.astype(float)),
    "y // 0": np.array([np.inf, np.inf, np.inf, np.inf, np.nan, np.inf]),
    "x > 0": X > 0,
    "0 < x <= 3.5": (X > 0) & (X <= 3.5),
    "(x > 0) & (y != 4) | good": (X > 0) & (Y != 4) | COLUMNS["good"].values,
    "x > 0 and not good or y == 0": (X > 0) & ~COLUMNS["good"].values | (Y == 0),
    "~good": ~COLUMNS["good"].values,
    "(y & 2) > 0": (Y & 2) > 0,
    "y | 8": Y | 8,
    "good & y": COLUMNS["good"].values & (Y != 0),
    "x + met": X.astype(float) + np.repeat(COLUMNS["met"].values, COUNTS),
    "where(good, x, -999)": np.where(COLUMNS["good"].values, X, -999),
    "where(y, 1, 0)": np.where(Y != 0, 1, 0),
    "sqrt(abs(x))": np.sqrt(np.abs(X.astype(float))),
    "np.log(x)": np.log(np.where(X > 0, X, np.nan).astype(float)),
    "numpy.hypot(x, y)": np.hypot(X.astype(float), Y.astype(float)),
    "clip(x, -1, 2)": np.clip(X.astype(float), -1, 2),
    "minimum(x, 1)": np.minimum(X.astype(float), 1),
    "arctan2(x, y) + pi": np.arctan2(X.astype(float), Y.astype(float)) + np.pi,
    "isfinite(1 / y)": Y != 0,
    "ak.ones_like(y)": np.ones(6),
    "asinh(x)": np.arcsinh(X.astype(float)),
    "pt(x, y)": kinematics.pt(X.astype(float), Y.astype(float)),
    "eta(x, y + 1, met)": np.arcsinh(
        np.repeat(COLUMNS["met"].values, COUNTS) / np.hypot(X.astype(float), Y.astype(float) + 1)
    ),
    "delta_phi(x, 3)": (X.astype(float) - 3 + np.pi) % (2 * np.pi) - np.pi,
    "mass(x, 0, 0, y)": np.sqrt(np.maximum(Y.astype(float) ** 2 - X.astype(float) ** 2, 0)),
    "x - mean(x)": X.astype(float) - np.repeat([np.mean(one) if one else np.nan for one in lists()], COUNTS),
}
EVENTS: dict[str, Any] = {
    "sum(x)": [sum(one) for one in lists()],
    "mean(x)": [sum(one) / len(one) if one else math.nan for one in lists()],
    "min(x)": [min(one, default=math.nan) for one in lists()],
    "max(x)": [max(one, default=math.nan) for one in lists()],
    "first(x)": [one[0] if one else math.nan for one in lists()],
    "count(x)": [len(one) for one in lists()],
    "count(x > 0)": [sum(v > 0 for v in one) for one in lists()],
    "sum(good)": [2, 0, 1, 0],
    "any(x > 3)": [any(v > 3 for v in one) for one in lists()],
    "all(x > -2)": [all(v > -2 for v in one) for one in lists()],
    "ak.sum(x, axis=1)": [sum(one) for one in lists()],
    "awkward.max(x, axis=-1) > 1": [True, False, False, True],
    "min(x) < 100": [True, False, True, True],  # of nothing there is no smallest: not below 100 either
    "(max(x) > 3) & (met < 20)": [True, False, False, False],
    "1 + 1 == 2": [True] * 4,
    "met": [10, 20, 30, 40],
    "event % 2": [1, 1, 1, 0],
    "event % 2 == 0": [False, False, False, True],
    "event == 9223372036854775809": [True, False, False, False],
    "event > 9007199254740992": [True, True, False, False],
    "not flag": [True, False, False, False],
    "flag > 300": [False] * 4,
    "flag & 2": [0, 0, 2, 2],
    "flag % 300": [0, 1, 2, 3],  # more than its type holds
    "`Jet.PT` + `η`": [6, 8, 10, 12],
    "`met` * 2": [20, 40, 60, 80],
    "9**9**9": [np.inf] * 4,
    "  met\n > \t20 ": [False, False, True, True],
}


@pytest.mark.parametrize("text", POINTS)
def test_values_of_points(text: str) -> None:
    found = value(text)
    assert found.offsets is not None
    np.testing.assert_array_equal(found.offsets, OFFSETS)
    np.testing.assert_allclose(found.values, POINTS[text], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("text", EVENTS)
def test_values_of_events(text: str) -> None:
    found = value(text)
    assert found.offsets is None
    np.testing.assert_allclose(found.values, EVENTS[text], rtol=1e-12)


def test_conditions_are_booleans_and_whole_numbers_stay_whole() -> None:
    assert value("x > 0").values.dtype == value("good & y").values.dtype == bool
    assert value("y % 4").values.dtype.kind == value("sum(y)").values.dtype.kind == "i"
    assert value("event // 2").values.tolist() == [2**62, 2**52, 3, 4]  # beyond what float64 holds
    assert value("sum(y) * 1").values.dtype == np.float64


def test_a_column_is_compared_in_its_own_type() -> None:
    column = {"x": Jagged(np.array([0.1], np.float32), None)}
    assert parse("x == 0.1").evaluate(column, 1).values.tolist() == [True]


def test_names_are_those_of_the_columns() -> None:
    assert parse("pt(px, py) > pt and sum(`a b`) > np.log(px)").names == ("px", "py", "pt", "a b")
    assert parse(" + ".join(map(quote, ("x", "a.b", "class", "pi", "η", "a b")))).names == (
        *("x", "a.b", "class", "pi", "η", "a b"),
    )


def test_no_events_at_all() -> None:
    none = {"x": Jagged(np.zeros(0, np.float32), np.zeros(1, np.int64))}
    for text in ("sum(x)", "min(x)", "any(x > 0)", "count(x)", "first(x) > 1", "1 > 0"):
        assert parse(text).evaluate(none, 0).values.shape == (0,)


LEAVES: dict[str, Any] = {"x": X.astype(float), "y": Y.astype(float), "met": np.repeat(COLUMNS["met"].values, COUNTS)}
LEAVES |= {text: np.float64(text) for text in ("0", "1", "2.5", "1e3")}
BINARY = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "**": operator.pow}
Pair = tuple[str, Any]  # text and what it is


def pairs(inner: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    def join(one: Pair, sign: str, two: Pair) -> Pair:
        with np.errstate(all="ignore"):
            return f"({one[0]}){sign}({two[0]})", BINARY[sign](one[1], two[1])

    return st.builds(join, inner, st.sampled_from(list(BINARY)), inner) | inner.map(
        lambda one: (f"-({one[0]})", -one[1])
    )


@given(st.recursive(st.sampled_from(list(LEAVES.items())), pairs, max_leaves=8))
def test_arithmetic_is_that_of_float64(pair: Pair) -> None:
    found = value(pair[0])
    of_points = found.values if found.offsets is not None else np.repeat(found.values, COUNTS)
    np.testing.assert_allclose(of_points, np.broadcast_to(pair[1], 6), rtol=1e-9)


PRECEDENCE = ("1 + 2 * 3", "2 * 3 ** 2", "-2 ** 2", "2 ** 3 ** 2", "8 / 4 / 2", "7 // 2 * 2", "1 - 2 - 3", "7 % 4 * 2")


@pytest.mark.parametrize("text", PRECEDENCE)
def test_precedence_is_python_s(text: str) -> None:
    assert value(text).values.tolist() == [eval(text)] * 4


ESCAPES = [
    "__import__('os').system('true')",
    '__import__("os")',
    "__import__(os)",
    "import os",
    "x.__class__",
    "x.values",
    "().__class__.__bases__",
    "(1).__class__",
    "(1).real",
    "1 .__add__(2)",
    "np.load(x)",
    "np.core",
    "np.lib.format(x)",
    "np.sum.__globals__(x)",
    "np.__builtins__(x)",
    "numpy.save(x)",
    "np.sum(x)",  # over what? sum(x) and ak.sum(x, axis=1) say it
    "ak.from_parquet(x)",
    "ak.sum(x)",
    "ak.sum(x, axis=0)",
    "ak.sum(x, axis=1, out=y)",
    "ak.sum(x, axis=exit())",
    "ak.count(x, axis=1)",
    "os.system(x)",
    "pt.__call__(x, y)",
    "sum.__self__(x)",
    "eval(x)",
    "exec(x)",
    "open(x)",
    "compile(x, y, met)",
    "getattr(x, y)",
    "globals()",
    "vars()",
    "breakpoint()",
    "input()",
    "exit()",
    "print(x)",
    "x(1)",
    "(sqrt)(x)(y)",
    "sqrt(x)(y)",
    "(lambda: 1)()",
    "lambda: 1",
    "lambda x: x",
    "[x for x in y]",
    "(x for x in y)",
    "{x for x in y}",
    "sum(x for x in y)",
    "{1: 2}",
    "[1, 2]",
    "(1, 2)",
    "x, y",
    "()",
    "x[0]",
    "x[1:2]",
    "x[met]",
    "sqrt(*x)",
    "sqrt(**x)",
    "sqrt(x=1)",
    "sqrt(x, out=y)",
    "where(x > 0, 1, 0, 2)",
    "sqrt()",
    "sum()",
    "sum(x, y)",
    "f'{x}'",
    'f"{x}"',
    "'text'",
    "b'bytes'",
    '"""text"""',
    "(x := 1)",
    "x = 1",
    "x == 1; y",
    "x if y else met",
    "x is y",
    "x in y",
    "x not in y",
    "x ^ y",
    "x << 1",
    "x >> 1",
    "x @ y",
    "await x",
    "yield x",
    "(yield)",
    "*x",
    "...",
    "None",
    "1j",
    "assert x",
    "del x",
    "x # note",
    "x \\ y",
    "x\\\n+ 1",
    "x\x00",
    "\x00",
    "x\x1b[31m",
    "ｘ > 1",  # full-width: Python would take it for x
    "ѕum(x)",  # a Cyrillic s
    "é0",  # what stands for a name in backticks
    "x\u202e",
    "x − 1",
    "`x",
    "x`",
    "``",
    "`a``b`",
    "`a`b",
    "b`a`",
    "`a\x1bb`",
    "99999999999999999999999",
    "1e999",
    "9" * 3000,
    "0x" + "f" * 3000,
    "(" * 150 + "x" + ")" * 150 + " +" * 2,
    "(" * 1500 + "x" + ")" * 1500,
    "-" * 3000 + "x",
    "not " * 900 + "x",
    "sqrt(" * 600 + "x" + ")" * 600,
    "x" + "+x" * 1500,
    "x" * 5000,
    "x + " * 100_000 + "x",
    "",
    "   ",
    "x y",
    "x +",
    "1if x else 2",
    "0777",
    "1_000__0",
]


@pytest.mark.parametrize("text", ESCAPES, ids=range(len(ESCAPES)))
def test_whatever_is_no_expression_is_refused_before_anything_runs(text: str) -> None:
    assert len(ESCAPES) >= 60
    with pytest.raises(DataError, match=r"^expression: ") as caught:
        parse(text)
    assert len(str(caught.value)) < 1500
    assert str(caught.value).replace("\n", "").isprintable()


@given(st.text(max_size=60) | st.text("xy.()[]<>=&|~+-*/%'\"`, 019elambdfor", max_size=60))
def test_any_text_is_an_expression_or_an_error_of_ours(text: str) -> None:
    try:
        found = parse(text)
    except DataError:
        return
    try:
        found.evaluate(COLUMNS, 4)
    except DataError:
        return


REFUSED: dict[str, tuple[str, int]] = {  # text → message, place of the mark
    "met + xx": ("there is no column 'xx'", 6),
    "x + `η` * other": ("lists that differ in length", 0),
    "sum(met)": ("one value an event", 0),
    "met > 1 & flag > 2": ("bind more tightly than comparisons", 6),
    "sqrt(x & y > 2)": ("bind more tightly than comparisons", 5),
    "1 + (met and 1)": ("a condition is needed", 5),
    "not x": ("a condition is needed", 0),
    "where(x, 1, 2)": ("a condition is needed", 0),
    "any(x)": ("a condition is needed", 0),
    "1 + ~flag": ("~ is for conditions", 4),
    "x > 'a'": ('"\'" is not part of', 4),
    "`η` > lamda(x)": ("there is no function 'lamda'", 6),
    "x + sqr(x)": ("there is no function 'sqr'", 4),
    "x > Jet.PT": ("a dot is not part", 4),
    "`η` + ": ("cannot be read", 5),
}


@pytest.mark.parametrize("text", REFUSED)
def test_an_error_shows_the_place(text: str) -> None:
    what, place = REFUSED[text]
    with pytest.raises(DataError) as caught:
        value(text)
    lines = str(caught.value).split("\n")
    assert what in lines[0]
    assert lines[1] == f"    {text.rstrip()}"
    assert lines[2] == " " * (4 + place) + "^"
    assert lines[3]


def test_a_near_name_is_offered() -> None:
    with pytest.raises(DataError, match="did you mean 'met'"):
        value("mett > 1")
    with pytest.raises(DataError, match="did you mean 'hypot'"):
        value("hypott(x, y)")


def test_towers_of_powers_and_long_sums_end_at_once() -> None:
    assert np.isinf(value("9**9**9**9**9").values).all()
    assert value("+".join(["x"] * 200)).values == pytest.approx(200 * X, rel=1e-6)
