"""A study trains each cell once, goes on where it stopped, and compares cells that differ by their seed alone."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests import tiny
from tests.toys import write_toys

from multiplet.campaign import study
from multiplet.data.events import Events
from multiplet.errors import RecipeError
from multiplet.recipe import Recipe
from multiplet.recipes import tpc_controls
from multiplet.recipes.find import make_recipe, make_study


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toys(tmp_path_factory.mktemp("toys"))


def cells(data: Path) -> dict[str, Recipe]:
    made = {
        f"{name}-s{seed}": replace(tiny.labels(str(data), 1), seed=seed, data=Events(str(data), 100 * seed, 100))
        for name in ("short", "long")
        for seed in range(2)
    }
    return {name: replace(one, train=tiny.train(2 if name.startswith("long") else 1)) for name, one in made.items()}


def test_a_study_goes_on_and_compares(data: Path, tmp_path: Path) -> None:
    recipes = cells(data)
    first = study(recipes, tmp_path, "short-*")
    assert first is not None
    assert [group.name for (groups,) in [first.tables] for group in groups] == ["short"]
    before = {name: (tmp_path / name / "metrics.json").stat().st_mtime_ns for name in recipes if name[:5] == "short"}
    second = study(recipes, tmp_path)
    assert second is not None
    assert {name: (tmp_path / name / "metrics.json").stat().st_mtime_ns for name in before} == before
    (groups,) = second.tables
    assert [(group.name, len(group.cells)) for group in groups] == [("short", 2), ("long", 2)]
    assert "± " in groups[0].cell("accuracy")
    assert "| long | 2 |" in (tmp_path / "study.md").read_text()
    assert "<table" in (tmp_path / "study.html").read_text()


def test_what_is_no_study_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no cell fits 'shrt\*'"):
        study(cells(data), tmp_path, "shrt*")
    with pytest.raises(RecipeError, match="is no study: it gives a Recipe"):
        make_study("maskdiff")
    file = tmp_path / "mine.py"
    file.write_text("from tests import tiny\ndef many(data: str):\n    return {'a': tiny.labels(data)}\n")
    mine = f"{file}:many"
    with pytest.raises(RecipeError, match=r"is a study of .* recipes, not one"):
        make_recipe(mine, ["data=here"])
    assert {recipe.seed for recipe in make_study(mine, ["data=here", "seed=3"]).values()} == {3}


def test_controls_see_the_same_labels_and_steps() -> None:
    made = tpc_controls("", labels=(30, 90), seeds=2, skip=5, encoders=("nothing",))
    assert len(made) == 3 * 2 * 2
    for name, recipe in made.items():
        task, _, labels, seed = name.split("-")
        count, number = int(labels), int(seed[1:])
        assert recipe.data == Events("data/tpc", 5 + count * number, count)
        assert recipe.train.steps == (400 if task == "tracks" else 200)
        assert recipe.objective.width == 64
    with pytest.raises(RecipeError, match="did you mean 'frozen'"):
        tpc_controls(encoders=("frosen",))
