"""Journal: what a folder under conversion and a finished one say of themselves, and whether it is the same conversion.

Under conversion there is `.converting`, with a place to go on from; at the end `convert.json`, with the cut flow and
the files. Both begin with the settings and the sources. Neither holds a time, a host or an absolute path.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multiplet.data.arrow import EventFile
from multiplet.data.events import SPLITS, Split
from multiplet.data.formats.sources import present, reading
from multiplet.data.turns import Place
from multiplet.errors import CorruptError, DataError
from multiplet.files import read_json, sha256

RECORD, JOURNAL = "convert.json", ".converting"


@dataclass(frozen=True)
class Mark:
    """A place among the events read, and how many of those before it went to each split."""

    place: Place
    seen: dict[Split, int]

    @staticmethod
    def read(held: dict[str, Any]) -> Mark:
        """From the JSON of `asdict`; CorruptError where it is not."""
        try:
            place = held["place"]
            handed = tuple((number, events) for number, events in place["open"])
            finished = {int(number): cuts for number, cuts in place["finished"].items()}
            return Mark(Place(place["events"], place["started"], handed, finished), held["seen"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptError("the record of a conversion that was stopped is damaged: remove its folder") from error


def name_sources(sources: Sequence[Path]) -> dict[str, Path]:
    """The sources by name, sorted: their paths from the innermost folder that holds them all."""
    paths = sorted(Path(os.path.abspath(source)) for source in sources)
    for path, following in zip(paths, [*paths[1:], None], strict=True):
        present(path)
        if path == following:
            raise DataError(f"{path} is given twice: its events would be in two splits")
    folder = os.path.commonpath([path.parent for path in paths])
    return {path.relative_to(folder).as_posix(): path for path in paths}


def hash_sources(paths: Mapping[str, Path], splits: Mapping[str, Split] | None = None) -> list[dict[str, str]]:
    """Name and SHA-256 of each source, and its split where they are given; DataError where two hold the same bytes."""
    seen: dict[str, str] = {}
    for name, path in paths.items():
        with reading(path, "its bytes"):
            digest = sha256(path)
        if digest in seen:
            raise DataError(f"{path} holds the same bytes as {seen[digest]}: their events would be in two splits")
        seen[digest] = name
    return [
        {"name": name, "sha256": digest} | ({"split": splits[name]} if splits else {}) for digest, name in seen.items()
    ]


def begun(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The record or journal of an earlier call, None where there is none; DataError where it is of another conversion.

    A journal of another one is nothing to keep while no event file has been written.
    """
    if not path.is_file():
        return None
    held = read_json(path)
    if not isinstance(held, dict) or not {*settings, "files"} <= held.keys():
        raise DataError(f"{path} is not of this version of convert: choose another folder, or remove {path.parent}")
    if not (differ := _differences(held, settings)):
        return held
    if not event_files(path.parent):
        return None
    raise DataError(
        f"{path.parent} holds another conversion ({'; '.join(differ[:5])}): choose another folder, or remove this one"
    )


def _differences(held: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """What another conversion had otherwise, in words."""
    was, now = (
        {f"format {key}" if key != "format" else key: value for key, value in each["format"].items()}
        | {key: each[key] for key in ("revision", "fractions", "shard_events")}
        for each in (held, settings)
    )
    found = [f"{key} was {was.get(key)!r}, is {now.get(key)!r}" for key in was | now if was.get(key) != now.get(key)]
    old, new = (
        {source["name"]: (source["sha256"], source.get("split")) for source in each["sources"]}
        for each in (held, settings)
    )
    return [
        *found,
        *(f"{name} is new" for name in new if name not in old),
        *(f"{name} is left out" for name in old if name not in new),
        *(f"{name} has changed" for name in new if name in old and old[name][0] != new[name][0]),
        *(
            f"{name} was for {old[name][1]}, is for {split}"
            for name, (_, split) in new.items()
            if split and name in old and old[name][1] not in (None, split)
        ),
    ]


def event_files(out: Path) -> list[Path]:
    """The event files of a folder, split by split."""
    return [path for split in SPLITS for path in sorted((out / split).glob("*.arrow"))]


def events_held(out: Path) -> dict[str, int]:
    """The events of each event file, as its own checked bytes say."""
    return {
        path.relative_to(out).as_posix(): sum(len(lengths) for lengths in EventFile(path).lengths)
        for path in event_files(out)
    }


def sweep(out: Path) -> None:
    """Remove what only an unfinished conversion needs, and what a kill left half-written."""
    for path in [out / JOURNAL, *(path for split in (".", *SPLITS) for path in (out / split).glob(".*.tmp"))]:
        path.unlink(missing_ok=True)
