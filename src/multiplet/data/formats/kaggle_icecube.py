"""IceCube on Kaggle: Parquet files of pulses, and a table of events (IceCube – Neutrinos in Deep Ice, 2023).

    FOLDER/train/batch_1.parquet …   a row a pulse: event_id, sensor_id, time (ns), charge (p.e.), auxiliary
    FOLDER/train_meta.parquet        a row an event: batch_id, event_id, first_pulse_index, last_pulse_index (both
                                     inclusive, rows of its batch), azimuth, zenith (rad, of where it came from)
    FOLDER/sensor_geometry.csv       sensor_id, x, y, z (m)

test/ and test_meta.parquet are alike, without azimuth and zenith. Sources are the files of pulses:
multiplet convert kaggle_icecube 'FOLDER/train/batch_*.parquet' --out data/icecube, where the shell fills in the names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from multiplet.data.columns import IDENTITY, Column
from multiplet.data.formats.column_types import FLAG, REAL, ROUGH, WHOLE, require_types, whole
from multiplet.data.formats.constituents import Raw
from multiplet.data.formats.fields import Table
from multiplet.data.formats.kaggle_events import INDICES, read_events
from multiplet.data.formats.parquet_tables import parquet_tables
from multiplet.data.formats.pulses import pulse_columns
from multiplet.data.formats.sensor_geometry import KAGGLE, Geometry, read_geometry
from multiplet.data.formats.sources import Chunk, present
from multiplet.data.formats.telescope_layout import DIRECTION, PULSES
from multiplet.errors import DataError

EVENT = Column(IDENTITY, "", "event", dtype="int64", about="as Kaggle numbers it")
_PULSE = {IDENTITY: WHOLE, "sensor_id": WHOLE, "time": REAL, "charge": ROUGH, "auxiliary": FLAG}


@dataclass(frozen=True)
class KaggleIceCube:
    """Batches in Kaggle's layout, with labels where their table of events has them; `pulses` are read at a time."""

    pulses: int = 500_000

    def provenance(self) -> dict[str, str]:
        """Nothing but the format's name."""
        return {"format": "kaggle_icecube"}

    def chunks(self, source: Path) -> Iterator[Chunk]:
        """All events of one batch, in the order of its pulses; pulses in rising time, whatever the file's order.

        Raises DataError for a file that is damaged or of another layout, without table of events or geometry where
        Kaggle has them, with pulses that belong to no event or to two, events without a pulse or named twice, be it in
        another batch of the table, unknown sensors, types that cannot hold what they mean, and values no pulse has.
        """
        source = source.absolute()
        named = re.fullmatch(r"batch_(\d+)", source.stem)
        if named is None:
            raise DataError(f"{source}: batches are called batch_1.parquet …, as train_meta.parquet numbers them")
        home = source.parent.parent
        meta = _needed(home / f"{source.parent.name}_meta.parquet", source)
        geometry = read_geometry(_needed(home / KAGGLE, source))
        with parquet_tables(present(source)) as opened:
            table = opened.open("")
            require_types(source, {name: field.dtype for name, field in table.fields.items()}, _PULSE)
            events = read_events(meta, int(named[1]))
            offsets = _offsets(meta, events, source, table.entries)
            rows = _Rows(table, self.pulses)
            low = 0
            while low < len(offsets) - 1:
                high = max(int(np.searchsorted(offsets, offsets[low] + self.pulses, side="right")) - 1, low + 1)
                some = {name: value[low:high] for name, value in events.items()}
                yield _chunk(source, geometry, offsets[low : high + 1] - offsets[low], some, rows)
                low = high


def _needed(path: Path, source: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path} is missing, which {source} needs: put it there, as in Kaggle's layout")
    return path


def _offsets(meta: Path, events: Mapping[str, np.ndarray], source: Path, pulses: int) -> np.ndarray:
    """Offsets of the events, (events + 1,); DataError unless each pulse is of one event and each event has its own."""
    ids, first, last = (events[name] for name in INDICES[1:])
    if (bad := last < first).any():
        event = int(np.argmax(bad))
        raise DataError(
            f"{meta}: event {ids[event]} has no pulse (first {first[event]}, last {last[event]}, both inclusive)"
        )
    if last[-1] >= pulses:
        raise DataError(
            f"{meta}: event {ids[-1]} ends with pulse {last[-1]}, but {source} has only {pulses}, from 0 on: it is "
            "truncated, or of another table"
        )
    begins, ends = np.append(first, pulses), np.append(0, last + 1)
    if (bad := begins != ends).any():
        low, high = sorted((int(begins[np.argmax(bad)]), int(ends[np.argmax(bad)])))
        whose = "no event" if (begins > ends)[np.argmax(bad)] else "two events"
        raise DataError(f"{source}: pulses {low} to {high - 1} are of {whose} in {meta}: take both as published")
    return begins


class _Rows:
    """The rows of a table, as many at a time as asked for."""

    def __init__(self, table: Table, step: int) -> None:
        self._pieces = table.iterate(list(_PULSE), step)
        self._held: dict[str, np.ndarray] = {}

    def take(self, count: int) -> dict[str, np.ndarray]:
        """The next `count` rows, which must be there."""
        parts, have = [self._held] if self._held else [], len(next(iter(self._held.values()), ()))
        while have < count:
            parts.append({name: one.values for name, one in next(self._pieces).items()})
            have += len(parts[-1][IDENTITY])
        joined = {name: np.concatenate([part[name] for part in parts]) for name in _PULSE}
        self._held = {name: value[count:] for name, value in joined.items()}
        return {name: value[:count] for name, value in joined.items()}


def _chunk(
    source: Path, geometry: Geometry, offsets: np.ndarray, events: Mapping[str, np.ndarray], rows: _Rows
) -> Chunk:
    values = rows.take(int(offsets[-1]))
    ids = events[IDENTITY]
    given = whole(source, IDENTITY, values.pop(IDENTITY))
    labels = [column for column in DIRECTION if column.name in events]
    raw = Raw(source, 0, offsets, values | {column.name: events[column.name] for column in labels}, {}, ids)
    if (bad := given != np.repeat(ids, np.diff(offsets))).any():
        raw.refuse(IDENTITY, "point", bad, f"is {given[np.argmax(bad)]} in a pulse that its table gives to it")
    sensor = values["sensor_id"]
    if (bad := ~((sensor >= 0) & (sensor < len(geometry.positions)))).any():
        raw.refuse("sensor_id", "point", bad, f"is none of the {len(geometry.positions)} in {geometry.source}")
    if (bad := (values["auxiliary"] != 0) & (values["auxiliary"] != 1)).any():
        raw.refuse("auxiliary", "point", bad, "is neither 0 nor 1")
    raw.values["sensor_id"] = sensor = whole(source, "sensor_id", sensor)
    raw.values.update(dict(zip("xyz", geometry.positions[sensor].T, strict=True)), event_id=ids)
    return Chunk(pulse_columns(raw, (*PULSES, *labels, EVENT)))
