"""Arithmetic: what the operators and functions of expressions mean: plain functions of numpy arrays."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from multiplet import kinematics


def _floats(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given: function(*(np.asarray(one, np.float64) for one in given))


def _whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """Exact where both are whole numbers of one type and no divisor is 0, otherwise in float64."""

    def apply(a: Any, b: Any) -> Any:
        if np.result_type(a).kind in "iu" and np.result_type(b).kind in "iu" and np.all(np.not_equal(b, 0)):
            with suppress(OverflowError):
                return function(a, b)
        return _floats(function)(a, b)

    return apply


def _mass(*p4: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(kinematics.mass_squared(*p4), 0))


OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    **{ast.Add: _floats(np.add), ast.Sub: _floats(np.subtract), ast.Mult: _floats(np.multiply)},
    **{ast.Div: _floats(np.divide), ast.Pow: _floats(np.power)},
    **{ast.FloorDiv: _whole(np.floor_divide), ast.Mod: _whole(np.remainder)},
    **{ast.USub: _floats(np.negative), ast.UAdd: _floats(np.positive)},
    **{ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge},
    **{ast.Eq: operator.eq, ast.NotEq: operator.ne},
}
BITS: dict[type[ast.AST], Callable[..., Any]] = {ast.BitAnd: np.bitwise_and, ast.BitOr: np.bitwise_or}
LOGIC: dict[type[ast.AST], Callable[..., Any]] = {
    **{ast.And: np.logical_and, ast.Or: np.logical_or, ast.BitAnd: np.logical_and, ast.BitOr: np.logical_or}
}
NUMPY: dict[str, tuple[Callable[..., Any], int]] = {  # name → function, number of arguments
    **{name: (_floats(getattr(np, name)), 1) for name in ("abs", "sqrt", "exp", "log", "log10", "log1p", "sign")},
    **{name: (_floats(getattr(np, name)), 1) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "arctan")},
    **{name: (_floats(getattr(np, name)), 1) for name in ("isfinite", "isnan", "floor", "ceil", "round")},
    **{"arcsinh": (_floats(np.arcsinh), 1), "ones_like": (np.ones_like, 1), "zeros_like": (np.zeros_like, 1)},
    **{name: (_floats(getattr(np, name)), 2) for name in ("arctan2", "hypot", "minimum", "maximum")},
    **{"clip": (_floats(np.clip), 3), "where": (lambda c, a, b: np.where(c, np.asarray(a), np.asarray(b)), 3)},
}
OWN: dict[str, tuple[Callable[..., Any], int]] = {
    **{"asinh": (_floats(np.arcsinh), 1), "pt": (_floats(kinematics.pt), 2), "phi": (_floats(kinematics.phi), 2)},
    **{"eta": (_floats(kinematics.eta), 3), "mass": (_floats(_mass), 4)},
    **{"delta_phi": (_floats(kinematics.delta_phi), 2), "delta_r": (_floats(kinematics.delta_r), 4)},
}
OVER_POINTS = ("sum", "mean", "min", "max", "any", "all", "count", "first")


def reduced(name: str, values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """One value an event; of no points the sum and the count are 0, all is true, any false, others are NaN."""
    counts = np.diff(offsets)
    if name == "count" and values.dtype != bool:
        return counts
    if name in ("sum", "count", "any", "all", "mean"):
        whole = values.dtype.kind in "biu" and name != "mean"
        sums = kinematics.segment_sum(values.astype(np.int64 if whole else np.float64), offsets)
        return {"mean": sums / counts, "any": sums > 0, "all": sums == counts}.get(name, sums)
    result = np.full(len(counts), np.nan)
    filled, starts = counts > 0, offsets[:-1]
    if filled.any():
        picks: dict[str, Callable[..., Any]] = {
            "min": np.minimum.reduceat,
            "max": np.maximum.reduceat,
            "first": np.take,
        }
        result[filled] = picks[name](values.astype(np.float64), starts[filled])
    return result
