"""Study: many runs of one task side by side: a metric against the number of labels, and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from multiplet.errors import RunError
from multiplet.evaluation.plots import label_efficiency
from multiplet.metrics import Difference, paired_difference
from multiplet.recipe import open_run
from multiplet.tasks.classify import Classify

WAYS = {"Scratch": "from scratch", "FineTune": "fine-tuned", "Frozen": "frozen"}


@dataclass(frozen=True)
class Row:
    """One evaluated classification run: how it was adapted, on how many labels, and which events it got right."""

    way: str
    labels: int
    seed: tuple[int, int]  # of the recipe, and the place its labelled events start at
    right: np.ndarray  # (events,) 0 or 1, in file order

    @property
    def accuracy(self) -> float:
        """The share of events got right."""
        return float(self.right.mean())


def rows(runs: Sequence[Path | str], known: Sequence[type] = ()) -> list[Row]:
    """The evaluated classification runs among these; others are left out."""
    found = []
    for run in runs:
        opened = open_run(run, known)
        file = opened.path / "predictions.parquet"
        if not isinstance(opened.recipe.objective, Classify) or not file.is_file():
            continue
        table = pq.read_table(file)
        names = [name for name in table.column_names if name.startswith("score_")]
        scores = np.stack([table[name].to_numpy() for name in names], axis=1)
        data = opened.recipe.data
        labels = data.take if data.take is not None else data.open().size("train")
        label = table[opened.recipe.objective.label].to_numpy()
        right = (scores.argmax(1) == label)[label >= 0]
        way = WAYS.get(type(opened.recipe.adapt).__name__, type(opened.recipe.adapt).__name__)
        found.append(Row(way, labels, (opened.recipe.seed, data.skip), right.astype(np.int8)))
    return found


def label_figure(found: Sequence[Row]) -> Figure | None:
    """Accuracy against the number of labels for each way; None where there are not two numbers of labels."""
    if len({row.labels for row in found}) < 2:
        return None
    series = {}
    for way in dict.fromkeys(row.way for row in found):
        mine = [row for row in found if row.way == way]
        labels = sorted({row.labels for row in mine})
        seeds = min(sum(row.labels == count for row in mine) for count in labels)
        values = [sorted((r.seed, r.accuracy) for r in mine if r.labels == count)[:seeds] for count in labels]
        series[way] = np.array(labels), np.array([[accuracy for _, accuracy in column] for column in values])
    return label_efficiency(series, "accuracy")


def _by_seed(found: Sequence[Row]) -> dict[tuple[int, int], np.ndarray]:
    """Raises RunError where two runs claim to be the same, or were tested on other numbers of events."""
    if len({row.seed for row in found}) < len(found) or len({len(row.right) for row in found}) > 1:
        raise RunError(
            f"among the {found[0].way} runs on {found[0].labels} labels two share a seed, or were tested on other "
            "events: compare runs of one study only"
        )
    return {row.seed: row.right for row in found}


def differences(found: Sequence[Row], first: str = "fine-tuned", second: str = "from scratch") -> dict[int, Difference]:
    """Labels → accuracy of `first` minus `second`, paired over the seeds that both have, if two or more."""
    result = {}
    for count in sorted({row.labels for row in found}):
        a, b = (_by_seed([row for row in found if (row.way, row.labels) == (way, count)]) for way in (first, second))
        if len(seeds := sorted(a.keys() & b.keys())) >= 2:
            result[count] = paired_difference([a[seed] for seed in seeds], [b[seed] for seed in seeds])
    return result
