"""Metrics: plain functions (truth, prediction) → value, with bootstrap intervals and paired differences.

E events, C classes, R replicates. Truth is class codes (E,); scores are (E, C) or (E,). Where weights may be (E,) or
(R, E), rows give one value each, so that a bootstrap sorts the scores once and not once a replicate.
DataError is raised for lengths that differ, for scores that are not finite and for classes that do not occur.
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
class Rejection:
    """1/FPR; where no background passes, the number of background events, which it is larger than, and is_bound."""

    value: float
    is_bound: bool = False


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


def accuracy(truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """The share of events whose predicted class, or whose largest score, is the true one."""
    _check(truth, prediction)
    rows = weight_rows(weights, len(truth))
    return like_weights(weights, _divide(rows @ (_classes(prediction) == truth), rows.sum(1)))


def confusion(truth: np.ndarray, prediction: np.ndarray, classes: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Counts (C, C) of events by true class (row) and predicted class (column), or sums of their weights."""
    _check(truth, prediction)
    codes = np.stack([truth, _classes(prediction)])
    if codes.min() < 0 or codes.max() >= classes:
        raise DataError(f"class codes run from {codes.min()} to {codes.max()}, with {classes} classes from 0 on")
    return np.bincount(codes[0] * classes + codes[1], weights, classes**2).reshape(classes, classes)


def auc_one_versus_one(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """Mean over ordered pairs of classes (a, b) of the AUC of a's score on the events of a and b.

    Hand and Till (2001), as scikit-learn's multi_class="ovo" with average="macro".
    """
    _check(truth, scores)
    count = scores.shape[1]
    _require(truth, count)
    rows = weight_rows(weights, len(truth))
    aucs = [_auc_against_each(truth, scores[:, code], rows, code, count) for code in range(count)]
    return like_weights(weights, np.concatenate(aucs, axis=1).mean(1))


def two_class_score(scores: np.ndarray, signal: int, background: int) -> tuple[np.ndarray, int]:
    """p_S/(p_S + p_B) from class probabilities (E, C), and how many events had 0/0, which are given 0.5."""
    both = scores[:, signal] + scores[:, background]
    undefined = both == 0
    return np.where(undefined, 0.5, scores[:, signal] / np.where(undefined, 1, both)), int(undefined.sum())


def auc(truth: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """The probability that a signal event (truth 1) scores above a background event (0), ties counting one half."""
    _check(truth, score)
    _require(truth, 2)
    return like_weights(weights, _auc_against_each(truth, score, weight_rows(weights, len(truth)), 1, 2)[:, 0])


def roc(truth: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """False and true positive rates of `score ≥ threshold`, and the thresholds: inf, then every distinct score.

    As scikit-learn's roc_curve with drop_intermediate=False.
    """
    _check(truth, score)
    _require(truth, 2)
    order = np.argsort(-score, kind="stable")
    weight = weight_rows(weights, len(truth))[0, order]
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    passing = [np.append(0, np.cumsum(weight * (truth[order] == kind))[last]) for kind in (0, 1)]
    return passing[0] / passing[0][-1], passing[1] / passing[1][-1], np.append(np.inf, score[order][last])


def rejection(signal: np.ndarray, background: np.ndarray, efficiency: float) -> Rejection:
    """1/FPR at the first ROC point whose TPR exceeds the efficiency (as OmniLearned), given each kind's scores."""
    values, bounds = rejections(signal, background, np.array([efficiency]))
    return Rejection(float(values[0]), bool(bounds[0]))


def rejections(signal: np.ndarray, background: np.ndarray, efficiencies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`rejection` at many efficiencies in [0, 1): values and whether each is a bound."""
    _check(signal)
    _check(background)
    if efficiencies.min() < 0 or efficiencies.max() >= 1:
        raise DataError(f"efficiencies lie in [0, 1): no ROC point has a TPR above {efficiencies.max():g}")
    first = np.searchsorted(np.arange(1, len(signal) + 1) / len(signal), efficiencies, side="right")
    thresholds = np.sort(signal)[::-1][first]
    passing = len(background) - np.searchsorted(np.sort(background), thresholds, side="left")
    return len(background) / np.maximum(passing, 1), passing == 0


def rejection_at_percentile(signal: np.ndarray, background: np.ndarray, efficiency: float) -> Rejection:
    """1/FPR strictly above the (1 - efficiency) percentile of the signal scores (as OmniJet-α)."""
    passing = int(np.sum(background > np.percentile(signal, 100 * (1 - efficiency))))
    return Rejection(len(background) / max(passing, 1), passing == 0)


def sic(truth: np.ndarray, score: np.ndarray, above: float = 1e-4) -> tuple[np.ndarray, np.ndarray]:
    """FPR and significance improvement TPR/√FPR along the ROC where FPR > above; below it, a few events decide."""
    false, true, _ = roc(truth, score)
    return false[false > above], true[false > above] / np.sqrt(false[false > above])


def bootstrap(
    function: Callable[..., Any], *arrays: np.ndarray, replicas: int = 200, seed: int = 0, level: float = 0.68
) -> Estimate:
    """The value on all events with the percentile interval of replicates that draw as many events with replacement.

    A function with `weights` is given each event's counts, many replicates at once; any other gets the events drawn.
    Replicates without a value (a class was not drawn) are left out; fewer than half with one raise DataError.
    """
    _check(*arrays)
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
    _check(*a, *b)
    pairs = np.stack([np.asarray(x, float) - np.asarray(y, float) for x, y in zip(a, b, strict=True)])
    rng = np.random.default_rng(seed)
    over_events = np.concatenate([counts @ pairs.mean(0) for counts in _draws(pairs.shape[1], replicas, rng)])
    over_seeds = rng.standard_t(len(pairs) - 1, replicas) * pairs.mean(1).std(ddof=1) / math.sqrt(len(pairs))
    replicates = over_events / pairs.shape[1] + over_seeds
    return Difference(float(pairs.mean()), *_interval(replicates, level), level, len(pairs))


def _auc_against_each(truth: np.ndarray, score: np.ndarray, rows: np.ndarray, signal: int, classes: int) -> np.ndarray:
    """AUC (R, C - 1) of one class against every other: a sort of the signal, then sums weighted event by event."""
    is_signal = truth == signal
    weight = np.ascontiguousarray(rows.T)
    order = np.argsort(score[is_signal], kind="stable")
    ranked = score[is_signal][order]
    below = np.zeros((len(ranked) + 1, len(rows)))  # weight of the signal among the lowest k
    np.cumsum(weight[is_signal][order], axis=0, out=below[1:])
    columns = []
    for other in (code for code in range(classes) if code != signal):
        events = truth == other
        left, right = (np.searchsorted(ranked, score[events], side) for side in ("left", "right"))
        above = below[-1] - (below[left] + below[right]) / 2
        columns.append(_divide((above * weight[events]).sum(0), below[-1] * weight[events].sum(0)))
    return np.stack(columns, axis=1)


def _check(*arrays: np.ndarray) -> None:
    if len({len(array) for array in arrays}) != 1 or len(arrays[0]) == 0:
        raise DataError(f"these need the same events, one at least; they have {[len(array) for array in arrays]}")
    for number, array in enumerate(arrays):
        if not (finite := np.isfinite(array)).all():
            raise DataError(f"array {number} is not finite at event {np.argwhere(~finite)[0, 0]}")


def _require(truth: np.ndarray, classes: int) -> None:
    if missing := sorted(set(range(classes)) - set(np.unique(truth).tolist())):
        raise DataError(f"no events of truth {missing}, where every class from 0 to {classes - 1} is needed")


def _classes(prediction: np.ndarray) -> np.ndarray:
    return prediction.argmax(1) if prediction.ndim == 2 else prediction


def weight_rows(weights: np.ndarray | None, events: int) -> np.ndarray:
    """Weights as rows (R, E): one row of ones where there are none; DataError where they are of other events."""
    rows = np.ones((1, events)) if weights is None else np.atleast_2d(np.asarray(weights, float))
    _check(np.zeros(events), rows.T)
    return rows


def like_weights(weights: np.ndarray | None, values: np.ndarray) -> np.ndarray | float:
    """Values (R,) as the weights they were computed with: all of them for rows of weights, else the only one."""
    return values if weights is not None and np.ndim(weights) == 2 else float(values[0])


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return above / np.where(below > 0, below, np.nan)


def _draws(events: int, replicas: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each event is drawn, (rows, events) at a time; the draws do not depend on how many rows that is."""
    rows = max(1, CELLS // events)
    for start in range(0, replicas, rows):
        drawn = (rng.integers(events, size=events) for _ in range(start, min(start + rows, replicas)))
        yield np.stack([np.bincount(each, minlength=events) for each in drawn])


def _number(value: np.ndarray | float | Rejection) -> float:
    return value.value if isinstance(value, Rejection) else float(value)


def _interval(replicates: np.ndarray, level: float) -> tuple[float, float]:
    defined = replicates[np.isfinite(replicates)]
    if 2 * len(defined) < len(replicates):
        raise DataError(f"only {len(defined)} of {len(replicates)} replicates have a value: there are too few events")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
