"""Fields: what a table of somebody's file holds, and its numbers as flat arrays with offsets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from multiplet.errors import DataError
from multiplet.spec import did_you_mean


@dataclass(frozen=True)
class Field:
    """One column of numbers: depth 0 is one value an entry, depth 1 a list of values an entry."""

    name: str
    dtype: str  # NumPy's name, in the machine's byte order
    depth: int = 0
    width: tuple[int, ...] = ()  # the fixed inner shape of a value, such as (200, 4); () where it is one number


@dataclass(frozen=True, eq=False)
class Jagged:
    """Values of some entries: flat (points, *width) with offsets, or (entries, *width) where offsets are None."""

    values: np.ndarray
    offsets: np.ndarray | None = None  # (entries + 1,) int64 from 0

    @property
    def entries(self) -> int:
        """How many entries these are."""
        return len(self.values) if self.offsets is None else len(self.offsets) - 1


def same(offsets: np.ndarray, others: np.ndarray | None) -> bool:
    """Whether two columns have lists of the same lengths."""
    return offsets is others or (others is not None and np.array_equal(offsets, others))


@dataclass(frozen=True, eq=False)
class Table:
    """A table in an open file. Columns of another kind (texts, lists of lists, objects) are named with their type."""

    source: Path
    name: str
    kind: str
    entries: int
    fields: Mapping[str, Field]
    unreadable: Mapping[str, str]  # name → its type, or why it cannot be read
    chunks: Callable[[Sequence[str], int], Iterator[dict[str, Jagged]]] = field(repr=False)

    def iterate(self, names: Sequence[str], step: int) -> Iterator[dict[str, Jagged]]:
        """These columns, at most `step` entries at a time and in order; one empty chunk where there are no entries.

        Raises DataError for columns that there are not or that hold no numbers, listing all of them, for values that
        are missing (null), and where bytes cannot be read.
        """
        faults = [self._fault(name) for name in dict.fromkeys(names) if name not in self.fields]
        if faults or step < 1 or not names:
            raise DataError(f"{self.source}: " + ("; ".join(faults) or f"{len(names)} columns in steps of {step}"))
        if not self.entries:
            yield {name: _nothing(self.fields[name]) for name in dict.fromkeys(names)}
            return
        begun = 0
        for chunk in self.chunks(list(dict.fromkeys(names)), step):
            counts = {values.entries for values in chunk.values()}
            begun += max(counts)
            if len(counts) > 1 or begun > self.entries or set(chunk) != set(names):
                raise DataError(f"{self.source}: the columns of {self.name} have not one length: it is damaged")
            yield chunk
        if begun != self.entries:
            raise DataError(
                f"{self.source}: {self.name} has {begun} entries and declares {self.entries}: it is damaged"
            )

    def _fault(self, name: str) -> str:
        where = f" in {self.name}" if self.name else ""
        if name in self.unreadable:
            return f"column {name!r}{where} is {self.unreadable[name]}: numbers, or lists of numbers, can be read"
        return f"there is no column {name!r}{where}: {did_you_mean(name, self.fields)}"


@dataclass(frozen=True)
class Held:
    """A table that a file holds; the name of a file's only table may be empty."""

    name: str
    kind: str
    entries: int


@dataclass(frozen=True, eq=False)
class Opened:
    """An open file: the tables that it holds, and how to open one of them."""

    held: tuple[Held, ...]
    open: Callable[[str], Table]


def numeric(dtype: np.dtype) -> bool:
    """Whether values of this type are numbers that a column may hold."""
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def members(
    dtype: np.dtype, name: str, shape: tuple[int, ...] = ()
) -> Iterator[tuple[str, tuple[str, ...], Field | str]]:
    """The columns of a (compound) type as (dotted name, the members' names on the way, field or its type)."""
    base, inner = dtype.subdtype or (dtype, ())
    if base.names:
        for member in base.names:
            below = f"{name}.{member}" if name else member
            for known, way, held in members(base[member], below, shape + inner):
                yield known, (member, *way), held
    elif numeric(base):
        yield name, (), Field(name, base.newbyteorder("=").name, 0, shape + inner)
    else:
        yield name, (), "text" if base.kind in "SU" else str(base)


def _nothing(wanted: Field) -> Jagged:
    return Jagged(np.empty((0, *wanted.width), wanted.dtype), np.zeros(1, np.int64) if wanted.depth else None)


def choose(source: Path, held: Sequence[Held], name: str) -> Held:
    """The table of that name; DataError that lists those there are."""
    found = next((table for table in held if table.name == name), None)
    if found is None:
        named = [table.name for table in held if table.name]
        hint = f"; {did_you_mean(name, named)}" if named else ": leave the name out"
        raise DataError(f"{source} has no table {name!r}; it holds {listed(held)}{hint}")
    return found


def listed(held: Sequence[Held], most: int = 20) -> str:
    """Tables for a message."""
    texts = [f"{table.name or 'one table'} ({table.kind}, {table.entries} entries)" for table in held]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
