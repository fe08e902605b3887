"""Record: recipe.json of a run folder, which says what the run is; written by this version, read from all before it."""

from __future__ import annotations

import platform
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from multiplet.data.columns import Column
from multiplet.errors import RecipeError, RunError
from multiplet.files import read_json
from multiplet.spec import from_dict, to_dict

FORMAT = 1


def record(recipe: Any, name: str, command: str, schema: tuple[Column, ...], data: str) -> dict[str, Any]:
    """What recipe.json holds; `data` is the fingerprint of the events."""
    return {
        "format": FORMAT,
        "name": name,
        "command": command,
        "recipe": to_dict(recipe),
        "schema": [to_dict(column) for column in schema],
        "data": data,
        "versions": {"multiplet": version("multiplet"), "torch": version("torch"), "python": platform.python_version()},
    }


def read_record(path: Path) -> dict[str, Any]:
    """What the recipe.json of a run folder holds; RunError where it is none, or of a format that is not known."""
    file = path / "recipe.json"
    if not file.is_file():
        raise RunError(f"{path} is not a run folder: it has no recipe.json; name a folder that `multiplet train` wrote")
    raw = read_json(file)
    number = raw.get("format") if isinstance(raw, dict) else None
    if type(number) is int and number > FORMAT:
        raise RunError(
            f"{file} has format {number} and this version of multiplet reads up to {FORMAT}: the run was written by a "
            f"newer version (it says: {raw.get('versions')}); install that one"
        )
    parts = {"recipe": dict, "schema": list, "name": str, "data": str, "versions": dict}
    if type(number) is not int or number < 1 or not all(isinstance(raw.get(key), kind) for key, kind in parts.items()):
        raise RunError(f"{file} is not a recipe of format {FORMAT}: it was damaged or written by hand")
    return raw


def as_of_now(stored: Any, like: Any) -> Any:
    """A stored recipe, or a part of one, as this version writes it: fields that did not exist yet have their defaults.

    `like` is the one of now: it says of what type it is, and brings classes of the user's own. What does not parse,
    stays as it is, to be compared by its text.
    """
    try:
        return to_dict(from_dict(type(like), stored, _kinds(like)))
    except RecipeError:
        return stored


def _kinds(value: Any) -> list[type]:
    """The classes of a recipe's parts."""
    if isinstance(value, tuple):
        return list(dict.fromkeys(kind for item in value for kind in _kinds(item)))
    if not is_dataclass(value):
        return []
    below = tuple(getattr(value, part.name) for part in fields(value))
    return list(dict.fromkeys([type(value), *_kinds(below)]))
