"""One event file: Columns in Arrow IPC format, memory-mapped, with a checksum for every byte beside it.

The points of an event are one `list<struct<…>>` column, so offsets are stored once and each quantity stays a flat
array; what a column means is JSON in the schema's metadata. Any Arrow reader opens the file. `NAME.arrow.sums` holds
a CRC-32 for each segment of it (header, every record batch, footer), so that a segment is checked when first touched.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from multiplet.data.columns import Column, Columns, concatenate
from multiplet.errors import CorruptError, DataError
from multiplet.files import read_json, write_atomically, write_json

FORMAT = 1
_BATCH_BYTES = 8 << 20  # a record batch is the unit of checking and of page-in
_BATCH_EVENTS = 4096


def write_events(path: Path, columns: Columns, provenance: Mapping[str, str]) -> None:
    """Write one event file and its checksums; a kill at any instant leaves no half-written file behind.

    `provenance` says where the events come from. It must not hold times, hosts or paths: the same events with the
    same provenance give the same bytes.
    """

    def write(aside: Path) -> None:
        edges = _write(aside, columns, provenance)
        write_json(sums_path(path), _sums(aside, edges))  # in place before the file itself takes its name

    write_atomically(path, write)


def read_events(path: Path) -> Columns:
    """All events of one file, every byte checked; CorruptError where a checksum does not agree."""
    file = EventFile(path)
    return concatenate([file.columns(number) for number in range(file.batches)])


def sums_path(path: Path) -> Path:
    """Where the checksums of an event file lie."""
    return path.with_name(path.name + ".sums")


def _write(path: Path, columns: Columns, provenance: Mapping[str, str]) -> list[int]:
    """Write the Arrow file; gives the byte positions between its segments."""
    schema = _arrow_schema(columns.schema, provenance)
    with pa.OSFile(str(path), "wb") as sink:
        edges = [0]
        with pa.ipc.new_file(sink, schema) as writer:
            for start, stop in _batch_edges(columns):
                writer.write_batch(_record_batch(columns, schema, start, stop))
                edges.append(sink.tell())
        edges.append(sink.tell())
    return edges


def _sums(path: Path, edges: list[int]) -> dict[str, object]:
    data = np.memmap(path, np.uint8, "r")
    sums = [zlib.crc32(data[start:stop]) for start, stop in zip(edges, edges[1:], strict=False)]
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

    Raises DataError where the file or its checksums are missing or of another format, CorruptError where bytes are
    not what was written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise DataError(f"{path} is not a file")
        self._edges, self._crc = self._read_sums()
        self._bytes = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
        if len(self._bytes) != self._edges[-1]:
            raise CorruptError(
                f"{path} has {len(self._bytes)} bytes where {self._edges[-1]} were written: copy it again"
            )
        self._check(len(self._crc) - 1)
        self._check(0)  # the header is written together with the first batch
        try:
            self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
            about = json.loads(self._reader.schema.metadata[b"multiplet"])
            self.schema = tuple(Column(**{**c, "classes": tuple(c["classes"])}) for c in about["columns"])
            self.provenance: dict[str, str] = about["provenance"]
        except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} is Arrow, but not an event file of this package ({error})") from error
        self.batches: int = self._reader.num_record_batches
        self._views: dict[int, Columns] = {}

    def _read_sums(self) -> tuple[list[int], list[int]]:
        path = sums_path(self.path)
        if not path.is_file():
            raise DataError(f"{path} is missing: copy it together with {self.path.name}, or convert again")
        sums = read_json(path)
        body = {key: sums.get(key) for key in ("format", "edges", "crc32")} if isinstance(sums, dict) else {}
        if not body or sums.get("self") != zlib.crc32(json.dumps(body).encode()):
            raise CorruptError(f"{path} is damaged: copy it again")
        if body["format"] != FORMAT:
            raise DataError(f"{self.path} has format {body['format']}; this version reads {FORMAT}: convert it again")
        return body["edges"], body["crc32"]

    def _check(self, segment: int) -> None:
        start, stop = self._edges[segment], self._edges[segment + 1]
        if zlib.crc32(self._bytes[start:stop]) != self._crc[segment]:
            raise CorruptError(
                f"{self.path}: bytes {start} to {stop} are not what was written: copy the file again, or convert again"
            )

    @cached_property
    def lengths(self) -> list[np.ndarray]:
        """Points of each event, one array a record batch; read from the offsets alone."""
        batches = (self._reader.get_batch(number) for number in range(self.batches))
        return [np.diff(batch.column(0).offsets.to_numpy()) for batch in batches]

    def columns(self, batch: int) -> Columns:
        """The events of one record batch as views into the file: no copy, so treat them as read-only."""
        if batch not in self._views:
            self._check(batch)
            self._views[batch] = self._view(self._reader.get_batch(batch))
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
