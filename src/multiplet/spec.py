"""Frozen dataclasses as recipes: to plain dictionaries and back, and changed by `a.b=1`.

Classes come from the annotated type of a field, or from the classes a caller passes as `known`; never from a path or
a name looked up elsewhere, so reading a recipe executes nothing that the reader did not already import.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, TypeVar, Union

from multiplet.errors import RecipeError

T = TypeVar("T")
KIND = "is"  # the key that holds a dataclass's name


def to_dict(value: Any) -> Any:
    """A recipe, or a part of one, as JSON-ready dictionaries; RecipeError for a value JSON cannot hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: to_dict(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {KIND: type(value).__name__, **fields}
    if isinstance(value, tuple | list):
        return [to_dict(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): to_dict(item) for key, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise RecipeError(f"a recipe holds numbers, strings, tuples, maps and dataclasses; not {type(value).__name__}")


def from_dict(kind: type[T], value: Any, known: Sequence[type] = ()) -> T:
    """The recipe a dictionary describes; RecipeError names every field that is unknown, missing or of a wrong type."""
    faults: list[str] = []
    result = _read(kind, value, kind.__name__, tuple(known), faults)
    if faults:
        raise RecipeError("; ".join(faults))
    return result


def override(recipe: T, changes: Mapping[str, str], known: Sequence[type] = ()) -> T:
    """A copy with fields changed, as `{"train.steps": "100"}`; RecipeError names each unknown field and a near one."""
    faults: list[str] = []
    for path, text in changes.items():
        try:
            recipe = _set(recipe, path.split("."), text, path, tuple(known))
        except RecipeError as error:
            faults.append(str(error))
    if faults:
        raise RecipeError("; ".join(faults))
    return recipe


def differences(first: Any, second: Any, path: str = "") -> list[str]:
    """Where two dictionaries of `to_dict` differ, a line each."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = list(dict.fromkeys([*first, *second]))
        return [
            line
            for key in keys
            for line in differences(first.get(key), second.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if first == second else [f"{path}: {first!r} → {second!r}"]


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """A hint for a message: the nearest allowed name, or all of them."""
    names = list(allowed)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(sorted(names)) or 'nothing'}"


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _options(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the one type."""
    if isinstance(annotation, typing.TypeAliasType) if hasattr(typing, "TypeAliasType") else False:
        annotation = annotation.__value__
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return tuple(option for part in typing.get_args(annotation) for option in _options(part))
    return (annotation,)


def _classes(annotation: Any, known: tuple[type, ...]) -> dict[str, type]:
    found = [option for option in _options(annotation) if dataclasses.is_dataclass(option)]
    return {kind.__name__: kind for kind in (*known, *found)}  # type: ignore[union-attr,misc]


def _read(annotation: Any, value: Any, path: str, known: tuple[type, ...], faults: list[str]) -> Any:
    """One value as its annotated type; what does not fit is added to `faults`."""
    if isinstance(value, dict) and KIND in value:
        return _read_dataclass(annotation, value, path, known, faults)
    for option in _options(annotation):
        fits, result = _fit(option, value, path, known, faults)
        if fits:
            return result
    faults.append(f"{path} is {value!r}, which is not {_describe(annotation)}")
    return None


def _read_dataclass(annotation: Any, value: dict, path: str, known: tuple[type, ...], faults: list[str]) -> Any:
    classes = _classes(annotation, known)
    if value[KIND] not in classes:
        hint = did_you_mean(str(value[KIND]), classes)
        faults.append(
            f"{path} is a {value[KIND]!r}, which is not known here ({hint}); pass your own classes as known=[…]"
        )
        return None
    kind, before = classes[value[KIND]], len(faults)
    hints, names = _hints(kind), [field.name for field in dataclasses.fields(kind) if field.init]
    for key in value.keys() - {KIND, *names}:
        faults.append(f"{path}.{key} does not exist ({did_you_mean(key, names)})")
    fields = {name: _read(hints[name], value[name], f"{path}.{name}", known, faults) for name in names if name in value}
    if len(faults) > before:
        return None
    try:
        return kind(**fields)
    except (RecipeError, TypeError) as error:
        faults.append(f"{path}: {error}")
        return None


def _fit(option: Any, value: Any, path: str, known: tuple[type, ...], faults: list[str]) -> tuple[bool, Any]:
    """Whether a plain value fits one type, and the value as that type."""
    origin, arguments = typing.get_origin(option), typing.get_args(option)
    if option is Any:
        return True, value
    if option is type(None):
        return value is None, None
    if origin is Literal:
        return value in arguments, value
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [arguments[0]] * len(value) if arguments[-1:] == (Ellipsis,) else list(arguments)
        items = [
            _read(kind, item, f"{path}[{n}]", known, faults)
            for n, (kind, item) in enumerate(zip(kinds, value, strict=False))
        ]
        return len(kinds) == len(value), tuple(items)
    if origin in (dict, Mapping) or origin is getattr(typing, "Mapping", None):
        return isinstance(value, dict), {
            k: _read(arguments[1], v, f"{path}.{k}", known, faults) for k, v in value.items()
        } if isinstance(value, dict) else None
    if option is float:
        return isinstance(value, int | float) and not isinstance(value, bool), float(value) if isinstance(
            value, int | float
        ) else None
    if option is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    return isinstance(option, type) and option in (bool, str) and isinstance(value, option), value


def _describe(annotation: Any) -> str:
    return " or ".join(getattr(option, "__name__", str(option)) for option in _options(annotation))


def _set(value: Any, path: list[str], text: str, whole: str, known: tuple[type, ...]) -> Any:
    """A copy of a dataclass with the field at `path` read from text."""
    name, rest = path[0], path[1:]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise RecipeError(f"{whole} does not exist: {type(value).__name__} has no parts")
    names = [field.name for field in dataclasses.fields(value)]
    if name not in names:
        raise RecipeError(f"{whole} does not exist ({did_you_mean(name, names)})")
    if rest:
        return dataclasses.replace(value, **{name: _set(getattr(value, name), rest, text, whole, known)})
    return dataclasses.replace(value, **{name: parse(_hints(type(value))[name], text, whole, known)})


def parse(annotation: Any, text: str, name: str, known: Sequence[type] = ()) -> Any:
    """Text from a command line as an annotated type: JSON, a bare word, or the name of a class with its defaults."""
    classes = _classes(annotation, tuple(known))
    if text in classes:
        return classes[text]()
    try:
        value = {"none": None, "None": None, "True": True, "False": False}[text] if text in _WORDS else json.loads(text)
    except ValueError:
        value = text
    faults: list[str] = []
    if isinstance(value, int | float) and not isinstance(value, bool) and str in _options(annotation):
        value = text
    result = _read(annotation, value, name, tuple(known), faults)
    if faults:
        hint = f" ({did_you_mean(text, classes)})" if classes else ""
        raise RecipeError("; ".join(faults) + hint)
    return result


_WORDS = ("none", "None", "True", "False")
