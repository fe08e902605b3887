"""Expressions: a small checked language for selections and derived columns, evaluated by numpy and by nothing else.

    "(FatJet_pt > 300) & (abs(FatJet_eta) < 2.4)"        "count(Muon_Pt > 20) >= 2"        "10 * `track.d0`"

A value belongs to events or, as a list for each event, to points; an event's value counts for each of its points.
+ - * / ** and functions compute in float64; // % & | and comparisons of whole numbers are exact. What has no value
(log of -1, the smallest of no points) is NaN, which fails every comparison but !=. Names with dots have backticks.
"""

from __future__ import annotations

import ast
import keyword
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np

from multiplet.data.arithmetic import BITS, LOGIC, NUMPY, OPERATORS, OVER_POINTS, OWN, reduced
from multiplet.data.formats.fields import Jagged, same
from multiplet.errors import DataError
from multiplet.spec import did_you_mean

_LONGEST, _DEEPEST, _LARGEST = 4000, 200, 2**64
_STRANGE = re.compile(r"[^A-Za-z0-9_ +\-*/%<>=!&|~(),.`]")
_QUOTED = re.compile(r"`([^`]+)`")
_MARK = "é"  # begins what stands for a quoted name; nobody else can type it, since text outside backticks is ASCII

_Value = Jagged | bool | int | float  # a Python number is a constant: numpy compares it in the type of the column
_Step = Callable[[Mapping[str, Jagged]], _Value]
_CONSTANTS: dict[str, bool | float] = {"pi": np.pi, "True": True, "False": False}
_FUNCTIONS = sorted({*NUMPY, *OWN, *OVER_POINTS})
_ALLOWED = (
    "allowed are numbers, columns, + - * / // % **, comparisons, & | ~ and or not, parentheses, pi, True, False, and "
    f"the functions {', '.join(_FUNCTIONS)}; {', '.join(OVER_POINTS)} go over the points of an event"
)


@dataclass(frozen=True)
class Expression:
    """Text that was parsed and found sound; `names` are the columns it needs, in the order of the text."""

    text: str
    names: tuple[str, ...]
    _step: _Step = field(repr=False, compare=False)

    def evaluate(self, columns: Mapping[str, Jagged], events: int) -> Jagged:
        """The value for each of so many events (offsets None), or for each point of them.

        Raises DataError, with the place in the text, for a name that is no column, for lists of different lengths in
        one operation, and where a list is needed or a condition.
        """
        with np.errstate(all="ignore"):
            value = self._step(columns)
        return value if isinstance(value, Jagged) else Jagged(np.full(events, value))


def parse(text: str) -> Expression:
    """An expression; DataError, with a mark under the place, for all that is not one. Nothing is run."""
    return _Parser(" ".join(text.split()) if len(text) <= _LONGEST else text).parse()


def quote(name: str) -> str:
    """A column's name as it is written in an expression: as it is, or in backticks."""
    plain = name.isascii() and name.isidentifier() and not keyword.iskeyword(name) and name not in _CONSTANTS
    return name if plain else f"`{name}`"


class _Parser:
    """From text to nested functions of the columns; every node is looked at once, and what is not named is refused."""

    def __init__(self, text: str) -> None:
        self.text = self.plain = text  # plain: with stand-ins for what is in backticks
        self.quoted: dict[str, str] = {}
        self.names: dict[str, None] = {}

    def parse(self) -> Expression:
        if not 0 < len(self.text) <= _LONGEST:
            raise self.fault(0, f"it has {len(self.text)} characters; 1 to {_LONGEST} are allowed")
        if strange := _STRANGE.search(_QUOTED.sub(lambda found: "_" * len(found[0]), self.text)):
            what = "is not closed" if strange[0] == "`" else "is not part of an expression"
            raise self.fault(strange.start(), f"{strange[0]!r} {what}")
        self.plain = _QUOTED.sub(self._stand_in, self.text)
        try:
            with warnings.catch_warnings(action="error"):
                tree = ast.parse(self.plain, mode="eval")
        except SyntaxError as error:
            place = (error.offset or len(self.text) + 1) - 1  # no offset where the text ends too early
            raise self.fault(place, f"it cannot be read: {error.msg}") from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise self.fault(0, f"it cannot be read ({type(error).__name__})") from None
        step = self.read(tree.body, 0)
        return Expression(self.text, tuple(self.names), step)

    def _stand_in(self, found: re.Match[str]) -> str:
        """An identifier of the same length, so that places in the text stay what they are."""
        if not found[1].isprintable() or len(self.quoted) > 99:
            raise self.fault(found.start(), "a name in backticks is printable, and there are at most 100 of them")
        name = f"{_MARK}{len(self.quoted)}".ljust(len(found[0]), _MARK)
        self.quoted[name] = found[1]
        return name

    def fault(self, place: int | ast.AST, what: str, allowed: str = _ALLOWED) -> DataError:
        """The error of one place, or of a node's beginning, which Python counts in bytes."""
        if isinstance(place, ast.AST):
            place = len(self.plain.encode()[: getattr(place, "col_offset", 0)].decode())
        low = max(place - 60, 0)
        shown = "".join(c if c.isprintable() else "?" for c in self.text[low : low + 100])
        return DataError(f"expression: {what}\n    {shown}\n    {' ' * (place - low)}^\n{allowed}")

    def read(self, node: ast.AST, depth: int) -> _Step:
        """The function of one node and what is below it; DataError where it is not in the language."""
        if depth > _DEEPEST:
            raise self.fault(node, f"it is nested deeper than {_DEEPEST} times")
        match node:
            case ast.Constant(value=bool() | int() | float() as number):
                if number >= _LARGEST if isinstance(number, int) else np.isinf(number):
                    raise self.fault(node, "this number is too large")
                return lambda columns: number
            case ast.Name(id=name) if name in _CONSTANTS:
                return lambda columns: _CONSTANTS[name]
            case ast.Name(id=name) if name.isascii() or name in self.quoted:
                return self._column(node, self.quoted.get(name, name))
            case ast.BinOp(left, op, right) if type(op) in OPERATORS or type(op) in BITS:
                return self._operation(node, op, [self.read(one, depth + 1) for one in (left, right)])
            case ast.BoolOp(op, given):
                return self._operation(node, op, [self.read(one, depth + 1) for one in given])
            case ast.UnaryOp(op, one):
                return self._operation(node, op, [self.read(one, depth + 1)])
            case ast.Compare(left, ops, others) if all(type(op) in OPERATORS for op in ops):
                return self._comparison(node, [left, *others], [OPERATORS[type(op)] for op in ops], depth)
            case ast.Call(function, given, keywords):
                return self._call(node, function, given, keywords, depth)
            case ast.Attribute():
                raise self.fault(node, "a dot is not part of an expression", "a name with one is written as `Jet.PT`")
        raise self.fault(node, f"{type(node).__name__} is not part of an expression")

    def _column(self, node: ast.AST, name: str) -> _Step:
        self.names[name] = None

        def step(columns: Mapping[str, Jagged]) -> Jagged:
            if name not in columns:
                raise self.fault(node, f"there is no column {name!r}", did_you_mean(name, columns)[:300])
            return columns[name]

        return step

    def _operation(self, node: ast.AST, op: ast.AST, steps: list[_Step]) -> _Step:
        if (kind := type(op)) in OPERATORS:
            return self.join(node, OPERATORS[kind], steps)

        def apply(*given: Any) -> Any:
            kinds = {np.result_type(one).kind for one in given}
            if kind in BITS and kinds <= {"i", "u"}:  # uint64 as int64 keeps its bits
                return BITS[kind](*(np.asarray(one).astype(np.int64) for one in given))
            if kind is ast.Invert and kinds != {"b"}:
                raise self.fault(node, "~ is for conditions", "compare numbers first, as in x == 0")
            if kind in (ast.Not, ast.Invert):
                return np.logical_not(self.truth(node, given[0]))
            return reduce(LOGIC[kind], (self.truth(node, one) for one in given))

        return self.join(node, apply, steps)

    def _comparison(self, node: ast.AST, given: list[ast.expr], operators: list[Any], depth: int) -> _Step:
        for one in given:
            if isinstance(one, ast.BinOp) and type(one.op) in BITS and not self._in_parentheses(one):
                raise self.fault(
                    one, "& and | bind more tightly than comparisons", "put each comparison in parentheses"
                )

        def apply(*given: Any) -> Any:
            pairs = zip(operators, given[:-1], given[1:], strict=True)
            return reduce(np.logical_and, (compare(a, b) for compare, a, b in pairs))

        return self.join(node, apply, [self.read(one, depth + 1) for one in given])

    def _in_parentheses(self, node: ast.expr) -> bool:
        text = self.plain.encode()
        return text[: node.col_offset].rstrip().endswith(b"(") and text[node.end_col_offset :].lstrip().startswith(b")")

    def _call(self, node: ast.AST, function: ast.AST, given: list[Any], keywords: list[Any], depth: int) -> _Step:
        """A call of one of the functions above, by its name or as np.NAME; over points also as ak.NAME(x, axis=1)."""
        match function:
            case ast.Name(id=name) if name in OVER_POINTS and len(given) == 1 and not keywords:
                return self._over_points(node, name, self.read(given[0], depth + 1))
            case ast.Attribute(ast.Name("ak" | "awkward"), name) if name in OVER_POINTS[:6] and len(given) == 1:
                axis = [ast.unparse(one.value) for one in keywords if one.arg == "axis"]
                if len(keywords) != 1 or axis not in (["1"], ["-1"]):
                    raise self.fault(node, f"ak.{name} needs axis=1", "over the points of each event")
                return self._over_points(node, name, self.read(given[0], depth + 1))
            case ast.Name(id=name) | ast.Attribute(ast.Name("np" | "numpy" | "ak" | "awkward"), name):
                found = NUMPY.get(name) or (OWN.get(name) if isinstance(function, ast.Name) else None)
                if found is None and name not in OVER_POINTS:
                    raise self.fault(node, f"there is no function {name!r}", did_you_mean(name, _FUNCTIONS))
                needed = 1 if found is None else found[1]
                if found is None or keywords or len(given) != needed:
                    raise self.fault(node, f"{name} is written {name}({', '.join('abcd'[:needed])})")
                steps = [self.read(one, depth + 1) for one in given]
                if name == "where":
                    steps[0] = self.join(node, lambda value: self.truth(node, value), steps[:1])
                return self.join(node, found[0], steps)
        raise self.fault(node, "only functions with a name can be called")

    def _over_points(self, node: ast.AST, name: str, one: _Step) -> _Step:
        def step(columns: Mapping[str, Jagged]) -> Jagged:
            value = one(columns)
            if not isinstance(value, Jagged) or value.offsets is None:
                raise self.fault(node, f"{name} goes over points, but this is one value an event", "name a list")
            values = self.truth(node, value.values) if name in ("any", "all") else value.values
            return Jagged(reduced(name, values, value.offsets))

        return step

    def join(self, node: ast.AST, function: Callable[..., Any], steps: list[_Step]) -> _Step:
        """A function of values of any level, element by element: those of events count for each of their points."""

        def step(columns: Mapping[str, Jagged]) -> _Value:
            given = [one(columns) for one in steps]
            arrays = [one for one in given if isinstance(one, Jagged)]
            offsets = next((one.offsets for one in arrays if one.offsets is not None), None)
            for one in arrays:
                if one.offsets is not None and not same(one.offsets, offsets):
                    raise self.fault(
                        node, "lists that differ in length are combined: they are of different collections"
                    )
            result = np.asarray(function(*(_spread(one, offsets) for one in given)))
            return Jagged(result, offsets) if arrays else result.item()

        return step

    def truth(self, node: ast.AST, value: Any) -> Any:
        """Conditions as they are, whole numbers as "not 0"; DataError for other numbers."""
        if (kind := np.result_type(value).kind) not in "biu":
            raise self.fault(node, "a condition is needed and this is a number", "compare it, as in x > 0")
        return value if kind == "b" else np.not_equal(value, 0)


def _spread(value: _Value, offsets: np.ndarray | None) -> Any:
    if not isinstance(value, Jagged):
        return value
    return value.values if offsets is None or value.offsets is not None else np.repeat(value.values, np.diff(offsets))
