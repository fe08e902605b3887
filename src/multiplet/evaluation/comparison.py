"""Comparison: the cells of a study in one table: means over seeds, what they cost, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from multiplet.evaluation.folder import Folder, read_folders
from multiplet.evaluation.gallery import gallery
from multiplet.evaluation.page import element, join, page, picture, table
from multiplet.evaluation.study import label_figure, notes, rows
from multiplet.files import write_atomically
from multiplet.recipe import Recipe, open_run

_HEAD = ("cells", "seeds", "train (min)", "evaluate (min)")


@dataclass(frozen=True)
class Group:
    """Cells that differ by their seed and the place of their labels alone: a row of the table."""

    name: str
    cells: tuple[str, ...]
    values: dict[str, np.ndarray]  # metric → (seeds,)
    training: float  # minutes in all
    evaluation: float

    def cell(self, metric: str) -> str:
        """The mean over seeds and their standard deviation."""
        if metric not in self.values:
            return "–"
        values = self.values[metric]
        return f"{values.mean():.4f}" + (f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else "")


@dataclass(frozen=True)
class Comparison:
    """What a study says: one table for all cells with the same metrics, and the differences between ways."""

    tables: tuple[tuple[Group, ...], ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        parts = []
        for groups in self.tables:
            head = [*_HEAD, *groups[0].values]
            lines = [head, ["---"] * len(head), *([name, *cells] for name, cells in map(_row, groups))]
            parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        return "\n\n".join([*parts, "\n".join(f"- {note}" for note in self.notes)]).strip()


def compare(runs: Mapping[str, Path], out: Path, command: str = "") -> Comparison:
    """Compare evaluated runs, by name, and write out/study.md and out/study.html."""
    recipes = {name: open_run(path).recipe for name, path in runs.items()}
    folders = dict(zip(runs, read_folders(list(runs.values())), strict=True))
    groups = [_group(names, folders) for names in _alike(recipes)]
    kinds = dict.fromkeys(tuple(group.values) for group in groups)
    tables = tuple(tuple(group for group in groups if tuple(group.values) == kind) for kind in kinds)
    found = rows(list(runs.values()))
    metrics = dict.fromkeys(row.metric for row in found)
    said = tuple(note for metric in metrics for note in notes([row for row in found if row.metric == metric]))
    result = Comparison(tables, said)
    write_atomically(out / "study.md", f"{result}\n".encode())
    drawn = {metric: label_figure([row for row in found if row.metric == metric]) for metric in metrics}
    figures = [picture(figure, f"{metric} and the number of labels") for metric, figure in drawn.items() if figure]
    shown = [table([*_HEAD, *part[0].values], [_row(group) for group in part]) for part in tables]
    sections = [
        ("Cells", join(*shown)),
        ("Differences", join(*(element("p", note) for note in said))),
        ("Figures", gallery(figures)),
        ("Command", element("pre", element("code", command))),
    ]
    lead = f"{len(runs)} cells; means and standard deviations over seeds"
    write_atomically(out / "study.html", page(out.name, lead, [(n, part) for n, part in sections if part]).encode())
    return result


def _row(group: Group) -> tuple[str, list[str]]:
    costs = f"{group.training:.1f}", f"{group.evaluation:.1f}"
    return group.name, [str(len(group.cells)), *costs, *(group.cell(metric) for metric in group.values)]


def _alike(recipes: Mapping[str, Recipe]) -> list[list[str]]:
    """Names of recipes that differ by seed and by where their labels start alone."""
    found: list[tuple[Recipe, list[str]]] = []
    for name, recipe in recipes.items():
        bare = replace(recipe, seed=0, data=recipe.data.from_start())
        names = next((names for one, names in found if one == bare), None)
        if names is None:
            found.append((bare, [name]))
        else:
            names.append(name)
    return [names for _, names in found]


def _group(names: Sequence[str], folders: Mapping[str, Folder]) -> Group:
    metrics = [(folders[name].metrics or {}) for name in names]
    shared = [m for m in metrics[0]["metrics"] if all(m in one["metrics"] for one in metrics)]
    trained = [line.get("time", {}).get("seconds", 0.0) for name in names for line in folders[name].log["train"]]
    return Group(
        _common(names),
        tuple(names),
        {metric: np.array([one["metrics"][metric]["value"] for one in metrics]) for metric in shared},
        sum(trained) / 60,
        sum(one.get("cost", {}).get("seconds", 0.0) for one in metrics) / 60,
    )


def _common(names: Sequence[str]) -> str:
    """What names begin with alike, without a trailing "-s"."""
    if len(names) == 1:
        return names[0]
    length = next((n for n, letters in enumerate(zip(*names, strict=False)) if len(set(letters)) > 1), 0)
    return names[0][:length].removesuffix("s").rstrip("-_") or names[0]
