"""The one way in which simulators compile functions."""

from __future__ import annotations

from collections.abc import Callable
from inspect import unwrap
from typing import ParamSpec, TypeVar

from numba import njit

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """The function in machine code (numba), which is kept on disk for the next process."""
    # A run-time type checker (our tests have one) wraps functions in code that numba cannot read: take it off.
    return njit(cache=True)(unwrap(function))
