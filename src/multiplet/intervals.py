"""Intervals: bootstraps over events, paired differences over seeds, and what measured values are kept in.

E events, R replicates. DataError is raised for arrays of other lengths and for values that are not finite.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from multiplet.errors import DataError

CELLS = 4_000_000  # weights drawn at a time by a bootstrap: 32 MB


@dataclass(frozen=True)
class Estimate:
    """A value with its interval: the central `level` of the replicates (percentile method)."""

    value: float
    low: float
    high: float
    level: float
    is_bound: bool = False  # the value is a lower bound, see Rejection


@dataclass(frozen=True)
class Difference:
    """Mean of a - b over seeds and events with its interval; significant where the interval excludes 0."""

    value: float
    low: float
    high: float
    level: float
    seeds: int

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0; a is larger where low > 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}] at {self.level:.0%}, {self.seeds} seeds"


@dataclass(frozen=True)
class Binned:
    """A metric in bins of a quantity, from an edge up to the next: n + 1 edges, n estimates, None for too few.

    `counts` are how many things, called `counted`, are in each bin; `outside` are beyond the edges.
    """

    metric: str
    quantity: str
    label: str  # of an axis
    edges: tuple[float, ...]
    estimates: tuple[Estimate | None, ...]
    counted: str
    counts: tuple[int, ...]
    outside: int = 0


@dataclass(frozen=True)
class Measured:
    """What a run's predictions are worth: estimates by name, and for classes the events by true and predicted one."""

    metrics: dict[str, Estimate]
    classes: tuple[str, ...] = ()
    confusion: np.ndarray | None = None  # (C, C): rows are the truth
    binned: tuple[Binned, ...] = ()


def bootstrap(
    function: Callable[..., Any], *arrays: np.ndarray, replicas: int = 200, seed: int = 0, level: float = 0.68
) -> Estimate:
    """The value on all events with the percentile interval of replicates that draw as many events with replacement.

    A function with `weights` is given each event's counts, many replicates at once; any other gets the events drawn.
    Replicates without a value (a class was not drawn) are left out; fewer than half with one raise DataError.
    """
    same_events(*arrays)
    value = function(*arrays)
    batches = _draws(len(arrays[0]), replicas, np.random.default_rng(seed))
    if "weights" in inspect.signature(function).parameters:
        replicates = np.concatenate([np.asarray(function(*arrays, weights=counts)) for counts in batches])
    else:
        drawn = (np.repeat(np.arange(len(row)), row) for counts in batches for row in counts)
        replicates = np.array([_number(function(*(array[rows] for array in arrays))) for rows in drawn])
    return Estimate(_number(value), *_interval(replicates, level), level, getattr(value, "is_bound", False))


def paired_difference(
    a: Sequence[np.ndarray], b: Sequence[np.ndarray], *, replicas: int = 2000, seed: int = 0, level: float = 0.95
) -> Difference:
    """Mean of a - b, given one array (E,) per seed of each (was the event right, or its loss), with its interval.

    Seeds are few, and resampling three of them covers 75 % of cases where 95 % is claimed. So a replicate resamples the
    events, the same ones for every seed, and adds a draw from Student's t with seeds - 1 degrees of freedom times the
    standard error over seeds. The chance of a single event in a single seed is in both parts, which makes the interval
    a little long. Raises DataError for fewer than two seeds.
    """
    if len(a) != len(b) or len(a) < 2:
        raise DataError(f"{len(a)} and {len(b)} seeds: give as many of each, and two at least, to see their spread")
    same_events(*a, *b)
    pairs = np.stack([np.asarray(x, float) - np.asarray(y, float) for x, y in zip(a, b, strict=True)])
    rng = np.random.default_rng(seed)
    over_events = np.concatenate([counts @ pairs.mean(0) for counts in _draws(pairs.shape[1], replicas, rng)])
    over_seeds = rng.standard_t(len(pairs) - 1, replicas) * pairs.mean(1).std(ddof=1) / math.sqrt(len(pairs))
    replicates = over_events / pairs.shape[1] + over_seeds
    return Difference(float(pairs.mean()), *_interval(replicates, level), level, len(pairs))


def same_events(*arrays: np.ndarray) -> None:
    """Raises DataError for arrays of other lengths, of none, and for values that are not finite."""
    if len({len(array) for array in arrays}) != 1 or len(arrays[0]) == 0:
        raise DataError(f"these need the same events, one at least; they have {[len(array) for array in arrays]}")
    for number, array in enumerate(arrays):
        if not (finite := np.isfinite(array)).all():
            raise DataError(f"array {number} is not finite at event {np.argwhere(~finite)[0, 0]}")


def weight_rows(weights: np.ndarray | None, events: int) -> np.ndarray:
    """Weights as rows (R, E): one row of ones where there are none; DataError where they are of other events."""
    rows = np.ones((1, events)) if weights is None else np.atleast_2d(np.asarray(weights, float))
    same_events(np.zeros(events), rows.T)
    return rows


def like_weights(weights: np.ndarray | None, values: np.ndarray) -> np.ndarray | float:
    """Values (R,) as the weights they were computed with: all of them for rows of weights, else the only one."""
    return values if weights is not None and np.ndim(weights) == 2 else float(values[0])


def _draws(events: int, replicas: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each event is drawn, (rows, events) at a time; the draws do not depend on how many rows that is."""
    rows = max(1, CELLS // events)
    for start in range(0, replicas, rows):
        drawn = (rng.integers(events, size=events) for _ in range(start, min(start + rows, replicas)))
        yield np.stack([np.bincount(each, minlength=events) for each in drawn])


def _number(value: Any) -> float:
    return float(getattr(value, "value", value))


def _interval(replicates: np.ndarray, level: float) -> tuple[float, float]:
    defined = replicates[np.isfinite(replicates)]
    if 2 * len(defined) < len(replicates):
        raise DataError(f"only {len(defined)} of {len(replicates)} replicates have a value: there are too few events")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
