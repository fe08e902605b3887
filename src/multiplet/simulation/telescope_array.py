"""Where the optical modules of the telescope are, and how clear the ice is around them.

Metres, x east, y north, z up, from the middle of the telescope, which lies 1948.07 m below the surface. A module is
60·string + its place on the string, from the top. The array built here is an idealised one of IceCube's size; a user's
own files replace it and its ice.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from multiplet.errors import DataError
from multiplet.ice import ICE_REACH, LEVELS, SURFACE, ideal_inverse_lengths

PER_STRING = 60
_PITCH = 125.0  # m
_ROWS = (6, 7, 8, 9, 10, 10, 9, 8, 7, 4)  # strings of the lattice
_CENTRE = 35  # the string around which the infill stands
_STRINGS, _INFILL = 86, 78  # of the array with an infill, and where that begins
_VETO_CAP = 10  # topmost modules of an infill string: ordinary ones
_INFILL_EFFICIENCY = 1.35
_SIDEWAYS = 30.0  # m from its string that a module may hang


@dataclass(frozen=True, eq=False)
class Modules:
    """The optical modules: position (M, 3) and relative efficiency (M,), both float32."""

    position: np.ndarray
    efficiency: np.ndarray

    def __len__(self) -> int:
        return len(self.efficiency)

    @property
    def digest(self) -> str:
        """A name for exactly these modules."""
        return _digest(self.position, self.efficiency)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Modules) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True, eq=False)
class Ice:
    """Integrals over z of the inverse lengths of effective scattering and of absorption, each metre from -ICE_REACH."""

    scattering: np.ndarray
    absorption: np.ndarray

    @property
    def digest(self) -> str:
        """A name for exactly this ice."""
        return _digest(self.scattering, self.absorption)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ice) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def along(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean inverse lengths (1/m) of effective scattering and of absorption between two z, in any order."""
        middle, half = (high + low) / 2, np.maximum(np.abs(high - low) / 2, 1)
        first, last = self._places(middle - half), self._places(middle + half)
        width = last - first
        scattering, absorption = (_at(table, last) - _at(table, first) for table in (self.scattering, self.absorption))
        return scattering / width, absorption / width

    def _places(self, z: np.ndarray) -> np.ndarray:
        return np.clip(z + ICE_REACH, 0, len(self.scattering) - 1.001).astype(np.float32)


def _digest(*arrays: np.ndarray) -> str:
    return hashlib.blake2b(b"".join(array.tobytes() for array in arrays), digest_size=8).hexdigest()


def _at(table: np.ndarray, place: np.ndarray) -> np.ndarray:
    """A table between its entries, linearly."""
    below = place.astype(np.int32)
    start = table[below]
    return start + (place - below) * (table[below + 1] - start)


def _ice(scattering: np.ndarray, absorption: np.ndarray) -> Ice:
    """Ice from inverse lengths in the middle of every metre."""
    return Ice(*(np.concatenate([[0], np.cumsum(v)]).astype(np.float32) for v in (scattering, absorption)))


@lru_cache
def ideal_modules() -> Modules:
    """86 strings: a triangular lattice of 125 m, and eight strings close to its middle in the clear ice."""
    across = (0, -0.5, -1, -1.5, -2, -1.5, -1, -0.5, 0, 0.5)
    rows = [
        (_PITCH * (x + np.arange(n)), np.full(n, _PITCH * np.sqrt(0.75) * j))
        for j, (x, n) in enumerate(zip(across, _ROWS, strict=True))
    ]
    lattice = np.stack([np.concatenate(part) for part in zip(*rows, strict=True)], 1)
    lattice -= lattice.mean(0)
    turns = np.radians([*(30 + 60 * np.arange(6)), 240, 300])
    away = np.array([72.17] * 6 + [41.0] * 2)
    infill = lattice[_CENTRE] + away[:, None] * np.stack([np.cos(turns), np.sin(turns)], 1)
    place = np.arange(PER_STRING)
    deep = np.where(place < _VETO_CAP, 1760 + 10 * place, 2107 + 7 * (place - _VETO_CAP))
    depth = np.concatenate([np.tile(1450 + 17 * place, len(lattice)), np.tile(deep, len(infill))])
    place = np.column_stack([np.repeat(np.concatenate([lattice, infill]), PER_STRING, 0), SURFACE - depth])
    return Modules(place.astype(np.float32), _efficiency(_STRINGS))


def _efficiency(strings: int) -> np.ndarray:
    """Relative efficiency of modules: more in the infill of an array of 86 strings, but not in its veto cap."""
    module = np.arange(strings * PER_STRING)
    infill = (strings == _STRINGS) & (module // PER_STRING >= _INFILL) & (module % PER_STRING >= _VETO_CAP)
    return np.where(infill, _INFILL_EFFICIENCY, 1.0).astype(np.float32)


@lru_cache
def ideal_ice() -> Ice:
    """Ice that clears with depth, and a layer of dust 2045 m deep."""
    return _ice(*ideal_inverse_lengths())


def read_modules(path: Path) -> Modules:
    """Modules from a file with columns sensor_id, x, y, z in metres, such as Kaggle's sensor_geometry.csv.

    60 modules a string, top to bottom, ids from 0 on. With 86 strings the last eight are the infill.
    Raises DataError, listing every fault, for anything else.
    """
    table = _table(path, ("sensor_id", "x", "y", "z"))
    if len(table["sensor_id"]) == 0 or len(table["sensor_id"]) % PER_STRING:
        raise DataError(f"{path}: {len(table['sensor_id'])} modules: whole strings of {PER_STRING} are needed")
    order = np.argsort(table["sensor_id"], kind="stable")
    sensor, x, y, z = (table[name][order] for name in ("sensor_id", "x", "y", "z"))
    wrong = np.flatnonzero(sensor != np.arange(len(sensor)))
    if len(wrong):
        raise DataError(f"{path}: sensor_id must be 0 to {len(sensor) - 1}, each once: look at {sensor[wrong[0]]:g}")
    faults = []
    strings = [part.reshape(-1, PER_STRING) for part in (x, y, z)]
    aside = np.hypot(*(part - part.mean(1, keepdims=True) for part in strings[:2])).max(1)
    if np.any(aside > _SIDEWAYS):
        faults.append(f"sensors of string {np.argmax(aside)} (from 0) are {aside.max():.0f} m beside it")
    rises = np.flatnonzero((np.diff(strings[2]) >= 0).any(1))
    if len(rises):
        faults.append(f"string {rises[0]} (from 0) does not go from top to bottom")
    far = np.flatnonzero(np.abs(z) > ICE_REACH - 1)
    if len(far):
        faults.append(
            f"sensor {far[0]} has z = {z[far[0]]:g} m: give z from the middle of the array, within {ICE_REACH} m"
        )
    if faults:
        raise DataError(f"{path}: " + "; ".join(faults))
    return Modules(np.stack([x, y, z], 1).astype(np.float32), _efficiency(len(z) // PER_STRING))


def read_ice(path: Path) -> Ice:
    """Ice from a file with columns depth, scattering, absorption in metres (effective scattering); DataError if not so.

    Between the depths it is interpolated linearly, beyond them it stays.
    """
    table = _table(path, ("depth", "scattering", "absorption"))
    depth, lengths = table["depth"], [table[name] for name in ("scattering", "absorption")]
    if len(depth) < 2 or np.any(np.diff(depth) <= 0) or min(length.min() for length in lengths) <= 0:
        raise DataError(f"{path}: at least two depths, rising, and lengths above 0 are needed")
    return _ice(*(1 / np.interp(SURFACE - LEVELS, depth, length) for length in lengths))


def _table(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Columns of numbers of a CSV file; DataError where one is missing or holds anything but finite numbers."""
    try:
        read = csv.read_csv(path, convert_options=csv.ConvertOptions(include_columns=list(names)))
        table = {name: read[name].cast(pa.float64()).to_numpy() for name in names}
    except (pa.ArrowException, KeyError) as error:
        raise DataError(f"{path} is not a CSV file with numbers {', '.join(names)}: {error}") from error
    for name, values in table.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise DataError(f"{path}: {name} in row {bad[0] + 1} is not a finite number")
    return table
