"""Sensor geometry: where the sensors of a telescope are: Kaggle's sensor_geometry.csv, or Prometheus's .geo files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from multiplet.data.formats.sources import present, reading
from multiplet.errors import DataError

KAGGLE = "sensor_geometry.csv"
_NEAR = 0.5  # m between where a file and the geometry say that a sensor is


@dataclass(frozen=True, eq=False)
class Geometry:
    """Sensors 0 to n − 1: `positions` (n, 3) in m, the string each hangs on, and its place there from below."""

    source: Path
    positions: np.ndarray
    string: np.ndarray
    place: np.ndarray

    def nearest(self, positions: np.ndarray) -> np.ndarray:
        """The sensor at each position (points, 3), or −1 where none is within half a metre: (points,)."""
        from scipy.spatial import cKDTree  # not needed where files name sensors

        _, sensor = cKDTree(self.positions).query(positions, distance_upper_bound=_NEAR)
        return np.where(sensor == len(self.positions), -1, sensor)


def read_geometry(path: Path) -> Geometry:
    """The sensors of a file: by its ids in a CSV, by its rows in a .geo file.

    A CSV has columns sensor_id, x, y, z; sensors at one (x, y) hang on one string. A .geo file has x, y, z, string and
    number after the line of its modules. Raises DataError where one of these is missing or not finite, where ids are
    not 0 to n − 1, each once, and where two sensors are at one place.
    """
    geo = path.suffix == ".geo"
    values = _rows(path) if geo else _csv(path)
    if not len(values):
        raise DataError(f"{path} names no sensor: is it the right file?")
    if (bad := ~np.isfinite(values).all(axis=1)).any():
        raise DataError(f"{path}: sensor in row {np.argmax(bad)} has a value that is not finite: correct it")
    if not geo:
        ids = values[:, 0]
        if not np.array_equal(np.sort(ids), np.arange(len(ids))):
            raise DataError(
                f"{path}: sensor_id goes from {ids.min():g} to {ids.max():g} in {len(ids)} rows: 0 to {len(ids) - 1}, "
                "each once, is needed"
            )
        values = values[np.argsort(ids), 1:]
    positions = np.ascontiguousarray(values[:, :3])
    different, first = np.unique(positions, axis=0, return_index=True)
    if len(different) < len(positions):
        twin = np.setdiff1d(np.arange(len(positions)), first)[0]
        raise DataError(f"{path}: sensor {twin} is at the place of another one: correct the file")
    _, string = np.unique(values[:, 3:4] if geo else positions[:, :2], axis=0, return_inverse=True)
    order = np.lexsort((positions[:, 2], string))
    begins = np.searchsorted(string[order], string)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return Geometry(path, positions, string.reshape(-1), place - begins)


def _csv(path: Path) -> np.ndarray:
    """sensor_id, x, y, z: (sensors, 4)."""
    with reading(present(path), "its sensors"):
        table = csv.read_csv(path)
    if lacking := [name for name in ("sensor_id", "x", "y", "z") if name not in table.column_names]:
        raise DataError(f"{path} lacks {', '.join(lacking)}: columns sensor_id, x, y, z are needed")
    with reading(path, "its columns sensor_id, x, y, z"):
        columns = [table[name].cast(pa.float64()).to_numpy() for name in ("sensor_id", "x", "y", "z")]
    return np.stack(columns, axis=1)


def _rows(path: Path) -> np.ndarray:
    """x, y, z, string, number: (sensors, 5)."""
    with reading(present(path), "its modules"):
        lines = path.read_text("utf-8").splitlines()
        begin = next(n for n, line in enumerate(lines) if line.startswith("### Modules")) + 1
        rows = [[float(value) for value in line.split()] for line in lines[begin:] if line.strip()]
        return np.array(rows, np.float64).reshape(len(rows), 5)
