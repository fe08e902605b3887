"""Campaign: a study, which is many recipes by name, trained and evaluated one after the other and compared.

A cell that is done is not done again, so a study that was stopped goes on; several processes may share one by `only`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from multiplet.checkpoint import newest
from multiplet.errors import DataError, RecipeError, RunError
from multiplet.evaluation.comparison import Comparison, compare
from multiplet.evaluation.evaluate import evaluate
from multiplet.files import read_json
from multiplet.optim import require_rate
from multiplet.progress import show
from multiplet.recipe import Recipe
from multiplet.record import read_record
from multiplet.training import train
from multiplet.transfer import source_of


def study(
    questions: Mapping[str, Mapping[str, Recipe]], out: Path, only: str = "*", command: str = ""
) -> Comparison | None:
    """Train and evaluate the cells whose name fits the pattern `only`, each in out/NAME; compare all that are done.

    `questions` are recipes by name, by the title of what they answer together; a cell may be in several. Writes
    out/study.md and out/study.html; gives what they say, or None where no cell is done. Before anything is trained it
    raises RecipeError where no name fits, two recipes share one, or a rate is not one of its parametrisation,
    DataError where the events of a cell are not there, and RunError where a cell carries another one that is neither
    trained nor about to be; later RunError where a signal stopped a cell: the same call goes on from there.
    """
    recipes: dict[str, Recipe] = {}
    for name, recipe in (cell for question in questions.values() for cell in question.items()):
        if recipes.setdefault(name, recipe) != recipe:
            raise RecipeError(f"two recipes of this study are called {name!r}: a name stands for one cell")
    chosen = [name for name in recipes if fnmatch(name, only)]
    if not chosen:
        raise RecipeError(f"no cell fits {only!r}: there are {', '.join(recipes) or 'none'}")
    _require_rates({name: recipes[name] for name in chosen})
    _require_events({name: recipes[name] for name in chosen})
    _require_carried(recipes, chosen, out)
    for number, name in enumerate(chosen, 1):
        complete(out / name, recipes[name], command, f"{name} ({number}/{len(chosen)})")
    done = {
        title: {n: out / n for n in question if (out / n / "metrics.json").is_file()}
        for title, question in questions.items()
    }
    return (
        compare({title: question for title, question in done.items() if question}, out, command)
        if any(done.values())
        else None
    )


def complete(run: Path, recipe: Recipe, command: str = "", title: str = "") -> dict[str, Any]:
    """Train and evaluate a recipe in this folder, as far as that is not done; gives its metrics.

    Raises RunError where the folder started from another state of the run that the recipe carries than there is now.
    """
    before, _ = newest(run) if run.is_dir() else (None, [])
    if before is not None:
        _require_same_start(run, recipe)
    finished = train(recipe, run, name=run.name, command=command)
    if finished.stopped_by:
        raise RunError(f"{finished.stopped_by}: {run} stopped at step {finished.step}; the same command goes on there")
    if before is not None and before.step == recipe.train.steps and (run / "metrics.json").is_file():
        metrics: dict[str, Any] = read_json(run / "metrics.json")
        return metrics
    with closing(show(f"evaluate {title or run.name}")) as bar:
        return evaluate(run, command=f"multiplet evaluate {run}", show=bar)


def _require_rates(cells: Mapping[str, Recipe]) -> None:
    for name, recipe in cells.items():
        try:
            require_rate(recipe.optim, recipe.encoder.param)
        except RecipeError as error:
            raise RecipeError(f"cell {name}: {error}; no cell was trained") from error


def _require_events(cells: Mapping[str, Recipe]) -> None:
    """What a cell asks for and its sample lacks is said now, not after days in which the others were trained."""
    opened = []
    for name, recipe in cells.items():
        if recipe.data not in opened:
            try:
                recipe.data.open()
            except DataError as error:
                raise DataError(f"cell {name}: {error}; no cell was trained") from error
            opened.append(recipe.data)


def _require_carried(recipes: Mapping[str, Recipe], chosen: Sequence[str], out: Path) -> None:
    """Another process may still be at work on what is carried: half of a pretraining would go unnoticed."""
    cells = {(out / name).resolve(): name for name in recipes}
    done: dict[str, int] = {}  # the last step of cells, or what it will be
    for name in chosen:
        source = getattr(recipes[name].adapt, "run", "")
        cell = cells.get(Path(source).resolve()) if source else None
        if cell is not None and not _steps(out / name):  # else it is carried already
            steps = recipes[cell].train.steps
            if done.setdefault(cell, _steps(out / cell)) < steps:
                raise RunError(
                    f"cell {name} carries what cell {cell} learns, which has done {done[cell]} of {steps} steps: let "
                    f"that end first (--only {cell!r})"
                )
        done[name] = recipes[name].train.steps


def _steps(run: Path) -> int:
    found, _ = newest(run)
    return found.step if found else 0


def _require_same_start(run: Path, recipe: Recipe) -> None:
    source, before = getattr(recipe.adapt, "run", ""), read_record(run).get("carried")
    found, _ = newest(Path(source)) if source and before else (None, [])
    if found is not None and (now := source_of(Path(source), found)) != before:
        raise RunError(f"{run} started from {before}, which is now {now}: remove {run} to start anew")
