"""Study: many runs of one task side by side: a metric against the number of labels, and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from multiplet.backbones.nothing import Nothing
from multiplet.data.mixture import Mixture
from multiplet.embedding import Learned
from multiplet.errors import RunError
from multiplet.evaluation.study_plots import label_efficiency, side_by_side
from multiplet.intervals import Difference, paired_difference
from multiplet.model import ShippedObjective
from multiplet.recipe import Recipe, open_run
from multiplet.tasks.angle_scores import opening_angles
from multiplet.tasks.classify import Classify
from multiplet.tasks.direction import Direction
from multiplet.tasks.regress import Regress, errors
from multiplet.tasks.tag import Tag
from multiplet.tasks.together import parts_of
from multiplet.tasks.tracks import Tracks
from multiplet.track_metrics import NONE, adjusted_rand_of_each, overlaps, pair_sums

WAY_NAMES = {
    "FineTune": "fine-tuned",
    "Frozen": "frozen",
    "FrozenRandom": "frozen at random",
    "Scratch": "from scratch",
    "Nothing": "without an encoder",
    "Features": "on features alone",
}


@dataclass(frozen=True)
class Row:
    """One evaluated run of a task: how it was adapted, on how many labels, and what each event is worth by a metric."""

    metric: str  # says so where lower is better
    way: str
    labels: int
    seed: tuple[int, int]  # of the recipe, and the place its labelled events start at
    values: np.ndarray  # (events,), in file order

    @property
    def mean(self) -> float:
        """Over events."""
        return float(self.values.mean())


def rows(runs: Sequence[Path | str], known: Sequence[type] = ()) -> list[Row]:
    """The evaluated runs of tasks with a label among these; others are left out.

    Raises DataError where all events of a folder were trained on, and it is no longer there to count them.
    """
    found = []
    for run in runs:
        opened = open_run(run, known)
        file, recipe = opened.path / "predictions.parquet", opened.recipe
        for task in parts_of(recipe.objective) if file.is_file() else ():
            if (worth := _worth(file, task)) is not None:
                seed = recipe.seed, recipe.data.skip
                found.append(Row(worth[0], _way(recipe), _labels(recipe, task), seed, worth[1]))
    return found


def _worth(file: Path, task: ShippedObjective) -> tuple[str, np.ndarray] | None:
    """What each event is worth, and by which metric; None for an objective without labels."""
    match task:
        case Classify() | Tag():
            return _classes(file, task)
        case Tracks():
            return _tracks(file, task)
        case Direction():
            columns = [prefix + name for prefix in ("", "found_") for name in (task.azimuth, task.zenith)]
            values = opening_angles(_columns(file, columns), task.azimuth, task.zenith)
            return "opening angle (°), lower is better", values[~np.isnan(values)]
        case Regress():
            values, what = errors(_columns(file, [task.label, f"found_{task.label}"]), task.label, task.log)
            return f"error of {what}, lower is better", np.abs(values[~np.isnan(values)])
    return None


def _columns(file: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    table = pq.read_table(file, columns=list(names))
    return {name: table[name].to_numpy() for name in names}


def _labels(recipe: Recipe, task: ShippedObjective) -> int:
    """Training events of the folders that have the task's label."""
    if not isinstance(recipe.data, Mixture):
        return recipe.data.take if recipe.data.take is not None else recipe.data.open().size("train")
    label = task.azimuth if isinstance(task, Direction) else getattr(task, "label", "")
    opened = recipe.data.open()
    with_labels = [files for name, files in opened.sources.items() if name not in opened.unlabelled]
    return sum(files.size("train") for files in with_labels if label in {column.name for column in files.schema})


def _way(recipe: Recipe) -> str:
    name = type(recipe.adapt).__name__
    if isinstance(recipe.encoder.backbone, Nothing):
        name = "Features" if isinstance(recipe.encoder.features, Learned) else "Nothing"
    return WAY_NAMES.get(name, name)


def _classes(file: Path, objective: Classify | Tag) -> tuple[str, np.ndarray]:
    """Whether each labelled event was right, or the share of its labelled points that were."""
    names = [name for name in pq.read_schema(file).names if name.startswith("score_")]
    table = pq.read_table(file, columns=["index", objective.label, *names])
    label = table[objective.label].to_numpy()
    right = (np.stack([table[name].to_numpy() for name in names], axis=1).argmax(1) == label)[label >= 0]
    _, event = np.unique(table["index"].to_numpy()[label >= 0], return_inverse=True)
    name = "accuracy" if isinstance(objective, Classify) else f"accuracy of {objective.label} in an event"
    return name, np.bincount(event, right) / np.bincount(event)


def _tracks(file: Path, objective: Tracks) -> tuple[str, np.ndarray]:
    """The adjusted Rand index of each event."""
    table = pq.read_table(file, columns=["index", objective.label, "found"])
    index, event = np.unique(table["index"].to_numpy(), return_inverse=True)
    true, found = np.maximum(table[objective.label].to_numpy(), NONE), table["found"].to_numpy()
    return "adjusted Rand index of an event", adjusted_rand_of_each(pair_sums(overlaps(event, true, found, len(index))))


def label_figure(found: Sequence[Row]) -> Figure | None:
    """The metric of these rows against the number of labels for each way; None without two numbers of labels."""
    if len({row.labels for row in found}) < 2:
        return None
    values: dict[str, dict[int, list[float]]] = {row.way: {} for row in found}
    for row in found:
        values[row.way].setdefault(row.labels, []).append(row.mean)
    return label_efficiency(values, found[0].metric)


def ways_figure(found: Sequence[Row]) -> Figure | None:
    """The metric of these rows, the ways side by side; None for a single way, and for several numbers of labels."""
    values: dict[str, list[float]] = {row.way: [] for row in found}
    for row in found:
        values[row.way].append(row.mean)
    return (
        side_by_side(values, found[0].metric) if len(values) > 1 and len({row.labels for row in found}) == 1 else None
    )


def _by_seed(found: Sequence[Row]) -> dict[tuple[int, int], np.ndarray]:
    """Raises RunError where two runs claim to be the same, or were tested on other numbers of events."""
    if len({row.seed for row in found}) < len(found) or len({len(row.values) for row in found}) > 1:
        raise RunError(
            f"among the {found[0].way} runs on {found[0].labels} labels two share a seed, or were tested on other "
            "events: compare runs of one study only"
        )
    return {row.seed: row.values for row in found}


def differences(found: Sequence[Row], first: str = "fine-tuned", second: str = "from scratch") -> dict[int, Difference]:
    """Labels → the rows' metric of `first` minus `second`, paired over the seeds that both have, if two or more."""
    result = {}
    for count in sorted({row.labels for row in found}):
        a, b = (_by_seed([row for row in found if (row.way, row.labels) == (way, count)]) for way in (first, second))
        if len(seeds := sorted(a.keys() & b.keys())) >= 2:
            result[count] = paired_difference([a[seed] for seed in seeds], [b[seed] for seed in seeds])
    return result


@dataclass(frozen=True)
class Pair:
    """Two ways of adapting on as many labels: the metric of the first minus that of the second."""

    metric: str
    labels: int
    first: str
    second: str
    difference: Difference

    def __str__(self) -> str:
        return f"{self.labels:,} labels, {self.metric} {self.first} minus {self.second}: {self.difference}"


def pairs(found: Sequence[Row]) -> list[Pair]:
    """Every two ways and number of labels: the paired difference of these rows of one metric."""
    order = list(WAY_NAMES.values())
    ways = sorted(dict.fromkeys(row.way for row in found), key=lambda way: (*order, way).index(way))
    return [
        Pair(found[0].metric, labels, first, second, difference)
        for first, second in combinations(ways, 2)
        for labels, difference in differences(found, first, second).items()
    ]
