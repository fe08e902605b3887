"""Pieces: the events of a file of any format, some at a time in memory, as datasets that a model can be applied to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from multiplet.cloud import Cloud
from multiplet.data.columns import Column, Columns, concatenate
from multiplet.data.events import Split
from multiplet.data.formats import Format

_EVENTS = 10_000  # events and
_POINTS = 2_000_000  # points in memory at a time, or what a format reads at a time where that is more


class Piece:
    """Consecutive events of a file in memory, as a dataset of one split; an event's index is its entry in the file."""

    def __init__(self, source: Path, columns: Columns, entries: np.ndarray) -> None:
        self.source, self.columns, self.entries = source, columns, entries
        self.schema = columns.schema

    def size(self, split: Split) -> int:
        """Events."""
        return len(self.columns)

    def lengths(self, split: Split) -> np.ndarray:
        """Points of each event, (events,)."""
        return np.diff(self.columns.offsets)

    def read(self, split: Split, indices: np.ndarray) -> Cloud:
        """The events at these places, padded to the longest."""
        part = self.columns.take(indices)
        counts = np.diff(part.offsets)
        mask = np.arange(counts.max(initial=0)) < counts[:, None]
        values = dict(part.values)
        for column in part.schema:
            if column.level == "point":
                values[column.name] = np.zeros(mask.shape, column.dtype)
                values[column.name][mask] = part.values[column.name]
        tensors = {column: torch.from_numpy(values[column.name]) for column in part.schema}
        return Cloud(
            points={c.name: value for c, value in tensors.items() if c.level == "point" and not c.truth},
            event={c.name: value for c, value in tensors.items() if c.level == "event" and not c.truth},
            truth={c.name: value for c, value in tensors.items() if c.truth},
            mask=torch.from_numpy(mask),
            index=torch.from_numpy(self.entries[indices]),
        )

    def locate(self, split: Split, index: int) -> str:
        """File and entry."""
        return f"{self.source} entry {index}"


def read_pieces(reader: Format, source: Path, cuts: Counter[str]) -> Iterator[Piece]:
    """All events of a file, a few chunks together; counts what is cut."""
    held: list[Columns] = []
    entries: list[np.ndarray] = []
    read = 0
    for chunk in reader.chunks(source):
        held.append(chunk.columns)
        entries.append(read + np.asarray(chunk.entries))
        cuts.update(chunk.cuts)
        read += chunk.cuts["read"]
        if sum(map(len, held)) >= _EVENTS or sum(int(part.offsets[-1]) for part in held) >= _POINTS:
            yield Piece(source, concatenate(held), np.concatenate(entries))
            held, entries = [], []
    if held:
        yield Piece(source, concatenate(held), np.concatenate(entries))


def blank(schema: tuple[Column, ...]) -> Cloud:
    """One event with one point, all of zeros."""
    columns = Columns(schema, np.array([0, 1]), {column.name: np.zeros(1, column.dtype) for column in schema})
    return Piece(Path(), columns, np.zeros(1, np.int64)).read("test", np.zeros(1, np.int64))
