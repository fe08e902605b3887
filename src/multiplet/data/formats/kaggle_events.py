"""Kaggle's table of events: those of one batch, and whether each event of the table is named once.

The table of IceCube's training events has 132 million rows, so nothing here holds a whole column of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from multiplet.data.columns import IDENTITY
from multiplet.data.formats.column_types import REAL, WHOLE, require_types, whole
from multiplet.data.formats.sources import reading
from multiplet.errors import DataError

INDICES = ("batch_id", IDENTITY, "first_pulse_index", "last_pulse_index")
LABELS = ("azimuth", "zenith")
_TYPES = dict.fromkeys(INDICES, WHOLE) | dict.fromkeys(LABELS, REAL)
_ROWS = 1 << 18  # of the table at a time
_AT_ONCE = 1 << 23  # ids compared at a time where they do not rise


def read_events(path: Path, batch: int) -> dict[str, np.ndarray]:
    """INDICES, and LABELS where there are any, of the events of one batch, (events,), by their first pulse.

    Parts of other batches are passed over. Raises DataError for a table that is damaged or of another layout, that
    names an event twice, in whatever batch, or has none of this one, and for values that are missing.
    """
    with _opened(path) as file:
        known = [field for field in file.schema_arrow if field.name in _TYPES]
        with reading(path, "its schema"):
            held = {field.name: np.dtype(field.type.to_pandas_dtype()).name for field in known}
        names = [*INDICES, *(LABELS if held.keys() & {*LABELS} else ())]
        require_types(path, held, {name: _TYPES[name] for name in names})
        _require_named_once(path)
        with reading(path, "its rows"):
            groups = [n for n in range(file.num_row_groups) if _may_hold(file.metadata.row_group(n), batch)]
            batches = file.iter_batches(_ROWS, row_groups=groups, columns=names, use_threads=False)
            parts = [part.filter(pc.equal(part["batch_id"], batch)) for part in batches]
    if not any(len(part) for part in parts):
        raise DataError(f"{path} has no event of batch {batch}: is it the table of others, or the batch renamed?")
    table = pa.Table.from_batches(parts)
    if missing := [name for name in names if table[name].null_count]:
        raise DataError(
            f"{path}: {', '.join(missing)} of batch {batch}: values are missing (null): every event has one"
        )
    events = {name: table[name].to_numpy() for name in names}
    for name in INDICES:
        events[name] = whole(path, name, events[name])
    order = np.argsort(events["first_pulse_index"], kind="stable")
    return {name: value[order] for name, value in events.items()}


def _opened(path: Path) -> Any:
    with reading(path, "the Parquet file"):
        return pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)


def _may_hold(group: Any, batch: int) -> bool:
    """Whether a row group may hold events of a batch, as its statistics say."""
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema == "batch_id" and column.is_stats_set and column.statistics.has_min_max:
            return bool(column.statistics.min <= batch <= column.statistics.max)
    return True


def _require_named_once(path: Path) -> None:
    about = path.stat()
    _look_once(path, about.st_size, about.st_mtime_ns)


@lru_cache
def _look_once(path: Path, size: int, modified: int) -> None:
    """DataError for an event that the table names twice: it could be in two splits.

    A table is looked at once in a process, however many of its batches are read. As published its ids rise, which one
    pass shows; others are compared in as many passes as memory asks for.
    """
    if _rise(path):
        return
    with _opened(path) as file:
        shares = file.metadata.num_rows // _AT_ONCE | 1  # odd: ids may go in steps of two
    for share in range(shares):
        ids = np.concatenate([each[each % shares == share] for each in _ids(path)])
        ids.sort()
        if (twice := ids[1:] == ids[:-1]).any():
            raise _named_twice(path, ids[np.argmax(twice)].item())


def _rise(path: Path) -> bool:
    """Whether the ids of a table rise from each to the next."""
    last = -np.inf
    for ids in _ids(path):
        if len(ids) and (ids[0] <= last or (ids[1:] <= ids[:-1]).any()):
            return False
        last = ids[-1] if len(ids) else last
    return True


def _ids(path: Path) -> Iterator[np.ndarray]:
    """The ids of a table in pieces, without those that are missing: the batch that has one is refused by itself."""
    for part in _pieces(path, IDENTITY):
        ids = part[IDENTITY].drop_null().to_numpy()
        yield ids if ids.dtype.kind != "f" else ids[np.isfinite(ids)]


def _pieces(path: Path, *names: str) -> Iterator[pa.RecordBatch]:
    with _opened(path) as file, reading(path, "its rows"):
        yield from file.iter_batches(_ROWS, columns=list(names), use_threads=False)


def _named_twice(path: Path, event: float) -> DataError:
    found = [part.filter(pc.equal(part[IDENTITY], event))["batch_id"] for part in _pieces(path, IDENTITY, "batch_id")]
    batches = sorted(int(batch) for each in found for batch in each.drop_null().to_pylist())
    where = " and ".join(f"batch {batch}" for batch in dict.fromkeys(batches))
    return DataError(
        f"{path}: {IDENTITY} {event} is there {len(batches)} times, in {where}: name each event once, or it could be "
        "in two splits"
    )
