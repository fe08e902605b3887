"""Pulses: displays of events of a run that says where they came from."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from multiplet.errors import DataError
from multiplet.evaluation.estimate_plots import pulse_display
from multiplet.evaluation.evaluated import by_size, evaluated_events
from multiplet.kinematics import unit_vector
from multiplet.recipe import Run
from multiplet.tasks.angle_scores import opening_angles
from multiplet.tasks.direction import Direction
from multiplet.tasks.together import parts_of

NEEDED = ("x", "y", "z", "time")  # columns of points in a display


def pulse_displays(run: Run) -> dict[str, Figure]:
    """An event of middling size and a large one of an evaluated run with Direction, by title; none without places.

    Raises DataError where the events that were evaluated are no longer there.
    """
    task = next((part for part in parts_of(run.recipe.objective) if isinstance(part, Direction)), None)
    columns = {column.name for column in run.schema if column.level == "point" and not column.truth}
    if task is None or not columns.issuperset(NEEDED):
        return {}
    names = ["index", "points", *(prefix + name for prefix in ("", "found_") for name in (task.azimuth, task.zenith))]
    read = pq.read_table(run.path / "predictions.parquet", columns=names)
    table = {name: read[name].to_numpy() for name in names}
    angle = opening_angles(table, task.azimuth, task.zenith)
    labelled = np.flatnonzero(np.isfinite(angle) & (table["points"] > 0))
    if not len(labelled):
        return {}
    rows = by_size(labelled, table["points"][labelled])
    shown = evaluated_events(run, table["index"][rows])
    cloud, figures = shown.cloud, {}
    for place, row in enumerate(rows):
        event, real = table["index"][row], cloud.mask[place].numpy()
        if any(float(cloud.truth[name][place]) != table[name][row] for name in (task.azimuth, task.zenith)):
            raise DataError(f"{shown.where} has another {shown.split} event {event} than was evaluated: evaluate again")
        pulse = {name: value[place].numpy()[real].astype(float) for name, value in cloud.points.items()}
        directions = {
            said: unit_vector(
                *(table[prefix + name][row : row + 1].astype(float) for name in (task.azimuth, task.zenith))
            )[0]
            for said, prefix in (("true", ""), ("found", "found_"))
        }
        xyz = np.stack([pulse[name] for name in ("x", "y", "z")], axis=1)
        charge, quiet = pulse.get("charge", np.ones(len(xyz))), pulse.get("auxiliary", np.zeros(len(xyz))) == 1
        title = f"{shown.split} event {event}: {len(xyz):,} pulses, {angle[row]:.3g}° between true and found direction"
        figures[title] = pulse_display(xyz, pulse["time"], charge, quiet, directions)
    return figures
