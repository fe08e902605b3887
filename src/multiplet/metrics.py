"""Metrics: plain functions (truth, prediction) → value; `intervals` has their bootstraps.

E events, C classes, R replicates. Truth is class codes (E,); scores are (E, C) or (E,). Where weights may be (E,) or
(R, E), rows give one value each, so that a bootstrap sorts the scores once and not once a replicate.
DataError is raised for lengths that differ, for scores that are not finite and for classes that do not occur.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multiplet.errors import DataError
from multiplet.intervals import like_weights, same_events, weight_rows


@dataclass(frozen=True)
class Rejection:
    """1/FPR; where no background passes, the number of background events, which it is larger than, and is_bound."""

    value: float
    is_bound: bool = False


def accuracy(truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """The share of events whose predicted class, or whose largest score, is the true one."""
    same_events(truth, prediction)
    rows = weight_rows(weights, len(truth))
    return like_weights(weights, _divide(rows @ (_classes(prediction) == truth), rows.sum(1)))


def confusion(truth: np.ndarray, prediction: np.ndarray, classes: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Counts (C, C) of events by true class (row) and predicted class (column), or sums of their weights."""
    same_events(truth, prediction)
    codes = np.stack([truth, _classes(prediction)])
    if codes.min() < 0 or codes.max() >= classes:
        raise DataError(f"class codes run from {codes.min()} to {codes.max()}, with {classes} classes from 0 on")
    return np.bincount(codes[0] * classes + codes[1], weights, classes**2).reshape(classes, classes)


def auc_one_versus_one(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """Mean over ordered pairs of classes (a, b) of the AUC of a's score on the events of a and b.

    Hand and Till (2001), as scikit-learn's multi_class="ovo" with average="macro".
    """
    same_events(truth, scores)
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
    same_events(truth, score)
    _require(truth, 2)
    return like_weights(weights, _auc_against_each(truth, score, weight_rows(weights, len(truth)), 1, 2)[:, 0])


def roc(truth: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """False and true positive rates of `score ≥ threshold`, and the thresholds: inf, then every distinct score.

    As scikit-learn's roc_curve with drop_intermediate=False.
    """
    same_events(truth, score)
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
    same_events(signal)
    same_events(background)
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


def _require(truth: np.ndarray, classes: int) -> None:
    if missing := sorted(set(range(classes)) - set(np.unique(truth).tolist())):
        raise DataError(f"no events of truth {missing}, where every class from 0 to {classes - 1} is needed")


def _classes(prediction: np.ndarray) -> np.ndarray:
    return prediction.argmax(1) if prediction.ndim == 2 else prediction


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return above / np.where(below > 0, below, np.nan)
