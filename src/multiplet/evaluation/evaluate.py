"""Evaluate: a trained run on a split: predictions with identities as Parquet, and metrics with intervals."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from multiplet.data.events import SPLITS, Dataset, Events, Split
from multiplet.distributed import pick_device
from multiplet.errors import DataError
from multiplet.evaluation.collapse import code_usage, effective_rank
from multiplet.evaluation.hidden_sensors import references
from multiplet.evaluation.sampling import FILE, can_sample, sample_back
from multiplet.evaluation.sampling_scores import measure
from multiplet.evaluation.scores import require_same, score
from multiplet.files import seal, write_atomically, write_json, writing
from multiplet.intervals import Binned
from multiplet.model import Model
from multiplet.progress import Show, Silent
from multiplet.recipe import open_run


def evaluate(
    run: Path | str,
    *,
    split: Split = "test",
    data: str | None = None,
    command: str = "",
    device: str = "auto",
    sample: int = 1000,
    known: Sequence[type] = (),
    show: Show | None = None,
) -> dict[str, Any]:
    """Apply a run's newest valid checkpoint to a split of its data (or of the folder `data`).

    Writes predictions.parquet and metrics.json into the run folder and gives what the latter holds. The former has one
    row an event, in file order: its index, how many points it has, its columns and truth, and the predictions; columns
    of the events called score_…, as the latter are, are left out. A masked objective that gives hidden points back does
    so for `sample` of the events (sampled.parquet). Beside hidden sensors stand `references`, beside a tokenizer's ids
    their `code_usage`, and beside an encoder pretrained without labels its `effective_rank`. Raises RunError for a
    folder that is no run, DataError for an empty split and for events that do not fit or lack what the objective
    measures by.
    """
    opened = open_run(run, known)
    model = opened.model().to(pick_device(device))
    try:
        dataset = (Events(data) if data else opened.recipe.data.whole()).open()
    except DataError as error:
        if data or all(Path(path).exists() for path in opened.recipe.data.paths):
            raise
        raise DataError(f"{error}; or say where the run's events are now (--data)") from error
    where = str(Events(data) if data else opened.recipe.data)
    if not dataset.size(split):
        held = ", ".join(f"{name} {dataset.size(name)}" for name in SPLITS)
        raise DataError(f"{where} has no events in the {split} split ({held}): choose another split, or other data")
    require_same(opened.schema, dataset.schema, where, f"what {opened.path} was trained on")
    names = [column.name for column in dataset.schema if column.level == "event"]
    keep = dict.fromkeys([*(name for name in names if not name.startswith("score_")), *model.objective.truth])
    if lacking := keep.keys() - {column.name for column in dataset.schema}:
        raise DataError(f"{where} has no {', '.join(sorted(lacking))} to measure by: `multiplet predict` needs none")
    start = time.monotonic()
    table = score(model, dataset, split, list(keep), show or Silent())
    measured = model.objective.measure(table)
    with writing(predictions := opened.path / "predictions.parquet", then=""):
        write_atomically(predictions, lambda aside: pq.write_table(pa.table(table), aside))
    estimates = measured.metrics | references(model, dataset, split) | code_usage(model, dataset, split)
    estimates |= effective_rank(model, dataset, split)
    sampled = _sample(opened.path, model, dataset, split, sample, show or Silent())
    metrics: dict[str, Any] = {
        "split": split,
        "data": where,
        "events": dataset.size(split),
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
            for name, e in estimates.items()
        },
    }
    if measured.confusion is not None:
        metrics["confusion"] = {"classes": list(measured.classes), "counts": measured.confusion.astype(int).tolist()}
    if measured.binned:
        metrics["binned"] = [_record(binned) for binned in measured.binned]
    if sampled:
        metrics["sampled"] = sampled
    with writing(opened.path / "metrics.json", then=""):
        write_json(opened.path / "metrics.json", metrics)
        seal(opened.path)
    return metrics


def _sample(path: Path, model: Model, dataset: Dataset, split: Split, events: int, show: Show) -> dict[str, Any]:
    """What hidden points that were drawn back are worth; {}, and no file of an earlier time, where there are none."""
    file = path / FILE
    table = sample_back(model, dataset, split, events, show) if events and can_sample(model) else {}
    found = measure(table, model.represent.targets.features) if table else {}
    with writing(file, then=""):
        if found:
            write_atomically(file, lambda aside: pq.write_table(pa.table(table), aside))
        else:
            file.unlink(missing_ok=True)
    return found


def _record(binned: Binned) -> dict[str, Any]:
    """Lists in place of estimates, null where there are too few."""
    names = ("value", "low", "high")
    of = {name: [getattr(estimate, name) if estimate else None for estimate in binned.estimates] for name in names}
    return {**asdict(binned), "estimates": of}
