"""Find a recipe by name and set its arguments and fields from `key=value` text."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from multiplet import recipes
from multiplet.errors import RecipeError
from multiplet.recipe import Recipe
from multiplet.spec import did_you_mean, override, parse


def make_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """The recipe `name` (or path.py:function) with `argument=value` of the function and `field.path=value` of it.

    Raises RecipeError for unknown recipes, arguments and fields, each with the nearest one there is.
    """
    study = f"{name} is a study of many recipes, not one: `multiplet study {name} …` trains them"
    if name in recipes.STUDIES:  # it may ask for what only `study` tells
        raise RecipeError(study)
    made, below = _call(name, changes)
    if isinstance(made, dict):
        raise RecipeError(study)
    if not isinstance(made, Recipe):
        raise RecipeError(f"{name} gives a {type(made).__name__}, not a Recipe")
    return override(made, below)


def make_study(name: str, out: Path, changes: Sequence[str] = ()) -> dict[str, dict[str, Recipe]]:
    """The recipes of a study: title of a question → name of a cell → recipe; fields are set in all.

    A function of a study gives recipes by name, or those of each question by its title. One that asks for `out` is told
    where its runs are, so that cells can carry what others have learned. Raises RecipeError as `make_recipe`.
    """
    made, below = _call(name, changes, {"out": str(out)})
    several = isinstance(made, dict) and all(isinstance(one, dict) for one in made.values())
    questions = made if several else {"": made}
    for question in questions.values():
        if not isinstance(question, dict) or not all(isinstance(recipe, Recipe) for recipe in question.values()):
            raise RecipeError(f"{name} is no study: it gives a {type(made).__name__}, not recipes by name")
    return {
        title: {cell: override(recipe, below) for cell, recipe in question.items()}
        for title, question in questions.items()
    }


def _call(name: str, changes: Sequence[str], known: Mapping[str, str] | None = None) -> tuple[Any, dict[str, str]]:
    """What the function gives, and the fields to be changed in it; `known` are arguments that it gets if it asks."""
    function = find(name)
    given = _pairs(changes)
    signature, hints = inspect.signature(function), typing.get_type_hints(function)
    parts = [field.name for field in fields(Recipe)]
    arguments: dict[str, Any] = {key: value for key, value in (known or {}).items() if key in signature.parameters}
    below, faults = {}, []
    for key, text in given.items():
        if key in signature.parameters:
            try:
                arguments[key] = parse(hints.get(key, Any), text, key)
            except RecipeError as error:
                faults.append(str(error))
        elif (head := key.split(".")[0]) in parts:
            below[key] = text
        else:
            faults.append(f"{head} does not exist ({did_you_mean(head, [*signature.parameters, *parts])})")
    if not faults:
        try:
            signature.bind(**arguments)
        except TypeError as error:
            faults.append(f"{name}: {error}; its arguments are {', '.join(signature.parameters)}")
    if faults:
        raise RecipeError("; ".join(faults))
    return function(**arguments), below


def _pairs(changes: Sequence[str]) -> dict[str, str]:
    """Keys and texts; RecipeError for what is not key=value, and for a key given twice."""
    pairs = [change.partition("=") for change in changes]
    keys = [key for key, _, _ in pairs]
    faults = [
        f"{key + equals!r} is " + ("no option, and " if key.startswith("-") else "") + "not of the form key=value"
        for key, equals, _ in pairs
        if not (key and equals)
    ]
    faults += [f"{key} is given {keys.count(key)} times" for key in dict.fromkeys(keys) if keys.count(key) > 1]
    if faults:
        raise RecipeError("; ".join(faults))
    return {key: text for key, _, text in pairs}


def find(name: str) -> Callable[..., Recipe | dict[str, Recipe] | dict[str, dict[str, Recipe]]]:
    """The recipe function called so, of this package or, as path.py:function, of a file of yours."""
    path, colon, function = name.rpartition(":")
    module = _load(Path(path)) if colon else recipes
    names = _functions(module) if colon else [*recipes.__all__, *recipes.STUDIES]
    if function not in names:
        where = path if colon else "this package"
        raise RecipeError(f"there is no recipe {function!r} in {where} ({did_you_mean(function, names)})")
    return getattr(module, function)


def find_classes(path: Path | None) -> list[type]:
    """The dataclasses of a file of yours: what a run that names them needs to be opened; none without a file."""
    if path is None:
        return []
    module = _load(path)
    kinds = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__]
    return [kind for kind in dict.fromkeys(kinds) if is_dataclass(kind)]


def _functions(module: ModuleType) -> list[str]:
    return [name for name, _ in inspect.getmembers(module, inspect.isfunction) if not name.startswith("_")]


def _load(path: Path) -> ModuleType:
    """A Python file as a module of a name that no other module can have."""
    name = f"recipes in {path.resolve()}"
    spec = importlib.util.spec_from_file_location(name, path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise RecipeError(f"{path} is not a Python file: a recipe of your own is named path.py:function")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for the types of their fields
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
