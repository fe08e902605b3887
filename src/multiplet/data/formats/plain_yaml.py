"""Plain YAML: maps, lists, texts and numbers, without tags and aliases; every message names the key."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from multiplet.errors import DataError
from multiplet.spec import did_you_mean

_LARGEST = 1 << 20  # bytes
_DEEPEST = 20


def load(path: Path) -> dict[str, Any]:
    """The map in a file; DataError where it is another thing, and for tags, anchors and keys that stand twice."""
    content = path.read_bytes()
    if len(content) > _LARGEST:
        raise DataError(f"it has {len(content)} bytes; {_LARGEST} are allowed")
    try:
        depth = 0
        for event in yaml.parse(content, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            strange = (
                getattr(event, "tag", None) or getattr(event, "anchor", None)  # an alias has an anchor too
            )
            if strange or depth > _DEEPEST:
                what = "tags (!) and anchors (&, *) have no meaning here" if strange else "it is nested too deeply"
                raise DataError(f"line {event.start_mark.line + 1}: {what}")
        _repeated(yaml.compose(content, Loader=yaml.SafeLoader))
        given = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        if isinstance(error, yaml.reader.ReaderError):  # whose text is of bytes
            raise DataError("it is no YAML and no text at all: the mapping comes first, and then the files") from None
        raise DataError(f"it is no YAML: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(given, dict):
        raise DataError("it is no mapping: `key: value` lines are needed, the first of them points")
    return given


def _repeated(node: Any) -> None:
    """DataError where a key stands twice: YAML would take the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(getattr(key, "value", key))
            if name in seen:
                raise DataError(f"line {key.start_mark.line + 1}: the key {name!r} stands there twice")
            seen.add(name)
            _repeated(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _repeated(value)


def named(value: Any, where: str) -> dict[str, Any]:
    """A map whose keys are texts."""
    if not isinstance(value, dict):
        raise DataError(f"{where} is {_short(value)} where `name: value` pairs are needed")
    if strange := [key for key in value if not isinstance(key, str)]:
        raise DataError(f"{where} has the key {_short(strange[0])}, which is no text: put it in quotes")
    return value


def keyed(value: Any, where: str, allowed: Collection[str], required: Collection[str] = ()) -> dict[str, Any]:
    """A map with these keys; DataError for all others, with a near one, and for those that are missing."""
    at = f"{where}." if where else ""
    faults = [f"{at}{key}: {did_you_mean(key, allowed)}" for key in named(value, where or "it") if key not in allowed]
    lacking = [f"{at}{key} is missing" for key in required if key not in value]
    if faults or lacking:
        raise DataError("; ".join([*(f"there is no key {fault}" for fault in faults), *lacking]))
    return value


def items(value: Any, where: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise DataError(f"{where} is {_short(value)} where a list [a, b] is needed")
    return value


def text(value: Any, where: str) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise DataError(f"{where} is {_short(value)} where a text is needed: put it in quotes")
    return value


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"
