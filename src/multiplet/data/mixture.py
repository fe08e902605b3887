"""Mixture: folders of events as one dataset, such as measured ones without labels and simulated ones with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from multiplet.cloud import Cloud
from multiplet.data.columns import EVENT_NAMES, Column
from multiplet.data.events import SPLITS, EventFiles, Events, Split
from multiplet.errors import DataError, RecipeError

SOURCE = "source"  # the truth column that says which folder an event is from


@dataclass(frozen=True)
class Mixture:
    """The events of several folders, spread evenly among each other in every split.

    Measured columns must be the same in all. Truth that a folder lacks is NaN, or -1 for whole numbers: no label. That
    of folders named in `unlabelled` is not read even where it is there. The truth column "source" says which folder an
    event is from. With `even` the training events of smaller folders come round several times in an epoch, as often as
    a whole number of times brings them nearest to those of the largest from below.
    """

    sources: Mapping[str, Events]
    unlabelled: tuple[str, ...] = ()
    even: bool = False

    def __post_init__(self) -> None:
        if len(self.sources) < 2:
            raise RecipeError(f"Mixture.sources are {sorted(self.sources)}: name two folders at least")
        if unknown := [name for name in self.unlabelled if name not in self.sources]:
            raise RecipeError(f"Mixture.unlabelled: {unknown[0]!r} is none of the sources {sorted(self.sources)}")

    def __str__(self) -> str:
        return ", ".join(f"{name}={events}" for name, events in self.sources.items())

    @property
    def paths(self) -> tuple[str, ...]:
        """The folders."""
        return tuple(path for events in self.sources.values() for path in events.paths)

    def whole(self) -> Mixture:
        """The same with all training events of every folder, each once."""
        return replace(self, sources={name: events.whole() for name, events in self.sources.items()}, even=False)

    @property
    def skip(self) -> int:
        """How many training events come before those taken, over all folders."""
        return sum(events.skip for events in self.sources.values())

    def from_start(self) -> Mixture:
        """As many training events of every folder, from its first on."""
        return replace(self, sources={name: events.from_start() for name, events in self.sources.items()})

    def open(self) -> MixedFiles:
        """The dataset; DataError where a folder cannot be used, or does not go with the others."""
        return MixedFiles({name: events.open() for name, events in self.sources.items()}, self.unlabelled, self.even)


class MixedFiles:
    """Mixture, opened: a dataset of the events of all sources."""

    def __init__(self, sources: Mapping[str, EventFiles], unlabelled: Sequence[str] = (), even: bool = False) -> None:
        self.sources, self.unlabelled, self.even = dict(sources), tuple(unlabelled), even
        schemas = {
            name: {column.name: column for column in files.schema if not (column.truth and name in unlabelled)}
            for name, files in self.sources.items()
        }
        if faults := list(_faults(schemas)):
            raise DataError("these folders cannot be mixed: " + "; ".join(faults))
        every = {name: column for schema in schemas.values() for name, column in schema.items()}
        kept = [c for c in every.values() if c.truth or all(c.name in schema for schema in schemas.values())]
        source = Column(SOURCE, level="event", truth=True, dtype="int16", classes=tuple(self.sources))
        self.schema = (*kept, source)
        self._places: dict[Split, tuple[np.ndarray, np.ndarray]] = {split: self._spread(split) for split in SPLITS}

    def __reduce__(self) -> tuple[type[MixedFiles], tuple[dict[str, EventFiles], tuple[str, ...], bool]]:
        return MixedFiles, (self.sources, self.unlabelled, self.even)

    def _spread(self, split: Split) -> tuple[np.ndarray, np.ndarray]:
        """The source of each event, (events,), and its place there: each source's events at equal distances."""
        held = [files.size(split) for files in self.sources.values()]
        rounds = [max(held) // size if size and self.even and split == "train" else 1 for size in held]
        sizes = [size * times for size, times in zip(held, rounds, strict=True)]
        source = np.repeat(np.arange(len(sizes), dtype=np.int16), sizes)
        place = np.concatenate([np.arange(size) for size in sizes])
        order = np.argsort((place + 0.5) / np.repeat(sizes, sizes), kind="stable")
        return source[order], (place % np.repeat(held, sizes))[order]

    def size(self, split: Split) -> int:
        """How many events a split holds; in training, those that come round count as often."""
        return len(self._places[split][0])

    def lengths(self, split: Split) -> np.ndarray:
        """Points of each event of a split, (events,) int32."""
        source, local = self._places[split]
        found = np.zeros(len(source), np.int32)
        for number, files in enumerate(self.sources.values()):
            if files.size(split):
                found[source == number] = files.lengths(split)[local[source == number]]
        return found

    def read(self, split: Split, indices: np.ndarray) -> Cloud:
        """The events at these places of a split, in this order, padded to the longest; CorruptError where damaged."""
        indices = np.asarray(indices, np.int64)
        if len(indices) and not (indices.min() >= 0 and indices.max() < self.size(split)):
            raise DataError(f"events {indices.min()} to {indices.max()} asked for; there are {self.size(split)}")
        source, local = (values[indices] for values in self._places[split])
        rows = [np.flatnonzero(source == number) for number in range(len(self.sources))]
        files = list(self.sources.values())
        parts = {n: files[n].read(split, local[mine]) for n, mine in enumerate(rows) if len(mine)}
        width = max((part.mask.shape[1] for part in parts.values()), default=0)
        made: dict[str, Tensor] = {column.name: _blank(column, len(indices), width) for column in self.schema}
        mask = torch.zeros(len(indices), width, dtype=torch.bool)
        for number, part in parts.items():
            mine, there = torch.from_numpy(rows[number]), part.mask.shape[1]
            mask[mine, :there] = part.mask
            made[SOURCE][mine] = number
            truth = {} if list(self.sources)[number] in self.unlabelled else part.truth
            for name, values in (part.points | part.event | truth).items():
                if values.dim() == 2 and name in made:
                    made[name][mine, :there] = values
                elif name in made:
                    made[name][mine] = values
        groups: dict[str, dict[str, Tensor]] = {"points": {}, "event": {}, "truth": {}}
        for column in self.schema:
            kind = "truth" if column.truth else {"point": "points", "event": "event"}[column.level]
            groups[kind][column.name] = made[column.name]
        return Cloud(**groups, mask=mask, index=torch.from_numpy(indices.copy()))

    def locate(self, split: Split, index: int) -> str:
        """Where an event lies: file and row."""
        source, local = self._places[split]
        return list(self.sources.values())[source[index]].locate(split, int(local[index]))

    def fingerprint(self) -> str:
        """A hash of everything the files hold: equal data, equal fingerprint."""
        said = " ".join(f"{name} {files.fingerprint()}" for name, files in self.sources.items())
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def _faults(schemas: Mapping[str, Mapping[str, Column]]) -> Iterator[str]:
    first, *others = schemas
    for name, schema in schemas.items():
        if SOURCE in schema:
            yield f"{name} has a column {SOURCE!r}, as the one that says which folder an event is from: rename it"
    for other in others:
        for name in dict.fromkeys([*schemas[first], *schemas[other]]):
            one, two = schemas[first].get(name), schemas[other].get(name)
            there = one or two
            if one and two and (one.unit, one.level, one.truth, one.dtype, one.classes) != (
                two.unit, two.level, two.truth, two.dtype, two.classes,
            ):  # fmt: skip
                yield f"{name} is {_tell(one)} in {first} and {_tell(two)} in {other}"
            elif there and not (one and two) and not there.truth and name not in EVENT_NAMES:
                yield f"{name} is measured in {first if one else other} alone"
            elif there and not (one and two) and there.truth and there.dtype.startswith("u"):
                yield f"{name} is {there.dtype}, which has no value for no label: convert it as a signed number"


def _tell(column: Column) -> str:
    level = f"{'truth' if column.truth else 'measured'} of {column.level}s"
    classes = f" with classes {', '.join(column.classes)}" if column.classes else ""
    return f"{level}, {column.dtype}{f' [{column.unit}]' if column.unit else ''}{classes}"


def _blank(column: Column, events: int, width: int) -> Tensor:
    """Values of a column that nothing was read into: no label where it is truth."""
    shape = (events, width) if column.level == "point" else (events,)
    none = 0.0 if not column.truth else np.nan if column.dtype.startswith("float") else -1
    return torch.from_numpy(np.full(shape, none, column.dtype))
