"""Pulses: what readers of neutrino telescopes share: photons of a module as pulses, coincidences, order, directions.

Flat arrays with offsets throughout. Times are compared in whole picoseconds, so that no edge depends on rounding.
"""

from __future__ import annotations

import math

import numpy as np

from multiplet.data.columns import Column, Columns, gather
from multiplet.data.formats.constituents import Raw, assemble, owner

LONGEST = 2**24  # ns: whole numbers up to here are exact in float32
NEIGHBOURS = 2  # places up and down a string that are near
COINCIDENCE = 1_000.0  # ns
_SLACK = 1e-5  # rad: angles of float32 pass their bounds by less


def pulse_columns(raw: Raw, schema: tuple[Column, ...]) -> Columns:
    """Checked columns of pulses in rising time, those at one time by sensor_id, then charge.

    Raises DataError that names file, column and event for what is not finite, times beyond LONGEST, charges not above
    0, whole numbers out of range, and angles that are none in rad.
    """
    raw.require("point", "time", "charge")
    if (bad := np.abs(raw.values["time"]) > LONGEST).any():
        raw.refuse("time", "point", bad, f"is beyond ±{LONGEST} ns, where float32 is no longer exact")
    if (bad := raw.values["charge"] <= 0).any():
        raw.refuse("charge", "point", bad, "is not above 0")
    if any(column.name == "azimuth" for column in schema):
        raw.values.update(_direction(raw))
    columns = assemble(raw, schema, np.zeros(raw.offsets[-1]))
    order = _rising(raw.offsets, *(columns.values[name] for name in ("time", "sensor_id", "charge")))
    if order is None:
        return columns
    points = {column.name: columns.values[column.name][order] for column in schema if column.level == "point"}
    return Columns(schema, raw.offsets, columns.values | points)


def merge_photons(
    event: np.ndarray, sensor: np.ndarray, time: np.ndarray, window: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pulses of photons: the place of each pulse's first photon, and how many photons it has; all arguments (photons,).

    A pulse holds the photons of one sensor in one event up to `window` ns after its first; the next one begins the next
    pulse, whose window counts from there. Times are at most LONGEST.
    """
    order = np.lexsort((time, sensor, event))
    if not len(order):
        return order, order
    event, sensor = event[order], sensor[order]
    begins = np.ones(len(order), bool)  # of a sensor in an event
    begins[1:] = (event[1:] != event[:-1]) | (sensor[1:] != sensor[:-1])
    tick, reach = _ticks(time[order]), round(window * 1000)
    key = (np.cumsum(begins) - 1) * (int(tick.max()) + reach + 1) + tick
    following = np.searchsorted(key, key + reach, side="right")  # the first photon beyond the window
    at = np.flatnonzero(begins)
    ends = np.append(at[1:], len(order))
    while len(at):  # once for each pulse of the sensor that has most of them
        begins[at] = True
        at = following[at]
        inside = at < ends
        at, ends = at[inside], ends[inside]
    first = np.flatnonzero(begins)
    return order[first], np.diff(np.append(first, len(order)))


def coincident(event: np.ndarray, string: np.ndarray, place: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Whether each pulse has one near it, (pulses,) bool: local coincidence.

    Near is a pulse of the same event on another module of the same string, at most NEIGHBOURS places up or down and
    less than COINCIDENCE ns away. All arguments are (pulses,); `place` counts the modules along a string.
    """
    if not len(event):
        return np.zeros(0, bool)
    string, place = string - string.min(), place - place.min()
    _, line = np.unique(event * (int(string.max()) + 1) + string, return_inverse=True)
    module = line * (int(place.max()) + 1 + NEIGHBOURS) + place  # so that no string reaches into the next
    modules, group = np.unique(module, return_inverse=True)
    tick, within = _ticks(time), round(COINCIDENCE * 1000)
    span = int(tick.max()) + within + 1
    key = np.sort(group * span + tick)
    near = np.zeros(len(event), bool)
    for step in (*range(-NEIGHBOURS, 0), *range(1, NEIGHBOURS + 1)):
        other = np.minimum(np.searchsorted(modules, module + step), len(modules) - 1)
        middle = other * span + tick
        hits = np.searchsorted(key, middle + within) - np.searchsorted(key, middle - within, side="right")
        near |= (modules[other] == module + step) & (hits > 0)
    return near


def reverse(azimuth: np.ndarray, zenith: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where something comes from, given where it goes, and the other way round; rad."""
    return azimuth + math.pi, math.pi - zenith


def _ticks(time: np.ndarray) -> np.ndarray:
    """Times in ns as whole ps from the first one on."""
    tick = np.rint(time.astype(np.float64) * 1000).astype(np.int64)
    return tick - tick.min()


def _direction(raw: Raw) -> dict[str, np.ndarray]:
    """Azimuth in [0, 2π) and zenith in [0, π]; DataError for what cannot be radians."""
    raw.require("event", "azimuth", "zenith")
    azimuth, zenith = (raw.values[name].astype(np.float64) for name in ("azimuth", "zenith"))
    hint = "is no angle in rad: give radians, zenith from 0 to π"
    if (bad := np.abs(azimuth - math.pi) > 2 * math.pi + _SLACK).any():  # -π to 3π: reversed angles too
        raw.refuse("azimuth", "event", bad, hint)
    if (bad := np.abs(zenith - math.pi / 2) > math.pi / 2 + _SLACK).any():
        raw.refuse("zenith", "event", bad, hint)
    wrapped = np.mod(azimuth, 2 * math.pi).astype(np.float32)
    wrapped[wrapped >= 2 * math.pi] = 0  # rounded up to a whole turn
    return {"azimuth": wrapped, "zenith": np.clip(zenith, 0, math.pi)}


def _rising(offsets: np.ndarray, time: np.ndarray, sensor: np.ndarray, charge: np.ndarray) -> np.ndarray | None:
    """The order by time, sensor and charge inside each event; None where all lie so. Only other events are sorted."""
    falls = np.zeros(len(time), bool)  # from one pulse to the next
    for value in (charge, sensor, time):
        falls[:-1] = (value[1:] < value[:-1]) | ((value[1:] == value[:-1]) & falls[:-1])
    edges = offsets[1:-1]
    falls[edges[edges > 0] - 1] = False
    if not falls.any():
        return None
    events = np.unique(owner(offsets)[falls])
    own, points = gather(offsets, events)
    order = np.arange(len(time))
    order[points] = points[np.lexsort((charge[points], sensor[points], time[points], owner(own)))]
    return order
