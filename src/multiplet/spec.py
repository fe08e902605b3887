"""Frozen dataclasses as recipes: to plain dictionaries and back, and changed by `a.b=1`.

Classes come from the annotated type of a field, or from the classes a caller passes as `known`; never from a path or
a name looked up elsewhere, so reading a recipe executes nothing that the reader did not already import.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal, TypeVar, Union

from multiplet.errors import RecipeError

T = TypeVar("T")
KIND = "is"  # the key that holds a dataclass's name
_Read = tuple[Any, list[str]]  # a value, and its faults: where there are any, the value means nothing
_Known = dict[str, type]  # dataclasses by name
_Parts = dict[Any, tuple[Any, Any, str]]  # key → annotation, value and path
_WORDS = {"none": None, "None": None, "True": True, "False": False}  # beside JSON's null, true and false


def to_dict(value: Any) -> Any:
    """A recipe, or a part of one, as JSON-ready dictionaries; RecipeError for a value that cannot be read back."""
    return _plain(value, type(value).__name__)


def from_dict(kind: type[T], value: Any, known: Sequence[type] = ()) -> T:
    """The recipe a dictionary describes; RecipeError names every field that is unknown, missing or of a wrong type."""
    return _sound(_read(kind, value, kind.__name__, _named(known)))


def override(recipe: T, changes: Mapping[str, str], known: Sequence[type] = ()) -> T:
    """A copy with fields changed, as `{"train.steps": "100"}`; RecipeError names each unknown field and a near one.

    Their order does not matter: a part is replaced before it is changed, and checked when all of it is changed.
    """
    paths = {tuple(path.split(".")): text for path, text in changes.items()}
    return _sound(_changed(recipe, paths, "", _named(known)))


def parse(annotation: Any, text: str, name: str, known: Sequence[type] = ()) -> Any:
    """Text from a command line as an annotated type: JSON, a bare word, or the name of a class with its defaults."""
    return _sound(_parsed(annotation, text, name, _named(known)))


def differences(first: Any, second: Any, path: str = "") -> list[str]:
    """Where two results of `to_dict` differ, a line each; a missing field counts as None."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = dict.fromkeys([*first, *second])
        pairs = [(f"{path}.{key}" if path else key, first.get(key), second.get(key)) for key in keys]
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        pairs = [(f"{path}[{n}]", *pair) for n, pair in enumerate(zip(first, second, strict=True))]
    else:
        return [] if first == second else [f"{path}: {first!r} → {second!r}"]
    return [line for where, one, other in pairs for line in differences(one, other, where)]


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """A hint for a message: the nearest allowed name, or all of them."""
    names = sorted(allowed)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(names) or 'nothing'}"


def _sound(read: _Read) -> Any:
    value, faults = read
    if faults:
        raise RecipeError("; ".join(faults))
    return value


def _plain(value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {KIND: type(value).__name__, **{n: _plain(getattr(value, n), f"{path}.{n}") for n in _fields(value)}}
    if isinstance(value, tuple):
        return [_plain(item, f"{path}[{n}]") for n, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) and key != KIND for key in value):
        return {key: _plain(item, f"{path}.{key}") for key, item in value.items()}
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and _finite(value)):
        return value
    allowed = f"finite numbers, strings, tuples, dataclasses, and maps with any strings but {KIND!r} as keys"
    raise RecipeError(f"{path} is {_short(value)}: a recipe holds {allowed}")


def _read(annotation: Any, value: Any, path: str, known: _Known) -> _Read:
    """A plain value as its annotated type: of a union, the first member that it fits."""
    if isinstance(value, dict) and KIND in value:
        return _read_dataclass(annotation, value, path, known)
    nearest = [f"{path} is {_short(value)}, which is not {_describe(annotation)}"]
    for option in _options(annotation):
        if _is_one(option, value):
            return float(value) if option is float else value, []
        parts = _parts(option, value, path)
        if parts is not None:
            result, faults = _read_all(parts, known)
            if not faults:
                return tuple(result.values()) if isinstance(value, list | tuple) else result, []
            nearest = faults
    return None, nearest


def _is_one(option: Any, value: Any) -> bool:
    """Whether a plain value is of one simple type: True is no number, and an integer serves as a float."""
    if typing.get_origin(option) is Literal:
        return any(type(value) is type(one) and value == one for one in typing.get_args(option))
    if option is float:
        return type(value) in (int, float) and _finite(value)
    return option is Any or (option in (bool, int, str, type(None)) and type(value) is option)


def _parts(option: Any, value: Any, path: str) -> _Parts | None:
    """What a tuple or a map consists of; None where the value is neither, or of another length."""
    origin, arguments = typing.get_origin(option), typing.get_args(option)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = arguments[:1] * len(value) if arguments[1:] == (Ellipsis,) else arguments
        pairs = enumerate(zip(kinds, value, strict=False))
        return {n: (kind, item, f"{path}[{n}]") for n, (kind, item) in pairs} if len(kinds) == len(value) else None
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {key: (arguments[1], item, f"{path}.{key}") for key, item in value.items()}
    return None


def _read_all(parts: _Parts, known: _Known) -> tuple[dict[Any, Any], list[str]]:
    read = {key: _read(*part, known) for key, part in parts.items()}
    return {key: item for key, (item, _) in read.items()}, [fault for _, faults in read.values() for fault in faults]


def _read_dataclass(annotation: Any, value: dict[str, Any], path: str, known: _Known) -> _Read:
    classes, name = _classes(annotation, known), str(value[KIND])
    if name not in classes:
        hint = did_you_mean(name, classes)
        own = "pass your own classes as known=[…], or on the command line their file as --known FILE.py"
        return None, [f"{path} is a {name!r}, which is not known here ({hint}); {own}"]
    kind = classes[name]
    names, hints = _fields(kind), _hints(kind)
    faults = [f"{path}.{key} does not exist ({did_you_mean(key, names)})" for key in value if key not in (KIND, *names)]
    faults += [f"{path}.{name} is missing" for name, needed in names.items() if needed and name not in value]
    fields, wrong = _read_all({n: (hints[n], value[n], f"{path}.{n}") for n in names if n in value}, known)
    return _make(kind, fields, path, faults + wrong)


def _changed(value: Any, changes: Mapping[tuple[str, ...], str], path: str, known: _Known) -> _Read:
    """A copy of a dataclass with everything below it changed."""
    if not dataclasses.is_dataclass(value):
        return None, [f"{path}.{'.'.join(rest)} does not exist: {path} is {_short(value)}" for rest in changes]
    kind: type = type(value)
    names, hints = _fields(kind), _hints(kind)
    fields, faults = {name: getattr(value, name) for name in names}, []
    for name in dict.fromkeys(way[0] for way in changes):
        where = f"{path}.{name}" if path else name
        if name not in names:
            faults.append(f"{where} does not exist ({did_you_mean(name, names)})")
            continue
        below = {way[1:]: text for way, text in changes.items() if way[0] == name}
        wrong: list[str] = []
        if (whole := below.pop((), None)) is not None:
            fields[name], wrong = _parsed(hints[name], whole, where, known)
        if below and not wrong:
            fields[name], wrong = _changed(fields[name], below, where, known)
        faults += wrong
    return _make(kind, fields, path or kind.__name__, faults)


def _make(kind: type, fields: dict[str, Any], path: str, faults: list[str]) -> _Read:
    """A dataclass of these fields, unless something is wrong with them already; it may refuse them too."""
    if faults:
        return None, faults
    try:
        return kind(**fields), []
    except (ValueError, TypeError) as error:
        return None, [f"{path}: {error}"]


def _parsed(annotation: Any, text: str, path: str, known: _Known) -> _Read:
    classes = _classes(annotation, known)
    if text in classes:
        return _read_dataclass(annotation, {KIND: text}, path, known)
    read = [_read(annotation, value, path, known) for value in _meanings(text)]
    if sound := [value for value, faults in read if not faults]:
        return sound[0], []
    hint = f" ({did_you_mean(text, classes)})" if classes and not text.startswith(("{", "[")) else ""
    return None, [fault + hint for fault in read[0][1]]


def _meanings(text: str) -> Iterator[Any]:
    """What text on a command line may stand for: a word or JSON, else itself, or a list of such with commas."""
    if text in _WORDS:
        yield _WORDS[text]
    with contextlib.suppress(ValueError, RecursionError):
        yield json.loads(text)
    yield text
    if not text.startswith(("{", "[", '"')):
        yield [next(_meanings(part)) for part in text.removesuffix(",").split(",") if part] if text else []


def _named(known: Sequence[type]) -> _Known:
    named = {kind.__name__: kind for kind in known}
    if len(named) < len(set(known)) or not all(map(dataclasses.is_dataclass, known)):
        raise RecipeError(f"known takes dataclasses, each with a name of its own; not {', '.join(map(repr, known))}")
    return named


def _classes(annotation: Any, known: _Known) -> _Known:
    """The dataclasses that may stand where this is annotated."""
    options: Iterable[Any] = filter(dataclasses.is_dataclass, _options(annotation))
    return known | {option.__name__: option for option in options}


def _options(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the one type; a `type` statement stands for what it names."""
    annotation = getattr(annotation, "__value__", annotation)
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return tuple(option for part in typing.get_args(annotation) for option in _options(part))
    return (annotation,)


def _fields(value: Any) -> dict[str, bool]:
    """The fields that a dataclass is made from, and whether each must be given."""
    none = dataclasses.MISSING
    return {f.name: f.default is none and f.default_factory is none for f in dataclasses.fields(value) if f.init}


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _finite(value: float) -> bool:
    return abs(value) <= sys.float_info.max  # unlike math.isfinite, takes an integer of any size


def _describe(annotation: Any) -> str:
    """An annotation in the words of a message."""
    option, *others = _options(annotation)
    if others:
        return " or ".join(map(_describe, (option, *others)))
    if typing.get_origin(option) is Literal:
        return " or ".join(map(repr, typing.get_args(option)))
    return "None" if option is type(None) else option.__name__ if isinstance(option, type) else str(option)


def _short(value: Any) -> str:
    """A value in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
