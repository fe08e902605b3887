"""Recipes by name, and their arguments and fields as `key=value`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from multiplet import recipes
from multiplet.data.events import Events
from multiplet.errors import RecipeError
from multiplet.optim import AdamW
from multiplet.recipe import Recipe
from multiplet.recipes import maskdiff
from multiplet.recipes.find import find, find_classes, make_recipe
from multiplet.spec import from_dict, to_dict

MINE = '''
from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from multiplet import recipes
from multiplet.recipe import Recipe


@dataclass(frozen=True)
class Settings:
    """Its fields have types that are looked up in this module by name."""

    own: Own = field(default_factory=lambda: Own())


@dataclass(frozen=True)
class Own:
    width: int = 7


def mine(steps: int = 3, scale: float | None = None, untyped=0) -> Recipe:
    assert type(scale) in (float, type(None)), scale
    return recipes.maskdiff("here", steps=steps + untyped)


def bare(data: str) -> Recipe:
    return recipes.maskdiff(data)


def broken() -> Recipe:
    return json.dumps(1, 2, 3)


def number():
    return 5


def _hidden() -> Recipe:
    return recipes.maskdiff()


value = 5
'''


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "json.py"  # a name that the standard library has
    path.write_text(MINE)
    return path


def fault(name: str, *changes: str) -> str:
    with pytest.raises(RecipeError) as caught:
        make_recipe(name, changes)
    return str(caught.value)


# --- by name ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", recipes.__all__)
def test_every_shipped_recipe_is_found_and_survives_its_record(name: str) -> None:
    recipe = make_recipe(name)
    assert find(name) is getattr(recipes, name)
    assert from_dict(Recipe, to_dict(recipe)) == recipe


def test_an_unknown_recipe_is_named_with_the_nearest() -> None:
    assert fault("maskdif") == "there is no recipe 'maskdif' in this package (did you mean 'maskdiff'?)"
    for name in ("find", "annotations", "__all__", "os.system", ""):
        assert fault(name).startswith(f"there is no recipe {name!r} in this package (")


def test_a_recipe_of_ones_own_is_named_by_its_file(mine: Path) -> None:
    import json

    recipe = make_recipe(f"{mine}:mine", ["steps=4", "seed=3"])
    assert recipe == replace(maskdiff("here", steps=4), seed=3)
    assert sys.modules["json"] is json


def test_files_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    for folder, data in (("a", "first"), ("b", "second")):
        (tmp_path / folder).mkdir()
        text = f"from multiplet.recipes import maskdiff\n\ndef mine():\n    return maskdiff({data!r})\n"
        (tmp_path / folder / "recipes.py").write_text(text)
    found = [find(f"{tmp_path / folder / 'recipes.py'}:mine") for folder in ("a", "b")]
    assert [function().data for function in found] == [Events("first"), Events("second")]


def test_what_a_file_does_not_define_is_named(mine: Path, tmp_path: Path) -> None:
    assert fault(f"{mine}:mien").startswith(f"there is no recipe 'mien' in {mine} (did you mean 'mine'?)")
    for name in ("_hidden", "value", "Settings", ""):
        assert fault(f"{mine}:{name}").startswith(f"there is no recipe {name!r} in {mine} (")
    for path in (tmp_path / "nothing.py", tmp_path):
        assert fault(f"{path}:mine").startswith(f"{path} is not a Python file: a recipe of your own is named path.py")
    (tmp_path / "notes.txt").write_text(MINE)
    assert fault(f"{tmp_path / 'notes.txt'}:mine").startswith(f"{tmp_path / 'notes.txt'} is not a Python file")


def test_a_mistake_in_ones_own_file_is_shown_as_python_shows_it(mine: Path) -> None:
    before = set(sys.modules)
    mine.write_text("def mine(:")
    with pytest.raises(SyntaxError):
        find(f"{mine}:mine")
    mine.write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        find(f"{mine}:mine")
    assert {name for name in set(sys.modules) - before if str(mine) in name} == set()
    mine.write_text(MINE)
    with pytest.raises(TypeError, match="positional argument"):
        make_recipe(f"{mine}:broken")
    assert fault(f"{mine}:number") == f"{mine}:number gives a int, not a Recipe"


# --- arguments and fields ---------------------------------------------------------------------------------------------


def test_arguments_go_to_the_function_and_fields_to_what_it_gives() -> None:
    changes = ["data=data/a=b", "width=64", "train.steps=7", "optim=AdamW", "optim.rate=0.5", "train.clip=none"]
    base = maskdiff("data/a=b", width=64)
    train = replace(base.train, steps=7, clip=None)
    assert make_recipe("maskdiff", changes) == replace(base, train=train, optim=AdamW(0.5))
    assert make_recipe("maskdiff", changes[::-1]) == make_recipe("maskdiff", changes)


def test_a_name_that_is_argument_and_field_is_the_argument_and_its_parts_are_fields() -> None:
    recipe = make_recipe("maskdiff", ["data=here", "data.skip=5"])
    assert recipe.data == Events("here", skip=5)


def test_arguments_are_read_by_their_types(mine: Path) -> None:
    assert make_recipe(f"{mine}:mine", ["scale=1"]).train.steps == 3
    assert make_recipe(f"{mine}:mine", ["scale=none", "untyped=2"]).train.steps == 5
    assert make_recipe(f"{mine}:bare", ["data=5"]).data == Events("5")


def test_all_that_is_wrong_with_changes_is_named_at_once(mine: Path) -> None:
    assert fault("maskdiff", "steps", "=5", "seed=1", "seed=2").split("; ") == [
        "'steps' is not of the form key=value",
        "'=' is not of the form key=value",
        "seed is given 2 times",
    ]
    assert fault("maskdiff", "widht=3", "steps=1.5", "trian.steps=5", "depth=2").split("; ") == [
        "widht does not exist (did you mean 'width'?)",
        "steps is 1.5, which is not int",
        "trian does not exist (did you mean 'train'?)",
    ]
    assert fault("maskdiff", "train.stps=5", "seed=x", "optim=Adam").split("; ") == [
        "train.stps does not exist (did you mean 'steps'?)",
        "seed is 'x', which is not int",
        "optim is 'Adam', which is not AdamW or ScheduleFree (did you mean 'AdamW'?)",
    ]
    assert fault(f"{mine}:mine", "scale=big") == "scale is 'big', which is not float or None"


def test_a_missing_argument_is_named_beside_those_there_are(mine: Path) -> None:
    wanted = f"{mine}:bare: missing a required argument: 'data'; its arguments are data"
    assert fault(f"{mine}:bare", "seed=4") == wanted


def test_what_a_recipe_itself_refuses_is_passed_on() -> None:
    assert "Train.steps is 0; it must be at least 1" in fault("maskdiff", "train.steps=0")
    assert "Batches: size is 0; at least 1 is needed" in fault("maskdiff", "batch=0")


def test_the_classes_of_a_file_are_its_own_dataclasses_each_once_and_no_values(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom multiplet.recipe import Train\n\n"
        "@dataclass(frozen=True)\nclass Mine:\n    a: int = 1\n\nAlias, VALUE, SHORT = Mine, Mine(2), Train(5)\n"
    )
    assert [kind.__name__ for kind in find_classes(file)] == ["Mine"]
