"""Plane waves for tests: light that crosses six strings of ten sensors, in the columns of neutrino telescopes.

What is to be found can be found: sensors on the side that the neutrino came from are the first to see light, and log10
of the energy is the mean charge.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from multiplet.data.arrow import write_events
from multiplet.data.columns import Column, Columns, count_offsets
from multiplet.data.formats.telescope_layout import DIRECTION, PULSES, SIMULATED
from multiplet.kinematics import unit_vector

IDENTITY = Column("event_id", level="event", dtype="int64")
MEASURED = (*PULSES, IDENTITY)
SCHEMA = (*MEASURED, *DIRECTION, *SIMULATED)
STRINGS = np.array([(0, 0), (125, 0), (62, 108), (-62, 108), (-125, 0), (-62, -108)], np.float32)


def plane_waves(events: int, seed: int = 0, labelled: bool = True, most: int = 40) -> Columns:
    """Events of 5 to `most` pulses in rising time; without labels where these are not wanted."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(5, most + 1, events)
    event = np.repeat(np.arange(events), counts)
    sensor = rng.integers(0, 60, len(event))
    place = np.concatenate([STRINGS[sensor // 10], 85 - 17.0 * (sensor % 10)[:, None]], axis=1)
    azimuth, zenith = rng.uniform(0, 2 * np.pi, events), np.arccos(rng.uniform(-1, 1, events))
    energy = 10 ** rng.uniform(2, 6, events)
    late = -(place * unit_vector(azimuth, zenith)[event]).sum(1) / 0.3
    time = np.round(10_000 + late + rng.normal(0, 20, len(event)))
    order = np.lexsort((sensor, time, event))
    values = {
        "sensor_id": sensor[order],
        "time": time[order],
        "charge": np.log10(energy)[event] * rng.uniform(0.8, 1.2, len(event)),
        "auxiliary": rng.random(len(event)) < 0.3,
        **dict(zip("xyz", place[order].T, strict=True)),
        "event_id": np.arange(events) + 1_000_000 * seed,
        "azimuth": azimuth, "zenith": zenith, "energy": energy, "interaction": rng.integers(0, 3, events),
        **{f"vertex_{axis}": np.zeros(events) for axis in "xyz"},
    }  # fmt: skip
    schema = SCHEMA if labelled else MEASURED
    made = {column.name: np.ascontiguousarray(values[column.name], dtype=column.dtype) for column in schema}
    return Columns(schema, count_offsets(counts), made)


def write_waves(folder: Path, train: int = 200, other: int = 60, labelled: bool = True, seed: int = 0) -> Path:
    """A folder of event files of plane waves."""
    for number, (split, events) in enumerate((("train", train), ("validation", other), ("test", other))):
        columns = plane_waves(events, seed + number, labelled)
        write_events(folder / split / "00000.arrow", columns, {"source": "waves"})
    return folder
