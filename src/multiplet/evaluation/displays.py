"""Displays of single events of a run: what the model saw, and what it said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from multiplet.data.events import Events, Split
from multiplet.evaluation.plots import describe, jet_display
from multiplet.evaluation.spacepoints import spacepoint_displays
from multiplet.files import read_json
from multiplet.recipe import open_run
from multiplet.representation.jets import FLAGS, JetConstituents
from multiplet.tasks.classify import Classify


def displays(run: Path | str, known: Sequence[type] = ()) -> dict[str, Figure]:
    """Displays of some events of a run, by title; none where it was not evaluated, or there are none for its task.

    Raises DataError where the events that were evaluated are no longer there.
    """
    return jet_displays(run, known) or spacepoint_displays(open_run(run, known))


def jet_displays(run: Path | str, known: Sequence[type] = (), wanted: int = 4) -> dict[str, Figure]:
    """One jet each of the first `wanted` classes of an evaluated run that classifies jets, by title."""
    opened = open_run(run, known)
    jets = isinstance(opened.recipe.represent.quantities, JetConstituents)
    if not jets or not isinstance(opened.recipe.objective, Classify):
        return {}
    if not (opened.path / "predictions.parquet").is_file():
        return {}
    metrics = read_json(opened.path / "metrics.json")
    split: Split = metrics["split"]
    table = pq.read_table(opened.path / "predictions.parquet")
    classes = [name.removeprefix("score_") for name in table.column_names if name.startswith("score_")]
    label = table[opened.recipe.objective.label].to_numpy()
    rows = [int(np.argmax(label == code)) for code in range(len(classes)) if (label == code).any()][:wanted]
    cloud = Events(metrics["data"]).open().read(split, np.asarray(rows))
    figures = {}
    for place, row in enumerate(rows):
        real = cloud.mask[place].numpy()
        jet = {name: value[place].numpy()[real] for name, value in cloud.points.items()}
        flags = np.stack([jet[flag] for flag in FLAGS], axis=1)
        kinds = [_KINDS[int(np.argmax(flag))] if flag.any() else "particle" for flag in flags]
        scores = {name: float(table[f"score_{name}"][row].as_py()) for name in classes}
        title = describe(classes[label[row]], scores)
        figures[f"{split} event {row}: {title}"] = jet_display(
            jet["deta"], jet["dphi"], np.hypot(jet["px"], jet["py"]), kinds, jet["charge"], title
        )
    return figures


_KINDS = [flag.removeprefix("is_").replace("_", " ") for flag in FLAGS]
