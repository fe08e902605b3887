"""Columns: events as flat columns, what every format and simulator yields and an event file holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from multiplet.errors import DataError

DTYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
IDENTITY = "event_id"  # the column that names an event: kept beside predictions, never a feature
ORIGIN = ("source_file", "source_entry")  # the columns that say which event of which file it was, likewise
EVENT_NAMES = (IDENTITY, *ORIGIN)  # all that say which event it is, and nothing of what was measured


@dataclass(frozen=True)
class Column:
    """What one column means; written into the event file beside the values."""

    name: str
    unit: str = ""
    level: Literal["point", "event"] = "point"
    truth: bool = False  # simulated or labelled: never an input
    dtype: str = "float32"  # one of DTYPES
    classes: tuple[str, ...] = ()  # for labels: the name of code 0, 1, …
    about: str = ""


@dataclass(frozen=True, eq=False)
class Columns:
    """Events in flat columns: point columns of length offsets[-1], event columns of length len(offsets) - 1.

    Raises DataError, listing every fault at once, if lengths, types or names do not agree with the schema.
    """

    schema: tuple[Column, ...]
    offsets: np.ndarray  # (events + 1,) int64, starts at 0, never falls
    values: dict[str, np.ndarray] = field(repr=False)

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise DataError("these columns do not hold together: " + "; ".join(faults))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def _faults(self) -> Iterator[str]:
        offsets = self.offsets
        if getattr(offsets, "dtype", None) != np.int64 or offsets.ndim != 1 or len(offsets) < 1 or offsets[0] != 0:
            yield "offsets must be an int64 array, one-dimensional and starting at 0"
            return
        falls = np.flatnonzero(np.diff(offsets) < 0)
        if len(falls):
            yield f"offsets fall at event {falls[0]}"
        names = [column.name for column in self.schema]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            yield f"columns named twice: {repeated}"
        if set(names) != set(self.values):
            yield f"schema and values differ in {sorted(set(names) ^ set(self.values))}"
            return
        for column in self.schema:
            yield from _column_faults(column, self.values[column.name], int(offsets[-1]), len(self))

    def take(self, indices: np.ndarray) -> Columns:
        """The events at these positions, in this order; DataError for a position that there is not."""
        indices = np.asarray(indices)
        if len(indices) and (indices.dtype.kind not in "iu" or indices.min() < 0 or indices.max() >= len(self)):
            raise DataError(f"positions are integers from 0 to {len(self) - 1}; not {indices}")
        indices = indices.astype(np.int64)
        offsets, points = gather(self.offsets, indices)
        at = {"point": points, "event": indices}
        return Columns(self.schema, offsets, {c.name: self.values[c.name][at[c.level]] for c in self.schema})


def count_offsets(counts: np.ndarray) -> np.ndarray:
    """Offsets of events with so many points each: (events + 1,) int64."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def gather(offsets: np.ndarray, events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of the points of these events, in this order, and where each of them lies among all points."""
    starts, counts = offsets[events], np.diff(offsets)[events]
    own = count_offsets(counts)
    return own, np.arange(own[-1]) + np.repeat(starts - own[:-1], counts)


def _column_faults(column: Column, value: np.ndarray, points: int, events: int) -> Iterator[str]:
    if column.level not in ("point", "event"):
        yield f"{column.name} has level {column.level!r}: it is 'point' or 'event'"
    length = points if column.level == "point" else events
    if column.dtype not in DTYPES:
        yield f"{column.name} is {column.dtype} in the schema: columns hold one of {', '.join(DTYPES)} (flags: int8)"
    elif not isinstance(value, np.ndarray) or value.dtype != column.dtype:
        yield f"{column.name} is {getattr(value, 'dtype', type(value))} where the schema says {column.dtype}"
    elif value.shape != (length,):
        yield f"{column.name} has shape {value.shape} where ({length},) is needed"


def concatenate(parts: Sequence[Columns]) -> Columns:
    """Events of all parts in a row; raises DataError where their schemas differ."""
    if not parts:
        raise DataError("nothing to concatenate: no part was given")
    schema = parts[0].schema
    for number, part in enumerate(parts):
        if part.schema != schema:
            raise DataError(f"part {number} has another schema than part 0: convert both with the same settings")
    offsets = count_offsets(np.concatenate([np.diff(part.offsets) for part in parts]))
    values = {column.name: np.concatenate([part.values[column.name] for part in parts]) for column in schema}
    return Columns(schema, offsets, values)
