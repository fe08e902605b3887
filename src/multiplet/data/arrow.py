"""One event file: Columns in Arrow IPC format, memory-mapped, with a checksum for every byte beside it.

The points of an event are one `list<struct<…>>` column, so offsets are stored once and each quantity stays a flat
array; what a column means is JSON in the schema's metadata. Any Arrow reader opens the file. `NAME.arrow.sums` holds
a CRC-32 for each segment of it: of every record batch the head (metadata and offsets; the first one starts with the
file's header) and the rest, then the footer. A segment is checked before anything in it is believed, so that opening
a file reads footer and heads only.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from multiplet.data.columns import Column, Columns, concatenate
from multiplet.errors import CorruptError, DataError
from multiplet.files import read_json, write_atomically, write_json
from multiplet.spec import KIND, from_dict

FORMAT = 1
_BATCH_BYTES = 8 << 20  # a record batch is the unit of checking and of page-in
_BATCH_EVENTS = 4096
# what Arrow and the reading of a schema raise about bytes that are not an event file's
_FAULTS = (pa.ArrowException, AttributeError, KeyError, MemoryError, OSError, RecursionError, TypeError, ValueError)


def write_events(path: Path, columns: Columns, provenance: Mapping[str, str]) -> None:
    """Write one event file and its checksums; a kill at any instant leaves no half-written file behind.

    Two names cannot change at once: killed while it writes over a file, it may leave a pair that reading refuses.
    `provenance` says where the events come from. It must not hold times, hosts or paths: the same events with the
    same provenance give the same bytes.
    """

    def write(aside: Path) -> None:
        edges = _write(aside, columns, provenance)
        write_json(sums_path(path), _sums(aside, edges))  # in place before the file itself takes its name

    try:
        write_atomically(path, write)
    except OSError as error:
        raise DataError(f"{path} could not be written ({error}): free space, or make its folder writable") from error


def read_events(path: Path) -> Columns:
    """All events of one file, every byte checked; CorruptError where a checksum does not agree."""
    file = EventFile(path)
    return concatenate([file.columns(number) for number in range(file.batches)])


def sums_path(path: Path) -> Path:
    """Where the checksums of an event file lie."""
    return path.with_name(path.name + ".sums")


def _write(path: Path, columns: Columns, provenance: Mapping[str, str]) -> list[int]:
    """Write the Arrow file; gives the byte positions between its segments."""
    schema, batches, stops = _arrow_schema(columns.schema, provenance), _batch_edges(columns), []
    with pa.OSFile(str(path), "wb") as sink:
        with pa.ipc.new_file(sink, schema) as writer:
            for first, last in batches:
                writer.write_batch(_record_batch(columns, schema, first, last))
                stops.append(sink.tell())
        size = sink.tell()
    edges = [0]
    with path.open("rb") as file:
        start = _metadata_end(file, len(b"ARROW1\0\0"))  # of the schema, which has no body
        for (first, last), stop in zip(batches, stops, strict=True):
            offsets = 4 * (last - first + 1)  # the first buffer of the body
            edges += [min(_metadata_end(file, start) + offsets, stop), stop]
            start = stop
    return [*edges, size]


def _metadata_end(file: BinaryIO, start: int) -> int:
    """Where the metadata of the message at `start` end: they follow a marker and their length, 4 bytes each."""
    file.seek(start + 4)
    return start + 8 + int.from_bytes(file.read(4), "little")


def _sums(path: Path, edges: list[int]) -> dict[str, object]:
    with path.open("rb") as file:
        sums = [zlib.crc32(file.read(stop - start)) for start, stop in pairwise(edges)]
    body = {"format": FORMAT, "edges": edges, "crc32": sums}
    return {**body, "self": zlib.crc32(json.dumps(body).encode())}


def _batch_edges(columns: Columns) -> list[tuple[int, int]]:
    """Runs of whole events, each at most _BATCH_BYTES of points and _BATCH_EVENTS events (one event at least)."""
    width = sum(np.dtype(column.dtype).itemsize for column in columns.schema if column.level == "point")
    size, edges, start = columns.offsets * max(width, 1), [], 0
    while start < len(columns):
        fits = int(np.searchsorted(size, size[start] + _BATCH_BYTES, side="right")) - 1
        stop = min(max(fits, start + 1), start + _BATCH_EVENTS, len(columns))
        edges.append((start, stop))
        start = stop
    return edges or [(0, 0)]


def _arrow_schema(schema: tuple[Column, ...], provenance: Mapping[str, str]) -> pa.Schema:
    points = [pa.field(c.name, pa.from_numpy_dtype(c.dtype), False) for c in schema if c.level == "point"]
    event = [pa.field(c.name, pa.from_numpy_dtype(c.dtype), False) for c in schema if c.level == "event"]
    if any(field.name == "points" for field in event):
        raise DataError("an event column may not be called 'points': that name holds the points themselves")
    about = {"format": FORMAT, "columns": [asdict(c) for c in schema], "provenance": dict(sorted(provenance.items()))}
    item = pa.field("item", pa.struct(points), False)
    return pa.schema(
        [pa.field("points", pa.list_(item), False), *event], {"multiplet": json.dumps(about, ensure_ascii=False)}
    )


def _record_batch(columns: Columns, schema: pa.Schema, start: int, stop: int) -> pa.RecordBatch:
    low, high = columns.offsets[start], columns.offsets[stop]
    item = schema.field("points").type.value_field
    flat = [pa.array(columns.values[field.name][low:high], field.type) for field in item.type]
    struct = pa.StructArray.from_arrays(flat, fields=list(item.type)) if flat else pa.nulls(high - low, item.type)
    offsets = pa.array((columns.offsets[start : stop + 1] - low).astype(np.int32))
    points = pa.ListArray.from_arrays(offsets, struct, type=schema.field("points").type)
    event = [pa.array(columns.values[field.name][start:stop], field.type) for field in list(schema)[1:]]
    return pa.RecordBatch.from_arrays([points, *event], schema=schema)


class EventFile:
    """One event file, memory-mapped: flat NumPy views of any of its record batches, checked when first touched.

    It holds no file open, and travels to another process as its path. Raises DataError where the file or its checksums
    are missing or of another format, CorruptError where bytes are not what was written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise DataError(f"{path} is not a file")
        self._edges, self._crc = _read_sums(path)
        if (size := path.stat().st_size) != self._edges[-1]:
            raise CorruptError(f"{path} has {size} bytes where {self._edges[-1]} were written: copy it again")
        with pa.memory_map(str(path)) as file:
            self._bytes: pa.Buffer = file.read_buffer()
        self._check(len(self._crc) - 1)
        try:
            self._reader = pa.ipc.open_file(self._bytes)
            about = json.loads(self._reader.schema.metadata[b"multiplet"])
            self.schema = tuple(from_dict(Column, {KIND: "Column", **column}) for column in about["columns"])
            self.provenance = {str(key): str(value) for key, value in about["provenance"].items()}
            if not _arrow_schema(self.schema, {}).equals(self._reader.schema):
                raise DataError("its columns are others than it says")
        except _FAULTS as error:
            raise DataError(f"{path} is Arrow, but not an event file of this package ({error})") from error
        self.batches: int = self._reader.num_record_batches
        if len(self._crc) - 1 not in (self.batches, 2 * self.batches):
            raise CorruptError(
                f"{path} has {self.batches} record batches and {len(self._crc)} checksums: copy it again"
            )
        self._views: dict[int, Columns] = {}

    def __reduce__(self) -> tuple[type[EventFile], tuple[Path]]:
        return EventFile, (self.path,)

    def _segments(self, batch: int) -> range:
        """The segments of a record batch, its head first; files of the first development versions have but one."""
        each = (len(self._crc) - 1) // self.batches
        return range(batch * each, (batch + 1) * each)

    def _check(self, segment: int) -> None:
        start, stop = self._edges[segment], self._edges[segment + 1]
        if zlib.crc32(memoryview(self._bytes)[start:stop]) != self._crc[segment]:
            raise CorruptError(
                f"{self.path}: bytes {start} to {stop} are not what was written: copy the file again, or convert again"
            )

    @cached_property
    def lengths(self) -> list[np.ndarray]:
        """Points of each event, one array a record batch; read from the heads alone."""
        return [np.diff(self._head(batch).column(0).offsets.to_numpy()) for batch in range(self.batches)]

    def _head(self, batch: int) -> pa.RecordBatch:
        """A record batch of which the offsets may be read."""
        self._check(self._segments(batch)[0])
        return self._record(batch)

    def _record(self, batch: int) -> pa.RecordBatch:
        """A record batch whose lengths are those of its buffers: Arrow itself believes what a file says of them."""
        try:
            record = self._reader.get_batch(batch)
            record.validate()
            offsets = record.column(0).offsets.to_numpy()
            if offsets[0] != 0 or offsets[-1] != len(record.column(0).values) or (np.diff(offsets) < 0).any():
                raise DataError("the offsets of its points do not rise from 0 to their number")
        except _FAULTS as error:
            raise CorruptError(f"{self.path}: batch {batch} is damaged ({error}): copy the file again") from error
        return record

    def columns(self, batch: int) -> Columns:
        """The events of one record batch as views into the file: no copy, so treat them as read-only."""
        if batch not in self._views:
            for segment in self._segments(batch):
                self._check(segment)
            self._views[batch] = self._view(self._record(batch))
        return self._views[batch]

    def _view(self, record: pa.RecordBatch) -> Columns:
        points = record.column(0)
        flat = points.values
        values = {
            column.name: flat.field(column.name).to_numpy()
            if column.level == "point"
            else record.column(column.name).to_numpy()
            for column in self.schema
        }
        return Columns(self.schema, points.offsets.to_numpy().astype(np.int64), values)


def _read_sums(path: Path) -> tuple[list[int], list[int]]:
    """Edges and checksums of an event file's segments."""
    file = sums_path(path)
    if not file.is_file():
        raise DataError(f"{file} is missing: copy it together with {path.name}, or convert again")
    sums = read_json(file)
    body = {key: value for key, value in sums.items() if key != "self"} if isinstance(sums, dict) else {}
    if not body or sums.get("self") != zlib.crc32(json.dumps(body).encode()):
        raise CorruptError(f"{file} is damaged: copy it again")
    if body.get("format") != FORMAT:
        raise DataError(f"{path} has format {body.get('format')}; this version reads {FORMAT}: convert it again")
    edges: Any = body.get("edges")
    crc: Any = body.get("crc32")
    for numbers in (edges, crc):
        if not isinstance(numbers, list) or not all(type(number) is int and number >= 0 for number in numbers):
            raise CorruptError(f"{file} is damaged: copy it again")
    if not crc or len(edges) != len(crc) + 1 or edges != sorted(edges):
        raise CorruptError(f"{file} is damaged: copy it again")
    return edges, crc
