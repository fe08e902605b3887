"""Grouping: rows that are points as events: those that follow one another with equal values in some columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from multiplet.data.columns import count_offsets
from multiplet.data.formats.fields import Jagged
from multiplet.errors import DataError


def grouped(source: Path, chunks: Iterable[Mapping[str, Jagged]], group: Sequence[str]) -> Iterator[dict[str, Jagged]]:
    """Whole events in the file's order: the columns of `group` as numbers of them, all others as lists of their rows.

    An event that goes on in the next chunk of rows comes as one. Raises DataError for columns that have a list in each
    row, for a group that is not finite, and for an event that comes again after others.
    """
    seen = _Seen(source, group)
    rows: dict[str, np.ndarray] = {}
    for chunk in chunks:
        if lists := [name for name, one in chunk.items() if one.offsets is not None]:
            raise DataError(f"{source}: {lists[0]} is a list in each row: with group, a row is one point")
        rows = {name: np.concatenate([rows[name], one.values]) if rows else one.values for name, one in chunk.items()}
        starts = _starts(rows, group)
        if len(starts) > 1:  # the last of them may go on
            yield seen.events(rows, starts)
            rows = {name: values[starts[-1] :] for name, values in rows.items()}
    count = len(rows[group[0]])
    last = seen.events(rows, np.unique([0, count]))
    seen.look()
    yield last


def agreed(value: Jagged) -> tuple[np.ndarray, np.ndarray]:
    """The first value of each event, and which events have others too, both (events,); no event may be empty."""
    assert value.offsets is not None
    starts, counts = value.offsets[:-1], np.diff(value.offsets)
    own = np.repeat(value.values[starts], counts)
    differs = (value.values != own) & ((value.values == value.values) | (own == own))  # NaN agrees with NaN
    return value.values[starts], np.diff(count_offsets(differs)[value.offsets]) > 0


def _starts(rows: Mapping[str, np.ndarray], group: Sequence[str]) -> np.ndarray:
    """Where an event begins."""
    begins = np.ones(len(rows[group[0]]), bool)
    begins[1:] = np.any([rows[name][1:] != rows[name][:-1] for name in group], axis=0)
    return np.flatnonzero(begins)


class _Seen:
    """The events so far; looked through for one that came twice whenever they have doubled, and at the end."""

    def __init__(self, source: Path, group: Sequence[str]) -> None:
        self.source, self.group = source, group
        self._rows = self._events = self._looked = 0
        self._parts: list[tuple[np.ndarray, ...]] = []  # the first row of each event, and its group

    def events(self, rows: Mapping[str, np.ndarray], edges: np.ndarray) -> dict[str, Jagged]:
        """The events between these edges, of rows that follow those seen."""
        starts = edges[:-1]
        keys = {name: rows[name][starts] for name in self.group}
        for name, key in keys.items():
            if (bad := ~np.isfinite(key)).any():
                row = self._rows + starts[np.argmax(bad)]
                raise DataError(f"{self.source}: {name} of row {row} is not finite: which event is it of?")
        self._parts.append((self._rows + starts, *keys.values()))
        self._rows, self._events = self._rows + int(edges[-1]), self._events + len(starts)
        if self._events >= 2 * self._looked:
            self.look()
        offsets = edges.astype(np.int64)
        found = {name: Jagged(values[: edges[-1]], offsets) for name, values in rows.items()}
        return found | {name: Jagged(key) for name, key in keys.items()}

    def look(self) -> None:
        """DataError where two events have the same group."""
        rows, *keys = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        self._parts, self._looked = [(rows, *keys)], self._events
        order = np.lexsort(keys)  # stable: equal ones stay in the order of their rows
        again = np.flatnonzero(np.all([key[order][1:] == key[order][:-1] for key in keys], axis=0))
        if len(again):
            at = again[np.argmin(rows[order[again + 1]])]
            one, other = order[at], order[at + 1]
            named = ", ".join(f"{name} {key[one]}" for name, key in zip(self.group, keys, strict=True))
            raise DataError(
                f"{self.source}: rows {rows[one]} and {rows[other]} both begin an event with {named}: sort the file so "
                "that the rows of an event are together, or add the column to group that tells the two apart"
            )
