"""Turns: the events of several files in one fixed order, a bounded number at a time, and places to go on from.

Files that differ in more than their number (HToBB_000, ZToQQ_000 …) take turns: what is taken from the front then
holds events of all kinds. Where files have splits of their own, those of training take turns first, then those of
validation, then those of test. The order depends on the files' names, splits and events alone, not on how many events
are read at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from multiplet.data.columns import IDENTITY, ORIGIN, Column, Columns, count_offsets
from multiplet.data.events import SPLITS, Split
from multiplet.errors import DataError

if TYPE_CHECKING:
    from multiplet.data.formats import Format

TURN = 64  # events of one file before the next has its turn
OPEN = 16  # files that take turns; bounds memory
BATCH = 4096  # events handed on together

EVENT_ID = Column(IDENTITY, "", "event", dtype="int64", about="number of the event in the conversion")
_SOURCE = (
    Column(ORIGIN[0], "", "event", dtype="int32", about="file of the event: its place in the sources of convert.json"),
    Column(ORIGIN[1], "", "event", dtype="int64", about="place of the event among all events of that file, from 0"),
)

Cuts = dict[str, int]  # "read", then each selection: the events left after it


@dataclass(frozen=True)
class Place:
    """A place between two turns: `Turns` goes on from it as if it had read everything before."""

    events: int  # handed on so far
    started: int  # files opened so far
    open: tuple[tuple[int, int], ...]  # files taking turns, the next first: number of the file, events handed on
    finished: dict[int, Cuts]  # number of each file read to its end, and its cut flow


@dataclass(frozen=True, eq=False)
class _Piece:
    """Consecutive events of one file."""

    file: int
    columns: Columns
    entries: np.ndarray  # (events of columns,) int64: places in the file
    start: int
    stop: int


class Turns:
    """The events of all files, with their identity and origin as columns; DataError where files do not fit together.

    `splits` are those of the files, where each has one.
    """

    def __init__(
        self, format: Format, paths: Sequence[Path], place: Place | None = None, splits: Sequence[Split] | None = None
    ) -> None:
        place = place or Place(0, 0, (), {})
        self._format, self._paths = format, paths
        self._split = [SPLITS.index(split) for split in splits] if splits else [0] * len(paths)
        self._order = sorted(_by_kind(paths), key=self._split.__getitem__)
        self._events, self._started, self._finished = place.events, place.started, dict(place.finished)
        self._schema: tuple[Column, ...] | None = None
        self._open = deque(_File(format, number, paths[number], handed) for number, handed in place.open)

    def place(self) -> Place:
        """Where the next batch begins."""
        handed = tuple((file.number, file.handed) for file in self._open)
        return Place(self._events, self._started, handed, dict(self._finished))

    def batch(self) -> Columns | None:
        """The next events, whole turns of them; None where there are no more."""
        pieces: list[_Piece] = []
        events = 0
        while events < BATCH:
            while self._started < len(self._order) and len(self._open) < OPEN:
                number = self._order[self._started]
                if self._open and self._split[number] != self._split[self._open[0].number]:
                    break  # or the first file of a split would be read before the others of it are open
                self._open.append(_File(self._format, number, self._paths[number]))
                self._started += 1
            if not self._open:
                break
            file = self._open.popleft()
            taken = list(file.take(TURN))
            count = sum(piece.stop - piece.start for piece in taken)
            if count == TURN:
                self._open.append(file)
            else:
                self._finished[file.number] = file.cuts
            pieces, events = pieces + taken, events + count
        return self._join(pieces) if pieces else None

    def _join(self, pieces: Sequence[_Piece]) -> Columns:
        schema = [column for column in self._one_schema(pieces) if column.name not in ORIGIN]
        counts = [np.diff(piece.columns.offsets[piece.start : piece.stop + 1]) for piece in pieces]
        offsets = count_offsets(np.concatenate(counts))
        values = {column.name: np.concatenate([_values(piece, column) for piece in pieces]) for column in schema}
        lengths = [piece.stop - piece.start for piece in pieces]
        values[ORIGIN[0]] = np.repeat(np.array([piece.file for piece in pieces], np.int32), lengths)
        values[ORIGIN[1]] = np.concatenate([piece.entries[piece.start : piece.stop] for piece in pieces])
        schema += _SOURCE
        if IDENTITY not in values:
            values[IDENTITY] = np.arange(self._events, self._events + sum(lengths))
            schema.append(EVENT_ID)
        self._events += sum(lengths)
        return Columns(tuple(schema), offsets, values)

    def _one_schema(self, pieces: Sequence[_Piece]) -> tuple[Column, ...]:
        """The schema of all events so far; DataError naming the first file of another one."""
        schema = self._schema = self._schema or pieces[0].columns.schema
        for piece in pieces:
            if piece.columns.schema is not schema and piece.columns.schema != schema:
                differ = sorted({column.name for column in {*piece.columns.schema} ^ {*schema}})
                raise DataError(
                    f"{self._paths[piece.file]} has other columns than the files before ({', '.join(differ)}): convert "
                    "them apart"
                )
        return schema


def _values(piece: _Piece, column: Column) -> np.ndarray:
    start, stop = piece.start, piece.stop
    if column.level == "point":
        start, stop = piece.columns.offsets[start], piece.columns.offsets[stop]
    return piece.columns.values[column.name][start:stop]


def _by_kind(paths: Sequence[Path]) -> list[int]:
    """The order in which the files are opened: one of each kind, then the next of each.

    A kind is what files of a folder are called but for their number: signal/0.root and background/0.root are of two.
    """
    kinds: dict[tuple[Path, str], list[int]] = {}
    for number, path in enumerate(paths):
        kinds.setdefault((path.parent, path.stem.rstrip("0123456789")), []).append(number)
    return [number for group in zip_longest(*kinds.values()) for number in group if number is not None]


class _File:
    """One file being read, from the event on that follows the first `handed` kept ones."""

    def __init__(self, format: Format, number: int, path: Path, handed: int = 0) -> None:
        self.number, self.path = number, path
        self.handed = 0
        self.cuts: Cuts = {}
        self._chunks = format.chunks(path)
        self._rest: _Piece | None = None
        for _ in self.take(handed):
            pass

    def take(self, events: int) -> Iterator[_Piece]:
        """So many events, fewer only where the file ends."""
        while events:
            if self._rest is None:
                self._rest = self._next()
                if self._rest is None:
                    return
            piece = self._rest
            stop = min(piece.start + events, piece.stop)
            self._rest = (
                _Piece(piece.file, piece.columns, piece.entries, stop, piece.stop) if stop < piece.stop else None
            )
            self.handed, events = self.handed + stop - piece.start, events - (stop - piece.start)
            if stop > piece.start:
                yield replace(piece, stop=stop)

    def _next(self) -> _Piece | None:
        """The next chunk, counted."""
        chunk = next(self._chunks, None)
        if chunk is None:
            return None
        if self.cuts and list(self.cuts) != list(chunk.cuts):
            raise DataError(f"{self.path}: its selections are {list(self.cuts)} first, then {list(chunk.cuts)}")
        assert chunk.entries is not None
        entries = chunk.entries + self.cuts.get("read", 0)
        self.cuts = {name: self.cuts.get(name, 0) + left for name, left in chunk.cuts.items()}
        return _Piece(self.number, chunk.columns, entries, 0, len(chunk.columns))
