"""Find a recipe by name and set its arguments and fields from `key=value` text."""

from __future__ import annotations

import importlib.util
import inspect
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from multiplet import recipes
from multiplet.errors import RecipeError
from multiplet.recipe import Recipe
from multiplet.spec import did_you_mean, override, parse


def make_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """The recipe `name` (or path.py:function) with `argument=value` of the function and `field.path=value` of it.

    Raises RecipeError for an unknown recipe, argument or field, with the nearest one there is.
    """
    function = find(name)
    pairs = [change.partition("=") for change in changes]
    if bad := [key for key, equals, _ in pairs if not equals]:
        raise RecipeError(f"{bad} are not of the form key=value")
    given = {key: value for key, _, value in pairs}
    names = inspect.signature(function).parameters
    hints = typing.get_type_hints(function)
    arguments = {key: parse(hints[key], value, key) for key, value in given.items() if key in names}
    fields = {key: value for key, value in given.items() if key not in names}
    try:
        recipe = function(**arguments)
    except TypeError as error:
        raise RecipeError(f"{name}: {error}; its arguments are {', '.join(names)}") from error
    top = [field for field in fields if "." not in field and field not in Recipe.__dataclass_fields__]
    if top:
        hints_for = [*names, *Recipe.__dataclass_fields__]
        raise RecipeError("; ".join(f"{key} does not exist ({did_you_mean(key, hints_for)})" for key in top))
    return override(recipe, fields)


def find(name: str) -> Callable[..., Recipe]:
    """The recipe function called so, of this package or, as path.py:function, of a file of yours."""
    path, colon, function = name.rpartition(":")
    module: ModuleType = _load(Path(path)) if colon else recipes
    names = (
        [n for n in dir(module) if not n.startswith("_") and inspect.isfunction(getattr(module, n))]
        if colon
        else recipes.__all__
    )
    if function not in names:
        raise RecipeError(
            f"there is no recipe {function!r} in {path or 'this package'} ({did_you_mean(function, names)})"
        )
    return getattr(module, function)


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise RecipeError(f"{path} is not a Python file: recipes of your own are named path.py:function")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
