"""Spacepoints: displays of events of a run that groups points into tracks, or gives each a class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from multiplet.errors import DataError
from multiplet.evaluation.evaluated import by_size, evaluated_events
from multiplet.evaluation.track_plots import GREY, PALETTE, View, spacepoint_display
from multiplet.recipe import Run
from multiplet.representation.tpc import Spacepoints
from multiplet.tasks.tag import Tag
from multiplet.tasks.tracks import Tracks
from multiplet.track_metrics import NONE, double_majority, overlaps

NOISE = "noise"  # a truth column of points: drawn small where it is 1


def spacepoint_displays(run: Run) -> dict[str, Figure]:
    """An event of middling size and a large one of an evaluated run with Tracks or Tag on spacepoints, by title.

    Raises DataError where the events that were evaluated are no longer there.
    """
    objective, file = run.recipe.objective, run.path / "predictions.parquet"
    if not isinstance(run.recipe.represent.quantities, Spacepoints) or not isinstance(objective, Tracks | Tag):
        return {}
    events, points = np.unique(pq.read_table(file, columns=["index"])["index"].to_numpy(), return_counts=True)
    chosen = by_size(events, points)
    names = [name for name in pq.read_schema(file).names if name.startswith("score_")] or ["found"]
    columns = ["index", "point", objective.label, *names]
    table = pq.read_table(file, columns=columns, filters=[("index", "in", chosen.tolist())])
    shown = evaluated_events(run, chosen)
    split, cloud = shown.split, shown.cloud
    figures = {}
    for place, event in enumerate(chosen):
        here = table["index"].to_numpy() == event
        values = {name: table[name].to_numpy()[here] for name in columns}
        point, label = values["point"], values[objective.label].astype(np.int64)
        there = cloud.truth[objective.label][place][cloud.mask[place]].numpy()
        if point.max() >= len(there) or (there[point] != label).any():
            raise DataError(f"{shown.where} has another {split} event {event} than was evaluated: evaluate again")
        xyz = np.stack([cloud.points[name][place].numpy()[point] for name in ("x", "y", "z")], axis=1).astype(float)
        if isinstance(objective, Tracks):
            noise = (
                cloud.truth[NOISE][place].numpy()[point] == 1 if NOISE in cloud.truth else np.zeros(len(point), bool)
            )
            views, legend, about = views_of_tracks(xyz, label, values["found"], noise)
        else:
            scores = np.stack([values[name] for name in names], axis=1)
            views, legend, about = views_of_classes(label, scores, [name.removeprefix("score_") for name in names])
        title = f"{split} event {event}: {about}"
        reach = np.hypot(xyz[:, 0], xyz[:, 1])
        figures[title] = spacepoint_display(xyz, views, legend, (reach.min(), reach.max()))
    return figures


def views_of_tracks(
    xyz: np.ndarray, true: np.ndarray, found: np.ndarray, noise: np.ndarray
) -> tuple[list[View], dict[str, str], str]:
    """Tracks that match in one colour in both views, those next to each other in azimuth in different ones."""
    true = np.maximum(true, NONE)
    of = overlaps(np.zeros(len(true), np.int64), true, found, 1)
    match = double_majority(of)
    pairs = of.pair[match.match]
    first = xyz[of.true.first[pairs[:, 0]]]
    pairs = pairs[np.argsort(np.arctan2(first[:, 1], first[:, 0]), kind="stable")]
    views = []
    for name, side, ids, place in (("truth", of.true, true, 0), ("found", of.found, found, 1)):
        colour = {int(side.id[group]): PALETTE[n % len(PALETTE)] for n, group in enumerate(pairs[:, place])}
        tracks = int((side.id != NONE).sum())
        views.append(
            View(f"{name}: {tracks} tracks", [colour.get(int(each), GREY) for each in ids], noise | (ids == NONE))
        )
    counted, alone = match.counted, match.judged & ~match.good
    about = f"{(match.efficient & counted).sum()} of {counted.sum()} tracks found, {alone.sum()} found that match none"
    return views, {"matched, one colour each": PALETTE[0], "unmatched": GREY}, about


def views_of_classes(
    label: np.ndarray, scores: np.ndarray, classes: Sequence[str]
) -> tuple[list[View], dict[str, str], str]:
    """A colour a class; points without a label small and grey in the truth."""
    colours = [PALETTE[n % len(PALETTE)] for n in range(len(classes))]
    guess, labelled = scores.argmax(1), label >= 0
    about = "no point has a label"
    if labelled.any():
        about = f"{np.mean(guess[labelled] == label[labelled]):.0%} of {labelled.sum():,} points are right"
    views = [
        View("truth", [colours[each] if each >= 0 else GREY for each in label], ~labelled),
        View("predicted", [colours[each] for each in guess], np.zeros(len(label), bool)),
    ]
    return views, dict(zip(classes, colours, strict=True)), about
