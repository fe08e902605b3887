"""Linking: the columns of a file as those of events and their points: arrays taken apart, objects with their points."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from multiplet.data.columns import count_offsets, gather
from multiplet.data.formats.constituents import owner
from multiplet.data.formats.fields import Field, Jagged, same
from multiplet.data.formats.mapping import FileMapping
from multiplet.errors import DataError


@dataclass(frozen=True, eq=False)
class Batch:
    """Some events: flat columns by name, which row of the file each is from, and with `each` which object there."""

    source: Path
    columns: Mapping[str, Jagged]
    rows: np.ndarray  # (events,) int64
    objects: np.ndarray  # (events,) int64, 0 without `each`

    def take(self, kept: np.ndarray) -> Batch:
        """The events at these places."""
        columns = {name: take(one, kept) for name, one in self.columns.items()}
        return replace(self, columns=columns, rows=self.rows[kept], objects=self.objects[kept])

    def plus(self, name: str, column: Jagged) -> Batch:
        """With one more column."""
        return replace(self, columns={**self.columns, name: column})

    def only(self, real: Jagged, names: Collection[str]) -> Batch:
        """Without the points that are not `real` (a condition), in these columns where they are of those points."""
        assert real.offsets is not None
        offsets = count_offsets(real.values)[real.offsets]
        columns = dict(self.columns)
        for name in columns.keys() & {*names}:
            one = columns[name]
            if one.offsets is not None and same(one.offsets, real.offsets):
                columns[name] = Jagged(one.values[real.values], offsets)
        return replace(self, columns=columns)


def take(column: Jagged, places: np.ndarray) -> Jagged:
    """A column of the events at these places, which may stand there several times."""
    if column.offsets is None:
        return Jagged(column.values[places], None)
    offsets, points = gather(column.offsets, places)
    return Jagged(column.values[points], offsets)


def file_columns(source: Path, fields: Mapping[str, Field], mapping: FileMapping) -> list[str]:
    """The columns to read: for the members of an array the array; DataError for a shape that `arrays` does not fit.

    A name that the file lacks comes along: reading reports it.
    """
    links = (mapping.link.object, mapping.link.point) if mapping.link else ()
    names = [name for name in mapping.needed(mapping.expressions()) if name not in mapping.define]
    names += [name for name in links if name is not None]
    names += mapping.group
    inside = {member: array for array, members in mapping.arrays.items() for member in members}
    wanted = list(dict.fromkeys(inside.get(name, name) for name in names))
    for name in wanted:
        known = fields.get(name)
        if known is None:
            continue
        width, members = known.width, mapping.arrays.get(name)
        if members is not None and (not width or width[-1] != len(members)):
            held = f"{width[-1]} numbers" if width else "no numbers"
            raise DataError(f"{source}: arrays.{name} names {len(members)}, and there are {held} on its last axis")
        axes = known.depth + len(width) - (members is not None)
        if axes > 1:
            shape = " × ".join(map(str, width))
            raise DataError(f"{source}: {name} is {shape} an entry: name what lies on its last axis with arrays.{name}")
    return wanted


def split_arrays(given: Mapping[str, Jagged], mapping: FileMapping) -> dict[str, Jagged]:
    """Columns with one number a value: arrays by the names of their members, slots of a fixed number as lists."""
    found: dict[str, Jagged] = {}
    for name, one in given.items():
        members = mapping.arrays.get(name)
        parts = {name: one.values}
        if members is not None:
            parts = {member: one.values[..., n] for n, member in enumerate(members)}
        offsets = one.offsets
        if offsets is None and next(iter(parts.values())).ndim == 2:
            offsets = np.arange(one.entries + 1, dtype=np.int64) * next(iter(parts.values())).shape[1]
        found |= {part: Jagged(np.ascontiguousarray(values).reshape(-1), offsets) for part, values in parts.items()}
    return found


def link(
    source: Path, first: int, columns: Mapping[str, Jagged], mapping: FileMapping, points: Collection[str]
) -> Batch:
    """Rows from number `first` on as events; with `each`, each object of a row with its points and all of the row.

    Columns of the collection `each` become numbers of events; those named in `points`, and those of the link's own
    collection, lists of the object's points; any other column goes with each object of its row as it is.
    """
    rows = next(iter(columns.values())).entries if columns else 0
    if mapping.each is None:
        return Batch(source, columns, first + np.arange(rows), np.zeros(rows, np.int64))
    own = {name: one for name, one in columns.items() if _belongs(name, mapping.each) and one.offsets is not None}
    offsets = next(iter(own.values())).offsets if own else None
    if offsets is None:
        raise DataError(f"no list that begins with {mapping.each}_ is used: each needs one to know how many there are")
    for name, one in own.items():
        _require_same(source, first, name, one, next(iter(own)), offsets)
    row = owner(offsets)
    objects = np.arange(len(row)) - offsets[row]
    pairs = _Pairs(source, first, columns, mapping, offsets)
    found: dict[str, Jagged] = {}
    for name, one in columns.items():
        if name in own:
            found[name] = Jagged(one.values, None)
        elif one.offsets is not None and (name in points or name in pairs.names):
            found[name] = pairs.points(name, one)
        else:
            found[name] = take(one, row)
    return Batch(source, found, first + row, objects)


class _Pairs:
    """Which points belong to which objects: pairs, those of one object beside one another, in the file's order."""

    def __init__(
        self, source: Path, first: int, columns: Mapping[str, Jagged], mapping: FileMapping, objects: np.ndarray
    ) -> None:
        assert mapping.link is not None
        self.source, self.first, self.link = source, first, mapping.link
        kind = _collection(mapping.link.object)
        self.names = {name for name in columns if mapping.link.point and _belongs(name, kind)}
        given = columns[mapping.link.object]
        if given.offsets is None:
            raise DataError(f"{source}: {mapping.link.object} is one number an entry where a list of numbers is needed")
        self.offsets = given.offsets
        self.rows = owner(given.offsets)
        index = self.whole(mapping.link.object, given)
        if (bad := index >= np.diff(objects)[self.rows]).any():
            self.refuse(mapping.link.object, index, bad, f"is no {mapping.each}: there are not so many")
        event = objects[self.rows] + index
        self.linked = np.flatnonzero(index >= 0)  # −1: of no object
        self.linked = self.linked[np.argsort(event[self.linked], kind="stable")]
        self.of_events = count_offsets(np.bincount(event[self.linked], minlength=objects[-1]))
        self.at = self.whole(mapping.link.point, columns[mapping.link.point]) if mapping.link.point else None

    def points(self, name: str, one: Jagged) -> Jagged:
        """A column of points, or of the pairs themselves, as lists of each object's."""
        assert one.offsets is not None
        if self.at is None or name in self.names:
            _require_same(self.source, self.first, name, one, self.link.object, self.offsets)
            return Jagged(one.values[self.linked], self.of_events)
        at, counts = self.at[self.linked], np.diff(one.offsets)[self.rows[self.linked]]
        if (bad := (at < 0) | (at >= counts)).any():
            everywhere = np.zeros(len(self.at), bool)
            everywhere[self.linked[bad]] = True
            self.refuse(str(self.link.point), self.at, everywhere, f"is no place in {name}: there are not so many")
        return Jagged(one.values[one.offsets[:-1][self.rows[self.linked]] + at], self.of_events)

    def whole(self, name: str, one: Jagged) -> np.ndarray:
        """Indices; DataError for numbers that are none, and for lists of other lengths than the link's."""
        if one.values.dtype.kind not in "iu" or one.offsets is None:
            raise DataError(f"{self.source}: {name} is {one.values.dtype} where a list of whole numbers is needed")
        _require_same(self.source, self.first, name, one, self.link.object, self.offsets)
        return one.values.astype(np.int64)

    def refuse(self, name: str, index: np.ndarray, bad: np.ndarray, what: str) -> None:
        place = int(np.argmax(bad))
        raise DataError(f"{self.source}: {name} of entry {self.first + self.rows[place]} {what} ({index[place]})")


def _require_same(source: Path, first: int, name: str, one: Jagged, other: str, offsets: np.ndarray) -> None:
    if one.offsets is None or not same(one.offsets, offsets):
        counts = np.diff(one.offsets) if one.offsets is not None else np.ones(len(offsets) - 1, int)
        entry = first + int(np.argmax(counts != np.diff(offsets)))
        raise DataError(f"{source}: {name} of entry {entry} has not as many values as {other}")


def _collection(name: str) -> str:
    """What a column's name begins with: FatJetPFCands of FatJetPFCands_jetIdx."""
    return name[: max(name.rfind("_"), name.rfind("."), 0)] or name


def _belongs(name: str, collection: str) -> bool:
    return name.startswith((f"{collection}_", f"{collection}."))
