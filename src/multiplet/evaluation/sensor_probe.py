"""Sensor probe: whether the learned vectors of sensors know where the sensors are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from multiplet.data.events import Dataset, Events
from multiplet.errors import DataError, RecipeError
from multiplet.recipe import open_run
from multiplet.spec import did_you_mean

FEWEST = 50  # sensors
_FOLDS = 5
_EVENTS = 256  # read at a time


def sensor_probe(
    run: Path | str,
    data: str | None = None,
    *,
    sensor: str = "sensor_id",
    places: Sequence[str] = ("x", "y", "z"),
    events: int = 10_000,
    known: Sequence[type] = (),
) -> dict[str, float]:
    """R² of each of `places` from the encoder's vectors of the id `sensor`, as `linear_r2`.

    These are the learned ones, to which nobody says where a sensor is; what `Encode.where` adds to them is left out.
    Sensors are those seen in the first training events of the run's data, or of the folder `data`. Raises RecipeError
    where the encoder reads no such id, DataError where the events have no such columns or show too few sensors.
    """
    opened = open_run(run, known)
    parts = opened.model().encoder.embed
    if f"id_{sensor}" not in parts:
        ids = [name.removeprefix("id_") for name in parts if name.startswith("id_")]
        raise RecipeError(f"{opened.path} has no vectors of an id {sensor!r} ({did_you_mean(sensor, ids)})")
    vectors = parts.get_parameter(f"id_{sensor}.weight").detach().numpy()
    dataset = (Events(data) if data else opened.recipe.data.whole()).open()
    where = sensor_places(dataset, sensor, places, len(vectors), events)
    seen = np.isfinite(where).all(1)
    return dict(zip(places, linear_r2(vectors[seen], where[seen]).tolist(), strict=True))


def sensor_places(dataset: Dataset, sensor: str, places: Sequence[str], codes: int, events: int) -> np.ndarray:
    """Where each sensor is, (codes, places), from the points of the first training events; NaN where it was not hit."""
    found = np.full((codes, len(places)), np.nan)
    last = min(events, dataset.size("train"))
    for start in range(0, last, _EVENTS):
        cloud = dataset.read("train", np.arange(start, min(start + _EVENTS, last)))
        ids = cloud.point(sensor)[cloud.mask].numpy()
        if len(ids) and not 0 <= ids.min() <= ids.max() < codes:
            raise DataError(f"{sensor} runs from {ids.min()} to {ids.max()}; the run knows 0 to {codes - 1}")
        found[ids] = np.stack([cloud.point(name)[cloud.mask].numpy() for name in places], axis=1)
    return found


def linear_r2(vectors: np.ndarray, values: np.ndarray) -> np.ndarray:
    """R² (n,) of values (sensors, n) that a linear map of vectors (sensors, D) predicts for sensors not fitted to.

    Five folds, drawn once; ridge regression whose strength is chosen inside each fit. Vectors that know nothing give 0
    or a little less. DataError for fewer than FEWEST sensors.
    """
    if len(vectors) < FEWEST:
        raise DataError(f"{len(vectors)} sensors were seen: a probe needs {FEWEST} at least; read more events")
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 4, 15)))
    found = cross_val_predict(model, vectors, values, cv=KFold(_FOLDS, shuffle=True, random_state=0))
    return 1 - np.square(found - values).sum(0) / np.square(values - values.mean(0)).sum(0)
