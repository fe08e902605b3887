"""Toy pulses for tests: hand-made events of a neutrino telescope, in the columns of its simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from multiplet.cloud import Cloud
from multiplet.data.arrow import write_events
from multiplet.data.columns import Columns
from multiplet.data.formats.telescope_layout import DIRECTION, PULSES, SIMULATED

SCHEMA = (*PULSES, *DIRECTION, *SIMULATED)
COUNTS = (60, 0, 1, 5, 20, 33, 47, 60)


def pulse_cloud(counts: tuple[int, ...] = COUNTS, seed: int = 0, sensors: int = 30, silent: float = 0.6) -> Cloud:
    """Hand-made pulses of a telescope of strings of ten sensors, in rising time; its padding is NaN or 99."""
    rng = np.random.default_rng(seed)
    mask = np.arange(max(counts)) < np.array(counts)[:, None]
    sensor = rng.integers(0, sensors, mask.shape)
    times = rng.permuted(np.tile(np.arange(9000, 15000), (len(mask), 1)), axis=1)[:, : mask.shape[1]]
    points = {
        "sensor_id": sensor.astype(np.int32),
        "time": np.sort(times, 1).astype(np.float32),
        "charge": (0.025 + 0.05 * rng.integers(0, 200, mask.shape)).astype(np.float32),
        "auxiliary": (rng.random(mask.shape) < silent).astype(np.int8),
        "x": (125.0 * (sensor // 20)).astype(np.float32),
        "y": (60.0 * (sensor // 10 % 2)).astype(np.float32),
        "z": (400.0 - 17.0 * (sensor % 10)).astype(np.float32),
    }
    truth = {c.name: rng.random(len(counts)).astype(np.float32) for c in (*DIRECTION, *SIMULATED)}
    truth |= {"energy": 10 ** (2 + 4 * truth["energy"]), "interaction": rng.integers(0, 3, len(counts)).astype(np.int8)}
    for name, v in points.items():
        points[name] = np.where(mask, v, np.nan if v.dtype == np.float32 else 99).astype(v.dtype)
    held = [{name: torch.from_numpy(v) for name, v in columns.items()} for columns in (points, truth)]
    return Cloud(held[0], {}, held[1], torch.from_numpy(mask), torch.arange(len(counts)))


def write_pulses(folder: Path, train: int = 120, validation: int = 40, test: int = 40) -> Path:
    """A folder of event files of 5 to 150 pulses of any sensor; a few events have many more."""
    for seed, (split, events) in enumerate((("train", train), ("validation", validation), ("test", test))):
        counts = np.random.default_rng(seed).integers(5, 150, events)
        counts[::20] += 200
        cloud = pulse_cloud(tuple(counts.tolist()), seed, sensors=5160)
        mask = cloud.mask.numpy()
        values = {name: value.numpy()[mask] for name, value in cloud.points.items()}
        values |= {name: value.numpy() for name, value in cloud.truth.items()}
        offsets = np.concatenate([[0], mask.sum(1).cumsum()]).astype(np.int64)
        flat = {c.name: np.ascontiguousarray(values[c.name], dtype=c.dtype) for c in SCHEMA}
        write_events(folder / split / "00000.arrow", Columns(SCHEMA, offsets, flat), {"source": "toys"})
    return folder
