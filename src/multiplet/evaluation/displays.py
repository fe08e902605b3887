"""Displays of single events of a run: what the model saw, and what it said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from multiplet.evaluation.evaluated import evaluated_events
from multiplet.evaluation.plots import describe, jet_display
from multiplet.evaluation.pulses import pulse_displays
from multiplet.evaluation.spacepoints import spacepoint_displays
from multiplet.recipe import Run, open_run
from multiplet.representation.jets import FLAGS, JetConstituents
from multiplet.tasks.classify import Classify


def displays(run: Path | str, known: Sequence[type] = ()) -> dict[str, Figure]:
    """Displays of some events of a run, by title; none where it was not evaluated, or there are none for its task.

    Raises DataError where the events that were evaluated are no longer there.
    """
    opened = open_run(run, known)
    if not (opened.path / "predictions.parquet").is_file():
        return {}
    return next((shown for make in KINDS if (shown := make(opened))), {})


def jet_displays(run: Run, wanted: int = 4) -> dict[str, Figure]:
    """One jet each of the first `wanted` classes of an evaluated run that classifies jets, by title."""
    objective = run.recipe.objective
    if not isinstance(run.recipe.represent.quantities, JetConstituents) or not isinstance(objective, Classify):
        return {}
    table = pq.read_table(run.path / "predictions.parquet")
    classes = [name.removeprefix("score_") for name in table.column_names if name.startswith("score_")]
    label = table[objective.label].to_numpy()
    rows = [int(np.argmax(label == code)) for code in range(len(classes)) if (label == code).any()][:wanted]
    shown = evaluated_events(run, np.asarray(rows))
    split, cloud = shown.split, shown.cloud
    figures = {}
    for place, row in enumerate(rows):
        real = cloud.mask[place].numpy()
        jet = {name: value[place].numpy()[real] for name, value in cloud.points.items()}
        flags = np.stack([jet[flag] for flag in FLAGS], axis=1)
        kinds = [_FLAGS[int(np.argmax(flag))] if flag.any() else "particle" for flag in flags]
        scores = {name: float(table[f"score_{name}"][row].as_py()) for name in classes}
        title = describe(classes[label[row]], scores)
        figures[f"{split} event {row}: {title}"] = jet_display(
            jet["deta"], jet["dphi"], np.hypot(jet["px"], jet["py"]), kinds, jet["charge"], title
        )
    return figures


KINDS = (jet_displays, spacepoint_displays, pulse_displays)  # each gives none for runs of another kind
_FLAGS = [flag.removeprefix("is_").replace("_", " ") for flag in FLAGS]
