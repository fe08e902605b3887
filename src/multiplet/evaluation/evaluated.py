"""Evaluated: the events that a run was evaluated on, read again to show them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multiplet.cloud import Cloud
from multiplet.data.events import Events, Split
from multiplet.files import read_json
from multiplet.recipe import Run

SIZES = (0.5, 0.95)  # events shown, as quantiles of the number of points


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Events of the split that a run was evaluated on, and where they are."""

    where: str
    split: Split
    cloud: Cloud


def evaluated_events(run: Run, indices: np.ndarray) -> Evaluated:
    """The evaluated events at these places of their split; DataError where they are no longer there."""
    metrics, data = read_json(run.path / "metrics.json"), run.recipe.data
    split: Split = metrics["split"]
    source = data.whole() if metrics["data"] == str(data) else Events(metrics["data"])
    return Evaluated(metrics["data"], split, source.open().read(split, indices))


def by_size(index: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The places of an event of middling size and of a large one, (events,) both: their places and sizes."""
    ranked = index[np.argsort(points, kind="stable")]
    return np.array(list(dict.fromkeys(int(ranked[int(share * len(ranked))]) for share in SIZES)))
