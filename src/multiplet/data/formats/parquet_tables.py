"""The table of a Parquet file: flat columns, lists, and records of both, as Arrow reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from multiplet.data.formats.fields import Field, Held, Jagged, Opened, Table, choose, numeric
from multiplet.data.formats.sources import present, reading
from multiplet.errors import DataError


@dataclass(frozen=True)
class _Leaf:
    """Where a column comes from: its place in the file, its column of the batch, and the members on the way to it."""

    path: str
    column: str
    way: tuple[str, ...]
    held: Field | str


@contextmanager
def parquet_tables(source: Path) -> Iterator[Opened]:
    """A Parquet file and its one table, whose name is empty. Pages are checked where the file has checksums of them."""
    with reading(present(source), "the Parquet file"):
        file = pq.ParquetFile(source, memory_map=True, page_checksum_verification=True)
    with file:
        held = (Held("", "Parquet", int(file.metadata.num_rows)),)
        yield Opened(held, lambda name: _table(source, choose(source, held, name), file))


def _table(source: Path, held: Held, file: Any) -> Table:
    with reading(source, "its schema"):
        leaves = dict(_columns(file))

    def chunks(names: Sequence[str], step: int) -> Iterator[dict[str, Jagged]]:
        first, paths = 0, [leaves[name].path for name in names]
        with reading(source, "its rows"):
            batches = file.iter_batches(step, columns=paths, use_threads=False)
        while True:
            with reading(source, "its rows"):
                batch = next(batches, None)
            if batch is None:
                return
            with reading(source, "its columns"):
                chunk = {name: _flat(source, first, batch.column(leaves[name].column), leaves[name]) for name in names}
            yield chunk
            first += len(batch)

    fields = {name: leaf.held for name, leaf in leaves.items() if isinstance(leaf.held, Field)}
    other = {name: leaf.held for name, leaf in leaves.items() if isinstance(leaf.held, str)}
    return Table(source, held.name, held.kind, held.entries, fields, other, chunks)


def _columns(file: Any) -> Iterator[tuple[str, _Leaf]]:
    """Columns of the schema in order; the leaves of Arrow's types come in the order of the file's own columns."""
    place = 0
    for column in file.schema_arrow:
        for name, way, held, leaves in _leaves(column.type, column.name):
            whole = isinstance(column.type, pa.BaseExtensionType)  # which Arrow does not read in parts
            yield name, _Leaf(column.name if whole else file.schema.column(place).path, column.name, way, held)
            place += leaves


def _leaves(
    kind: pa.DataType, name: str, way: tuple[str, ...] = (), depth: int = 0, width: tuple[int, ...] = ()
) -> Iterator[tuple[str, tuple[str, ...], Field | str, int]]:
    """Below a type: name, members on the way, field or type, and how many columns of the file it takes."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_struct(kind) and kind.num_fields and not width:
        for member in kind:
            yield from _leaves(member.type, f"{name}.{member.name}", (*way, member.name), depth)
    elif _is_list(kind) and depth == 0 and not width:
        yield from _leaves(kind.value_type, name, way, 1)
    elif pa.types.is_fixed_size_list(kind):
        yield from _leaves(kind.value_type, name, way, depth, (*width, kind.list_size))
    else:
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        dtype = np.dtype(kind.to_pandas_dtype()) if number else None
        held = (
            Field(name, dtype.name, depth, width)
            if dtype is not None and numeric(dtype)
            else "list of " * depth + str(kind)
        )
        yield name, way, held, _count(kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _count(kind: pa.DataType) -> int:
    """How many columns of a Parquet file a type takes."""
    if isinstance(kind, pa.BaseExtensionType):
        return _count(kind.storage_type)
    if not pa.types.is_nested(kind):
        return 1
    return max(sum(_count(kind.field(number).type) for number in range(kind.num_fields)), 1)


def _flat(source: Path, first: int, array: pa.Array, leaf: _Leaf) -> Jagged:
    """The values of one column of a batch that begins with entry `first`; no value is NaN, nothing else may miss."""
    assert isinstance(leaf.held, Field)
    offsets, members, width = None, list(leaf.way), 1
    while True:
        array = array.storage if isinstance(array, pa.ExtensionArray) else array
        if array.null_count and not pa.types.is_floating(array.type):
            place = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False))) // width
            entry = place if offsets is None else int(np.searchsorted(offsets, place, "right")) - 1
            raise DataError(
                f"{source}: {leaf.held.name} of entry {first + entry} is missing (null): every entry needs a value"
            )
        if pa.types.is_struct(array.type):
            array = array.field(members.pop(0))
        elif _is_list(array.type):
            begins = array.offsets.to_numpy().astype(np.int64)
            array, offsets = array.values[begins[0] : begins[-1]], begins - begins[0]
        elif pa.types.is_fixed_size_list(array.type):
            size, width = array.type.list_size, width * array.type.list_size
            array = array.values[array.offset * size : (array.offset + len(array)) * size]
        else:
            values = array.to_numpy(zero_copy_only=False)
            return Jagged(values.reshape(-1, *leaf.held.width) if leaf.held.width else values, offsets)
