"""Events: a folder of event files as a dataset: DIR/{train,validation,test}/00000.arrow …"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch

from multiplet.cloud import Cloud
from multiplet.data.arrow import EventFile, sums_path
from multiplet.data.columns import Column
from multiplet.errors import DataError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@runtime_checkable
class Dataset(Protocol):
    """What training and evaluation read from; EventFiles is one, a user's own class may be another."""

    schema: tuple[Column, ...]

    def size(self, split: Split) -> int:
        """How many events a split holds."""
        ...

    def lengths(self, split: Split) -> np.ndarray:
        """Points of each event of a split, (events,): what batches are planned by."""
        ...

    def read(self, split: Split, indices: np.ndarray) -> Cloud:
        """The events at these places of a split, in this order."""
        ...

    def locate(self, split: Split, index: int) -> str:
        """Where an event comes from, for messages: file and row."""
        ...


@dataclass(frozen=True)
class Events:
    """A folder of event files; of its training split, `take` events from place `skip` on (all where None)."""

    path: str
    skip: int = 0
    take: int | None = None

    def __str__(self) -> str:
        return str(Path(self.path))

    @property
    def paths(self) -> tuple[str, ...]:
        """The folder."""
        return (self.path,)

    def whole(self) -> Events:
        """The same folder with all of its training events."""
        return Events(self.path)

    def from_start(self) -> Events:
        """As many training events, from the first on."""
        return Events(self.path, 0, self.take)

    def open(self) -> EventFiles:
        """The dataset; DataError where the folder or a file cannot be used."""
        return EventFiles(Path(self.path), self.skip, self.take)


class EventFiles:
    """The events of a folder, memory-mapped. Reads only; a process that it is sent to maps the files anew."""

    def __init__(self, path: Path, skip: int = 0, take: int | None = None) -> None:
        self.path = path
        files = {split: sorted((path / split).glob("*.arrow")) for split in SPLITS}
        if not any(files.values()):
            raise DataError(
                f"{path} holds no event files ({path}/train/00000.arrow …): make them with `multiplet simulate` or "
                "`multiplet convert`, or correct the path"
            )
        self._parts = {split: _Split([EventFile(file) for file in paths]) for split, paths in files.items() if paths}
        self.schema = next(iter(self._parts.values())).files[0].schema
        for part in self._parts.values():
            for file in part.files:
                if differ := sorted(column.name for column in {*file.schema} ^ {*self.schema}):
                    raise DataError(
                        f"{file.path} has other columns than the first file ({', '.join(dict.fromkeys(differ))}): "
                        "convert all of them together"
                    )
        events = self._parts["train"].size if "train" in self._parts else 0
        self._skip, self._train = skip, events - skip if take is None else take
        if skip < 0 or self._train < 0 or skip + self._train > events:
            raise DataError(f"events {skip} to {skip + self._train} asked for, but {path}/train has {events}")

    def __reduce__(self) -> tuple[type[EventFiles], tuple[Path, int, int]]:
        return EventFiles, (self.path, self._skip, self._train)

    def _part(self, split: Split) -> _Split:
        if split not in self._parts:
            raise DataError(
                f"{self.path} has no {split} split: there is no {self.path / split}/00000.arrow; convert with a "
                "fraction for it, or correct the path"
            )
        return self._parts[split]

    def _places(self, split: Split, indices: np.ndarray) -> np.ndarray:
        """Places in the files of a split, of which the training split shows a window."""
        if len(indices) and not (indices.min() >= 0 and indices.max() < self.size(split)):
            raise DataError(
                f"events {indices.min()} to {indices.max()} asked for; {self.path} has {self.size(split)} in its "
                f"{split} split"
            )
        return indices + self._offset(split)

    def _offset(self, split: Split) -> int:
        return self._skip if split == "train" else 0

    def size(self, split: Split) -> int:
        """How many events a split holds."""
        return self._train if split == "train" else (self._parts[split].size if split in self._parts else 0)

    def lengths(self, split: Split) -> np.ndarray:
        """Points of each event of a split, (events,) int32."""
        start = self._offset(split)
        return self._part(split).lengths[start : start + self.size(split)]

    def read(self, split: Split, indices: np.ndarray) -> Cloud:
        """The events at these places of a split, in this order, padded to the longest; CorruptError where damaged."""
        indices = np.asarray(indices, np.int64)
        return self._part(split).read(indices, self._places(split, indices), self.schema)

    def locate(self, split: Split, index: int) -> str:
        """Where an event lies: file and row."""
        part = self._part(split)
        file, row = part.locate(int(self._places(split, np.array([index]))[0]))
        return f"{file} row {row}"

    def fingerprint(self) -> str:
        """A hash of everything the files hold, read from their checksums: equal data, equal fingerprint."""
        digest = hashlib.sha256(f"{self._skip} {self._train}".encode())
        for split, part in sorted(self._parts.items()):
            for file in part.files:
                digest.update(split.encode() + sums_path(file.path).read_bytes())
        return digest.hexdigest()[:16]


class _Split:
    """The record batches of all files of a split, in a row."""

    def __init__(self, files: list[EventFile]) -> None:
        self.files = files
        self._batches = [(file, number) for file in files for number in range(file.batches)]
        lengths = [length for file in files for length in file.lengths]
        self.lengths = np.concatenate(lengths) if lengths else np.zeros(0, np.int32)
        self._starts = np.cumsum([0] + [len(length) for length in lengths])
        self.size = int(self._starts[-1])

    def locate(self, index: int) -> tuple[Path, int]:
        batch = int(np.searchsorted(self._starts, index, side="right")) - 1
        file, number = self._batches[batch]
        first = batch - number  # the file's first record batch
        return file.path, index - int(self._starts[first])

    def read(self, indices: np.ndarray, places: np.ndarray, schema: tuple[Column, ...]) -> Cloud:
        counts = self.lengths[places].astype(np.int64)
        width = int(counts.max()) if len(counts) else 0
        out = {
            column.name: np.zeros((len(indices), width) if column.level == "point" else len(indices), column.dtype)
            for column in schema
        }
        batch = np.searchsorted(self._starts, places, side="right") - 1
        order = np.argsort(batch, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(batch[order])) + 1) if len(order) else []:
            file, number = self._batches[batch[rows[0]]]
            columns = file.columns(number)
            local = places[rows] - self._starts[batch[rows[0]]]
            source, target = _gather(columns.offsets[local], counts[rows], rows * width)
            for column in schema:
                values = columns.values[column.name]
                if column.level == "point":
                    out[column.name].reshape(-1)[target] = values[source]
                else:
                    out[column.name][rows] = values[local]
        return Cloud(
            points={c.name: torch.from_numpy(out[c.name]) for c in schema if c.level == "point" and not c.truth},
            event={c.name: torch.from_numpy(out[c.name]) for c in schema if c.level == "event" and not c.truth},
            truth={c.name: torch.from_numpy(out[c.name]) for c in schema if c.truth},
            mask=torch.arange(width)[None] < torch.from_numpy(counts)[:, None],
            index=torch.from_numpy(indices.copy()),
        )


def _gather(starts: np.ndarray, counts: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flat positions of the points to read and of the padded slots they go to."""
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(starts, counts) + within, np.repeat(rows, counts) + within
