"""Evaluate: a trained run on a split: predictions with identities as Parquet, and metrics with intervals."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from multiplet.cloud import Cloud
from multiplet.data.batches import Batches, load, sequential
from multiplet.data.columns import IDENTITY
from multiplet.data.events import Dataset, EventFiles, Events, Split
from multiplet.distributed import pick_device
from multiplet.errors import DataError
from multiplet.files import seal, write_atomically, write_json
from multiplet.model import Model
from multiplet.progress import Show, Silent
from multiplet.recipe import Run, open_run

_POINTS = 20_000  # padded points in one forward pass


def evaluate(
    run: Path | str,
    *,
    split: Split = "test",
    data: str | None = None,
    command: str = "",
    device: str = "auto",
    known: Sequence[type] = (),
    show: Show | None = None,
) -> dict[str, Any]:
    """Apply a run's newest valid checkpoint to a split of its data (or of the folder `data`).

    Writes predictions.parquet (one row an event, in file order) and metrics.json into the run folder and gives what
    the latter holds. Raises RunError for a folder that is no run, DataError for an empty split.
    """
    opened = open_run(run, known)
    model = opened.model().to(pick_device(device))
    dataset = Events(data or opened.recipe.data.path).open()
    if not dataset.size(split):
        raise DataError(f"{dataset.path} has no events in the {split} split")
    _same_columns(opened, dataset)
    start = time.monotonic()
    table = predict(model, dataset, split, show or Silent())
    measured = model.objective.measure(table)
    write_atomically(opened.path / "predictions.parquet", lambda aside: pq.write_table(pa.table(table), aside))
    metrics: dict[str, Any] = {
        "split": split,
        "data": str(dataset.path),
        "events": len(table["index"]),
        "command": command,
        "cost": {"seconds": time.monotonic() - start, "device": str(next(model.parameters()).device)},
        "metrics": {
            name: {
                "value": e.value,
                "low": e.low,
                "high": e.high,
                "is_bound": e.is_bound,
                "about": f"{e.level:.0%} bootstrap over events",
            }
            for name, e in measured.metrics.items()
        },
    }
    if measured.confusion is not None:
        metrics["confusion"] = {"classes": list(measured.classes), "counts": measured.confusion.astype(int).tolist()}
    write_json(opened.path / "metrics.json", metrics)
    seal(opened.path)
    return metrics


@torch.no_grad()
def predict(model: Model, dataset: Dataset, split: Split, show: Show) -> dict[str, np.ndarray]:
    """Columns (events,): index, event columns called event_id, the task's truth, and its predictions, in file order."""
    device, parts, done = next(model.parameters()).device, [], 0
    for cloud in _clouds(dataset, split):
        tokens = model.tokens(cloud.to(device))
        columns = {"index": cloud.index} | {k: v for k, v in cloud.event.items() if k == IDENTITY}
        columns |= {name: cloud.truth[name] for name in model.objective.truth}
        columns |= model.objective.predict(model.encoder, tokens)
        parts.append({name: value.cpu().numpy() for name, value in columns.items()})
        done += len(cloud)
        show.update(done, dataset.size(split), "")
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(table["index"])
    return {name: values[order] for name, values in table.items()}


def _same_columns(run: Run, dataset: EventFiles) -> None:
    """Raise DataError where a column of the run's events has other classes or another unit in these events."""
    theirs = {column.name: column for column in dataset.schema}
    for mine in run.schema:
        other = theirs.get(mine.name, mine)
        if (other.classes, other.unit) != (mine.classes, mine.unit):
            raise DataError(
                f"{dataset.path}: {mine.name} has classes {other.classes} and unit {other.unit!r}; {run.path} was "
                f"trained on classes {mine.classes} and unit {mine.unit!r}: these events are not of the same kind"
            )


def _clouds(dataset: Dataset, split: Split) -> Iterator[Cloud]:
    """All events of a split, in parts of like length that fit into memory, so not quite in file order."""
    for _, clouds in load(dataset, split, sequential(dataset, split, Batches(512, points_at_once=_POINTS))):
        yield from clouds
