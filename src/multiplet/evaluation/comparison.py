"""Comparison: the cells of a study in one table: means over seeds, what they cost, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from multiplet.evaluation.folder import Folder, read_folders
from multiplet.evaluation.gallery import gallery
from multiplet.evaluation.page import Html, element, join, page, picture, table
from multiplet.evaluation.study import Pair, Row, label_figure, pairs, rows, ways_figure
from multiplet.files import write_atomically
from multiplet.recipe import Recipe, open_run
from multiplet.transfer import FineTune, Frozen, FrozenRandom

_HEAD = ("cells", "seeds", "train (min)", "evaluate (min)")
_MOST = 12  # metrics in a table


@dataclass(frozen=True)
class Group:
    """Cells that differ by seed, place of labels and seed of what they carry alone: a row of the table."""

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
class Question:
    """Cells that answer one question: a table for all with the same metrics, and the differences between ways."""

    title: str
    tables: tuple[tuple[Group, ...], ...]
    pairs: tuple[Pair, ...]
    figures: tuple[Html, ...] = field(repr=False)

    def __str__(self) -> str:
        parts = [f"## {self.title}"] if self.title else []
        for groups in self.tables:
            lines = [_head(groups), *([name, *cells] for name, cells in map(_row, groups))]
            lines.insert(1, ["---"] * len(lines[0]))
            parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        return "\n\n".join([*parts, "\n".join(f"- {pair}" for pair in self.pairs)]).strip()


@dataclass(frozen=True)
class Comparison:
    """What a study says, question by question."""

    questions: tuple[Question, ...]

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.questions))


@dataclass(frozen=True)
class _Cell:
    """A run, read once."""

    recipe: Recipe
    folder: Folder
    rows: list[Row]


def compare(questions: Mapping[str, Mapping[str, Path]], out: Path, command: str = "") -> Comparison:
    """Compare evaluated runs, by title of their question and name in it, and write out/study.md and out/study.html.

    A run may be in several questions. Raises RunError where one is no run folder.
    """
    runs = {name: path for question in questions.values() for name, path in question.items()}
    folders = dict(zip(runs, read_folders(list(runs.values())), strict=True))
    cells = {name: _Cell(open_run(path).recipe, folders[name], rows([path])) for name, path in runs.items()}
    result = Comparison(
        tuple(_question(title, {name: cells[name] for name in question}) for title, question in questions.items())
    )
    write_atomically(out / "study.md", f"{result}\n".encode())
    sections = []
    for question in result.questions:
        shown = [table(_head(groups), [_row(group) for group in groups]) for groups in question.tables]
        sections.append((question.title or "Cells", join(*shown, _differences(question), gallery(question.figures))))
    sections.append(("Command", element("pre", element("code", command))))
    lead = f"{len(runs)} cells; means and standard deviations over seeds"
    write_atomically(out / "study.html", page(out.name, lead, sections).encode())
    return result


def _question(title: str, cells: Mapping[str, _Cell]) -> Question:
    groups = [_group(names, cells) for names in _alike(cells)]
    kinds = dict.fromkeys(tuple(group.values) for group in groups)
    tables = tuple(tuple(group for group in groups if tuple(group.values) == kind) for kind in kinds)
    found = _by_metric(groups, cells)
    drawn = [
        picture(figure, f"{metric} {what}")
        for metric, mine in found.items()
        for what, figure in (("and the number of labels", label_figure(mine)), ("of each way", ways_figure(mine)))
        if figure
    ]
    return Question(title, tables, tuple(pair for mine in found.values() for pair in pairs(mine)), tuple(drawn))


def _by_metric(groups: Sequence[Group], cells: Mapping[str, _Cell]) -> dict[str, list[Row]]:
    """Rows of cells by their metric. Where two groups share way and labels, a way is called as its groups are."""
    of = [(group.name, row) for group in groups for name in group.cells for row in cells[name].rows]
    kinds = dict.fromkeys((name, row.metric, row.way, row.labels) for name, row in of)
    clash = len({kind[1:] for kind in kinds}) < len(kinds)
    found: dict[str, list[Row]] = {}
    for name, row in of:
        way = "-".join(word for word in name.split("-") if word != str(row.labels)) if clash else row.way
        found.setdefault(row.metric, []).append(replace(row, way=way))
    return found


def _differences(question: Question) -> Html:
    """A table of all pairs; what excludes 0 stands out."""
    lines = []
    for pair in question.pairs:
        found = pair.difference
        value = f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
        shown = element("strong", value) if found.significant else Html(value)
        lines.append((f"{pair.first} minus {pair.second}", [f"{pair.labels:,}", pair.metric, shown, str(found.seeds)]))
    if not lines:
        return Html("")
    level = question.pairs[0].difference.level
    caption = f"Paired over seeds and events; {level:.0%} intervals, not corrected for their number; bold: 0 is outside"
    return table(["difference", "labels", "metric", "mean", "seeds"], lines, caption)


def _head(groups: Sequence[Group]) -> list[str]:
    return [*_HEAD, *_shown(groups[0])]


def _shown(group: Group) -> list[str]:
    """The metrics of a table: all of few, and else no rejections, of which ten classes have dozens."""
    names = list(group.values)
    return names if len(names) <= _MOST else [name for name in names if not name.startswith("rejection")]


def _row(group: Group) -> tuple[str, list[str]]:
    costs = f"{group.training:.1f}", f"{group.evaluation:.1f}"
    return group.name, [str(len(group.cells)), *costs, *(group.cell(metric) for metric in _shown(group))]


def _alike(cells: Mapping[str, _Cell]) -> list[list[str]]:
    """Names of cells whose recipes differ by seed, by where their labels start, and by which of such they carry.

    Two of the same seed and labels that carry two of such are not: they are of two pretrainings, tuned alike.
    """
    found: list[tuple[Recipe, list[str]]] = []
    first: dict[Path, str] = {}  # of the cells like the one in a folder
    for name, cell in cells.items():
        bare = replace(cell.recipe, seed=0, data=cell.recipe.data.from_start())
        if isinstance(bare.adapt, FineTune | Frozen | FrozenRandom):
            run = first.get(Path(bare.adapt.run).resolve(), bare.adapt.run)
            bare = replace(bare, adapt=replace(bare.adapt, run=run))
        same = [names for one, names in found if one == bare]
        names = next((names for names in same if not any(_twice(cell, cells[one]) for one in names)), None)
        if names is None:
            found.append((bare, names := []))
        names.append(name)
        first[cell.folder.path.resolve()] = names[0]
    return [names for _, names in found]


def _twice(one: _Cell, other: _Cell) -> bool:
    """Whether two like cells have the same seed and labels, and carry two different runs."""
    a, b = one.recipe, other.recipe
    return (a.seed, a.data) == (b.seed, b.data) and a.adapt != b.adapt


def _group(names: Sequence[str], cells: Mapping[str, _Cell]) -> Group:
    metrics = [(cells[name].folder.metrics or {}) for name in names]
    shared = [m for m in metrics[0]["metrics"] if all(m in one["metrics"] for one in metrics)]
    trained = [line.get("time", {}).get("seconds", 0.0) for name in names for line in cells[name].folder.log["train"]]
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
