"""Columns: events as flat columns, what every format and simulator yields and an event file holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from multiplet.errors import DataError


@dataclass(frozen=True)
class Column:
    """What one column means; written into the event file beside the values."""

    name: str
    unit: str = ""
    level: Literal["point", "event"] = "point"
    truth: bool = False  # simulated or labelled: never an input
    dtype: str = "float32"
    classes: tuple[str, ...] = ()  # for labels: the name of code 0, 1, …
    about: str = ""


@dataclass(frozen=True)
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

    def _faults(self) -> Iterable[str]:
        if self.offsets.dtype != np.int64 or self.offsets.ndim != 1 or len(self.offsets) < 1 or self.offsets[0] != 0:
            yield "offsets must be int64, one-dimensional and start at 0"
            return
        if np.any(np.diff(self.offsets) < 0):
            yield f"offsets fall after event {int(np.argmax(np.diff(self.offsets) < 0))}"
        names = [column.name for column in self.schema]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            yield f"columns named twice: {repeated}"
        if set(names) != set(self.values):
            yield f"schema and values differ in {sorted(set(names) ^ set(self.values))}"
            return
        for column in self.schema:
            value = self.values[column.name]
            if np.dtype(column.dtype).kind not in "iuf":
                yield f"{column.name} is {column.dtype}: columns hold integers or floats (int8 for flags)"
            length = int(self.offsets[-1]) if column.level == "point" else len(self)
            if value.shape != (length,):
                yield f"{column.name} has shape {value.shape} where ({length},) is needed"
            if value.dtype != np.dtype(column.dtype):
                yield f"{column.name} is {value.dtype} where the schema says {column.dtype}"

    def take(self, indices: np.ndarray) -> Columns:
        """The events at these positions, in this order."""
        starts, counts = self.offsets[indices], np.diff(self.offsets)[indices]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        points = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)
        at = {"point": points, "event": np.asarray(indices)}
        return Columns(self.schema, offsets, {c.name: self.values[c.name][at[c.level]] for c in self.schema})


def concatenate(parts: Sequence[Columns]) -> Columns:
    """Events of all parts in a row; raises DataError where their schemas differ."""
    if not parts:
        raise DataError("nothing to concatenate: no part was given")
    schema = parts[0].schema
    for number, part in enumerate(parts):
        if part.schema != schema:
            raise DataError(f"part {number} has another schema than part 0: convert both with the same settings")
    starts = np.cumsum([0] + [part.offsets[-1] for part in parts])
    offsets = np.concatenate([[0]] + [part.offsets[1:] + start for part, start in zip(parts, starts, strict=False)])
    values = {column.name: np.concatenate([part.values[column.name] for part in parts]) for column in schema}
    return Columns(schema, offsets.astype(np.int64), values)
