"""Tables of HDF5 and npz files: arrays with one row an entry, plain, compound, or of pandas.

Arrays of equal length in one group belong together. A shape that a file only claims is believed for its names and
numbers, never for an allocation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from multiplet.data.formats.fields import Field, Held, Jagged, Opened, Table, choose, members, numeric
from multiplet.data.formats.hdf5 import dataset, names, open_hdf5, rows
from multiplet.data.formats.npz import Npz, open_npz
from multiplet.data.formats.pandas_table import Table as PandasTable
from multiplet.data.formats.pandas_table import find_table
from multiplet.data.formats.sources import reading, spans


@dataclass(frozen=True, eq=False)
class _Array:
    """One array in a file: its path, its type, and its rows, `step` at a time."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    chunks: Callable[[int], Iterator[np.ndarray]]


@contextmanager
def hdf5_tables(source: Path) -> Iterator[Opened]:
    """An HDF5 file and the tables in it: pandas tables, and arrays of one length. Links are named, not followed."""
    with open_hdf5(source) as file:
        with reading(source, "the names in it"):
            found = dict(_below(source, file, file, "", set()))
        frames = {name: find_table(source, file, name) for name, what in found.items() if what is None}
        held = tuple(Held(name, "pandas", frame.rows) for name, frame in frames.items())
        opened = _opened(source, found)

        def table(name: str) -> Table:
            key = name.strip("/")
            return _frame(source, held[list(frames).index(key)], frames[key]) if key in frames else opened.open(name)

        yield Opened((*held, *opened.held), table)


@contextmanager
def npz_tables(source: Path) -> Iterator[Opened]:
    """An npz file and its arrays by their lengths."""
    with open_npz(source) as file:
        yield _opened(source, {name: _stored(file, name) for name in file.names})


def _below(
    source: Path, file: Any, group: Any, above: str, seen: set[int]
) -> Iterator[tuple[str, _Array | str | None]]:
    """What lies in a group at any depth: an array, None for a pandas table, or why it is neither."""
    import h5py

    for name in names(group):
        path = f"{above}{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            yield path, "a link, and links are not followed"
            continue
        node = group[name]
        if hasattr(node, "keys"):
            address = h5py.h5o.get_info(node.id).addr
            if _text(node.attrs.get("pandas_type")) in ("frame", "frame_table"):
                yield path, None
            elif address not in seen:  # hard links may lead in a circle, or to one group by many ways
                seen.add(address)
                yield from _below(source, file, node, f"{path}/", seen)
        elif not getattr(node, "shape", None):
            yield path, "a single value"
        else:
            yield path, _Array(path, node.dtype, node.shape, partial(_sliced, source, file, path))


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _sliced(source: Path, file: Any, path: str, step: int) -> Iterator[np.ndarray]:
    node = dataset(source, file, path)
    for start, stop in spans(len(node), step):
        yield rows(source, node, start, stop)


def _stored(file: Npz, name: str) -> _Array | str:
    """An array of an npz file, or why it cannot be read."""
    found = file.look(name)
    return found if isinstance(found, str) else _Array(name, found.dtype, found.shape, partial(_taken, file, name))


def _taken(file: Npz, name: str, step: int) -> Iterator[np.ndarray]:
    array = file.array(name)
    for start, stop in spans(array.left, step):
        yield array.take(stop - start)


def _opened(source: Path, found: Mapping[str, _Array | str | None]) -> Opened:
    """Arrays as tables: those of one length in a group, by the group's name or by the first one's."""
    arrays = {name: what for name, what in found.items() if isinstance(what, _Array)}
    arrays = {name: array for name, array in arrays.items() if _holds_numbers(array)}
    sets = dict(_sets(arrays, ""))
    other = {name: what for name, what in found.items() if isinstance(what, str)}
    other |= {name: str(what.dtype) for name, what in found.items() if isinstance(what, _Array) and name not in arrays}
    held = tuple(Held(name, "arrays", few[0].shape[0]) for name, few in sets.items())

    def table(name: str) -> Table:
        key = name.strip("/") if name not in arrays and name != "/" else name
        few = sets.get(key) or _named(arrays, key)
        return _table(source, Held(key, "arrays", few[0].shape[0]) if few else choose(source, held, key), few, other)

    return Opened(held, table)


def _holds_numbers(array: _Array) -> bool:
    return any(isinstance(what, Field) for _, _, what in members(array.dtype, ""))


def _sets(arrays: Mapping[str, _Array], group: str) -> Iterator[tuple[str, list[_Array]]]:
    """Sets of arrays of one length below a group (a path that ends in a slash), by name."""
    inside = [array for name, array in arrays.items() if name.startswith(group)]
    if len({array.shape[0] for array in inside}) == 1:
        yield (group.strip("/") or "/") if len(inside) > 1 else inside[0].name, inside
        return
    direct = [array for array in inside if "/" not in array.name[len(group) :]]
    for length in dict.fromkeys(array.shape[0] for array in direct):
        few = [array for array in direct if array.shape[0] == length]
        yield few[0].name, few
    for below in dict.fromkeys(a.name[len(group) :].split("/")[0] for a in inside if a not in direct):
        yield from _sets(arrays, f"{group}{below}/")


def _named(arrays: Mapping[str, _Array], name: str) -> list[_Array]:
    """The arrays that a name means: of a group with arrays of one length, or of an array with its like beside it."""
    if name in arrays:
        folder, length = name.rpartition("/")[0], arrays[name].shape[0]
        return [a for a in arrays.values() if a.name.rpartition("/")[0] == folder and a.shape[0] == length]
    inside = [array for array in arrays.values() if array.name.startswith(f"{name}/")]
    return inside if len({array.shape[0] for array in inside}) == 1 else []


def _table(source: Path, held: Held, few: Sequence[_Array], other: Mapping[str, str]) -> Table:
    """A table of arrays of one length; the members of a compound array that stands alone need no prefix."""
    columns: dict[str, tuple[_Array, tuple[str, ...], Field | str]] = {}
    group = few[0].name.rpartition("/")[0] if held.name in {array.name for array in few} else held.name.strip("/")
    for array in few:
        alone = len(few) == 1 and array.dtype.names
        short = "" if alone else array.name.removeprefix(f"{group}/" if group else "")
        for name, way, what in members(array.dtype, short, array.shape[1:]):
            columns[name] = (array, way, what)

    def chunks(wanted: Sequence[str], step: int) -> Iterator[dict[str, Jagged]]:
        needed = {array.name: array for array, _, _ in (columns[name] for name in wanted)}
        for blocks in zip(*(array.chunks(step) for array in needed.values()), strict=True):
            read = dict(zip(needed, blocks, strict=True))
            yield {name: Jagged(_member(read[columns[name][0].name], columns[name][1])) for name in wanted}

    fields = {name: what for name, (_, _, what) in columns.items() if isinstance(what, Field)}
    unreadable = {name: what for name, (_, _, what) in columns.items() if isinstance(what, str)}
    return Table(source, held.name, held.kind, held.entries, fields, {**other, **unreadable}, chunks)


def _member(block: np.ndarray, way: Sequence[str]) -> np.ndarray:
    for member in way:
        block = block[member]
    return np.ascontiguousarray(block)


def _frame(source: Path, held: Held, frame: PandasTable) -> Table:
    def chunks(wanted: Sequence[str], step: int) -> Iterator[dict[str, Jagged]]:
        for start, stop in spans(frame.rows, step):
            yield {name: Jagged(np.ascontiguousarray(v)) for name, v in frame.read(start, stop, list(wanted)).items()}

    types = {
        name: _kind(node.dtype if member is None else node.dtype[member])
        for name, (node, member, _) in frame.columns.items()
    }
    fields = {name: Field(name, kind.newbyteorder("=").name) for name, kind in types.items() if numeric(kind)}
    other = {name: str(kind) for name, kind in types.items() if not numeric(kind)}
    return Table(source, held.name, held.kind, held.entries, fields, other, chunks)


def _kind(dtype: np.dtype) -> np.dtype:
    return dtype.subdtype[0] if dtype.subdtype else dtype
