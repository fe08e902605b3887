"""Sampling scores: how far distributions of what was sampled back lie from the true ones, and how far single values.

Distances are Wasserstein-1, ∫ |F(x) - G(x)| dx; errors of estimates are the spread of replicates that resample events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from multiplet.evaluation.sampling import SAMPLED, TRUE, Table, by_quantity, exchanged
from multiplet.evaluation.whole_jets import OBSERVABLES, has_jets, whole_jets
from multiplet.representation.features import Feature

CONTROLS = {"same_rank": True, "any_rank": False}  # hidden points exchanged with those of other events
Record = dict[str, Any]


def with_hidden(table: Table) -> Table:
    """The rows of events of which something was hidden."""
    kept = np.isin(table["index"], table["index"][table["hidden"]])
    return {name: values[kept] for name, values in table.items()}


def measure(table: Table, targets: Sequence[Feature], replicas: int = 200, seed: int = 0) -> Record:
    """What sampling back is worth, for metrics.json; {} where nothing was hidden.

    Under "points" each quantity of the hidden points, under "jets" each observable of the whole jets, where targets
    allow them: the true `spread`; the `distance` of the sampled distribution from the true one and its `floor`, that of
    two draws of as many events of the truth; the mean `error` |sampled - true| of single values; controls beside
    them, but for distances of points, of which controls have none. All are of the quantity as its target transforms it
    and divided by the spread (where there is one); `distance_in_unit` is of the quantity itself.
    """
    table = with_hidden(table)
    hidden, (index, owner) = table["hidden"], np.unique(table["index"], return_inverse=True)
    if not len(index):
        return {}
    events, features = len(index), by_quantity(targets)
    controls = {name: exchanged(table, list(features), same) for name, same in CONTROLS.items()}
    counts = np.random.default_rng(seed).multinomial(events, np.full(events, 1 / events), (2, replicas))
    found: Record = {"events": events, "hidden": int(hidden.sum()), "points": {}}
    for name, feature in features.items():
        values = {which: each[SAMPLED + name][hidden] for which, each in ({"sampled": table} | controls).items()}
        record = _compare(table[TRUE + name][hidden], values, feature, owner[hidden], counts, ("sampled",))
        found["points"][name] = {"unit": feature.unit} | record
    if has_jets(table):
        true, drawn = whole_jets(table, TRUE), {"sampled": whole_jets(table, SAMPLED)}
        drawn |= {which: whole_jets(table | each, SAMPLED) for which, each in controls.items()}
        found["jets"] = {}
        for name, unit in OBSERVABLES.items():
            values = {which: each[name] for which, each in drawn.items()}
            record = _compare(true[name], values, Feature(name), np.arange(events), counts, tuple(values))
            found["jets"][name] = {"unit": unit} | record
    return found


def _compare(
    true: np.ndarray,
    drawn: Mapping[str, np.ndarray],
    feature: Feature,
    owner: np.ndarray,
    counts: np.ndarray,
    distances: Sequence[str],
) -> Record:
    """Of values (n,) of events `owner` (n,), which are drawn `counts` (2, replicas, events) times."""
    x, values = transformed(true, feature), {name: transformed(each, feature) for name, each in drawn.items()}
    spread = float(x.std())
    unit = spread or 1.0
    weights, again = counts[0][:, owner], counts[1][:, owner]
    noise = wasserstein(x, x, weights, again) / unit
    points = np.bincount(owner, minlength=counts.shape[2])
    errors = {name: np.bincount(owner, np.abs(each - x), len(points)) / unit for name, each in values.items()}
    return {
        "spread": spread,
        "floor": _estimate(noise.mean(), noise),
        "distance": {name: _distance(x, values[name], weights, unit) for name in distances},
        "distance_in_unit": {name: _distance(true.astype(np.float64), drawn[name], weights, 1.0) for name in distances},
        "error": {
            name: _estimate(each.sum() / points.sum(), (counts[0] @ each) / (counts[0] @ points))
            for name, each in errors.items()
        },
    }


def _distance(true: np.ndarray, drawn: np.ndarray, weights: np.ndarray, unit: float) -> Record:
    once = np.ones((1, len(true)))
    return _estimate(wasserstein(true, drawn, once, once)[0] / unit, wasserstein(true, drawn, weights, weights) / unit)


def _estimate(value: float, replicates: np.ndarray) -> Record:
    """With one standard error: replicates of a distance near 0 are all larger than it, and so are their percentiles."""
    error = float(replicates.std())
    return {"value": float(value), "low": max(float(value) - error, 0.0), "high": float(value) + error}


def transformed(values: np.ndarray, feature: Feature) -> np.ndarray:
    """A quantity as its target transforms it, in double precision."""
    return feature.transform.forward(torch.from_numpy(values.astype(np.float64))).numpy()


def wasserstein(a: np.ndarray, b: np.ndarray, a_weights: np.ndarray, b_weights: np.ndarray) -> np.ndarray:
    """Distances (R,) of values (n,) and (m,) with weights (R, n) and (R, m), any positive sums; 0 weighs nothing."""
    both = np.concatenate([a, b])
    order = np.argsort(both, kind="stable")
    gaps = np.diff(both[order])
    found = []
    for mine, yours in zip(a_weights, b_weights, strict=True):
        apart = np.concatenate([mine / mine.sum(), -yours / yours.sum()])[order].cumsum()
        found.append(np.abs(apart[:-1]) @ gaps)
    return np.array(found)
