"""Campaign: a study, which is many recipes by name, trained and evaluated one after the other and compared.

A cell that is done is not done again, so a study that was stopped goes on; several processes may share one by `only`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from multiplet.checkpoint import newest
from multiplet.errors import RecipeError, RunError
from multiplet.evaluation.comparison import Comparison, compare
from multiplet.evaluation.evaluate import evaluate
from multiplet.files import read_json
from multiplet.progress import show
from multiplet.recipe import Recipe
from multiplet.training import train


def study(
    questions: Mapping[str, Mapping[str, Recipe]], out: Path, only: str = "*", command: str = ""
) -> Comparison | None:
    """Train and evaluate the cells whose name fits the pattern `only`, each in out/NAME; compare all that are done.

    `questions` are recipes by name, by the title of what they answer together; a cell may be in several. Writes
    out/study.md and out/study.html; gives what they say, or None where no cell is done. Raises RecipeError where no
    name fits or two recipes share one, and RunError where a signal stopped a cell; the same call goes on from there.
    """
    recipes: dict[str, Recipe] = {}
    for name, recipe in (cell for question in questions.values() for cell in question.items()):
        if recipes.setdefault(name, recipe) != recipe:
            raise RecipeError(f"two recipes of this study are called {name!r}: a name stands for one cell")
    chosen = [name for name in recipes if fnmatch(name, only)]
    if not chosen:
        raise RecipeError(f"no cell fits {only!r}: there are {', '.join(recipes)}")
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
    """Train and evaluate a recipe in this folder, as far as that is not done; gives its metrics."""
    before, _ = newest(run) if run.is_dir() else (None, [])
    finished = train(recipe, run, name=run.name, command=command)
    if finished.stopped_by:
        raise RunError(f"{finished.stopped_by}: {run} stopped at step {finished.step}; the same command goes on there")
    if before is not None and before.step == recipe.train.steps and (run / "metrics.json").is_file():
        metrics: dict[str, Any] = read_json(run / "metrics.json")
        return metrics
    with closing(show(f"evaluate {title or run.name}")) as bar:
        return evaluate(run, command=f"multiplet evaluate {run}", show=bar)
