"""Prometheus: simulated photons in neutrino telescopes (arXiv 2304.14526), and NuBench's tables (arXiv 2511.13111).

Sources are nested Parquet files, flat ones of photons (total_0.parquet, with mc_truth_0.parquet beside it), and SQLite
databases with a table of photons and mc_truth. Where the photons have a charge they are pulses already.

A geometry beside a source, sensor_geometry.csv or one *.geo (as Prometheus's own resources/geofiles), names sensors by
its rows, and positions are then from its middle. Without one the files' own numbers name sensors (string·100 + number;
legacy files number all sensors through), and positions stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from multiplet.data.columns import IDENTITY, Column, Columns, count_offsets
from multiplet.data.formats.constituents import Raw, owner
from multiplet.data.formats.prometheus_tables import Block, blocks
from multiplet.data.formats.pulses import LONGEST, coincident, merge_photons, pulse_columns, reverse
from multiplet.data.formats.sensor_geometry import KAGGLE, Geometry, read_geometry
from multiplet.data.formats.sources import Chunk
from multiplet.data.formats.telescope_layout import DIRECTION, PULSES, SIMULATED
from multiplet.errors import DataError

FIRST = 9_800.0  # ns: the first pulse of every event; in the files time counts from the interaction, which nobody sees
PER_STRING = 100
EVENT = Column(IDENTITY, "", "event", dtype="int64", about="as the file numbers it")


@dataclass(frozen=True)
class Prometheus:
    """Files of Prometheus as pulses; photons of a module up to `window` ns after a pulse's first are in that pulse.

    Neither noise nor local coincidence is in the files: `auxiliary` is 0 where a module next or next but one on the
    string has a pulse within 1 µs, as in the simulation here. Angles, in the files of the neutrino's flight, are
    turned round to where it came from. `interaction` is −1 where it is none of the three, as for tau neutrinos. Events
    without a photon are cut.
    """

    window: float = 5.0

    def __post_init__(self) -> None:
        if not 0 <= self.window <= 1e6:
            raise DataError(f"photons of how many ns make a pulse? 0 to 10⁶, not {self.window}")

    def provenance(self) -> dict[str, str]:
        """The format and its settings."""
        return {"format": "prometheus", "settings": f"window={self.window:g}"}

    def chunks(self, source: Path) -> Iterator[Chunk]:
        """All events of one file that have a photon, pulses in rising time.

        Raises DataError for a file that is damaged or of another layout, without its truth, with photons of no event
        or apart, with sensors that the geometry lacks or that are at two places, with types that cannot hold what they
        mean (float16, but for charges), and for values that no photon has.
        """
        geometry = _beside(source)
        for block in blocks(source):
            entries = np.flatnonzero(np.diff(block.offsets))
            columns = self._columns(source, geometry, block, entries)
            yield Chunk(columns, {"read": len(block.numbers), "with light": len(entries)}, entries)

    def _columns(self, source: Path, geometry: Geometry | None, block: Block, kept: np.ndarray) -> Columns:
        numbers, counts = block.numbers[kept], np.diff(block.offsets)[kept]
        photons = dict(block.photons)
        time = photons.pop("t")
        position = np.stack([photons.pop(f"sensor_pos_{axis}") for axis in "xyz"], axis=1).astype(np.float64)
        values = {"time": time, **dict(zip("xyz", position.T, strict=True)), **photons}
        raw = Raw(source, 0, count_offsets(counts), values, {"time": "t"}, numbers)
        raw.require("point", "time", "x", "y", "z")
        if (bad := np.abs(time) > LONGEST).any():
            raw.refuse("time", "point", bad, f"is beyond ±{LONGEST} ns")
        sensor, string, place = _sensors(raw, geometry)
        event = owner(raw.offsets)
        charge = photons.get("charge")
        at = np.arange(len(time))
        if charge is None:
            at, charge = merge_photons(event, sensor, time, self.window)
        event, time = event[at], time[at].astype(np.float64)
        offsets = count_offsets(np.bincount(event, minlength=len(kept)))
        near = coincident(event, string[at], place[at], time)
        begin = np.minimum.reduceat(time, offsets[:-1]) if len(time) else time
        middle = np.zeros(3) if geometry is None else geometry.positions.mean(axis=0)
        truth = _truth({name: value[kept] for name, value in block.truth.items()}, middle)
        pulses = {"sensor_id": sensor[at], "time": time - begin[event] + FIRST, "charge": charge, "auxiliary": ~near}
        pulses |= dict(zip("xyz", (position[at] - middle).T, strict=True))
        identity = {IDENTITY: numbers} if block.named else {}
        schema = (*PULSES, *DIRECTION, *SIMULATED, *((EVENT,) if block.named else ()))
        return pulse_columns(Raw(source, 0, offsets, pulses | truth | identity, {}, numbers), schema)


def _beside(source: Path) -> Geometry | None:
    """The geometry in the source's folder, if any; DataError where there are several."""
    found = sorted(path for path in source.absolute().parent.iterdir() if path.name == KAGGLE or path.suffix == ".geo")
    if len(found) > 1:
        raise DataError(f"{source}: {', '.join(path.name for path in found)} lie beside it: leave the right one only")
    return read_geometry(found[0]) if found else None


def _sensors(raw: Raw, geometry: Geometry | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each photon the sensor, its string, and its place there."""
    values = raw.values
    position = np.stack([values[axis] for axis in "xyz"], axis=1)
    if geometry is not None:
        sensor = geometry.nearest(position)
        if (bad := sensor < 0).any():
            raw.refuse(
                "x", "point", bad, f"and its y, z are of no sensor in {geometry.source}: is it of this detector?"
            )
        return sensor, geometry.string[sensor], geometry.place[sensor]
    through = "sensor_string_id" in values
    names = ("sensor_string_id" if through else "string_id", "sensor_id")
    if not {*names} <= values.keys():
        raise DataError(
            f"{raw.source} names no sensors: put its detector's geometry, {KAGGLE} or a .geo file, into its folder"
        )
    for name in names:
        most = PER_STRING if name == "sensor_id" and not through else 2**31 // PER_STRING
        if (bad := ~((values[name] >= 0) & (values[name] < most) & (values[name] == np.trunc(values[name])))).any():
            raw.refuse(name, "point", bad, f"is no number from 0 to {most - 1}: put the detector's geometry beside it")
    string, number = (values[name].astype(np.int64) for name in names)
    sensor = number if through else string * PER_STRING + number
    _, first, which = np.unique(sensor, return_index=True, return_inverse=True)
    if (bad := (position != position[first][which]).any(axis=1)).any():
        raw.refuse("sensor_id", "point", bad, "is at two places: put the detector's geometry beside the file")
    return sensor, string, number


def _truth(given: dict[str, np.ndarray], middle: np.ndarray) -> dict[str, np.ndarray]:
    flavour, current = np.abs(given["type"]), given["interaction"]
    interaction = np.select(
        [(current == 1) & (flavour == 14), (current == 1) & (flavour == 12), current == 2], [0, 1, 2], -1
    )
    azimuth, zenith = reverse(given["azimuth"], given["zenith"])
    vertex = {f"vertex_{axis}": given[f"vertex_{axis}"] - middle[n] for n, axis in enumerate("xyz")}
    return {"azimuth": azimuth, "zenith": zenith, "energy": given["energy"], "interaction": interaction, **vertex}
