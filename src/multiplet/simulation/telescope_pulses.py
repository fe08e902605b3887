"""From photo-electrons to pulses of triggered events: noise, merging, charge, local coincidence, trigger, window.

Times are whole nanoseconds from the start of an event's window of 50 µs until the trigger is known; then its first
hit is at 9.8 µs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multiplet.simulation.telescope_array import PER_STRING
from multiplet.simulation.telescope_light import PhotoElectrons

NOISE = 550.0  # Hz a module
BEFORE, AFTER = 20_000, 30_000  # ns around the median photo-electron
_SINGLE = 0.6  # share of the noise that comes alone; the rest in bursts
_BURST = (3.0, 3.2, 0.8)  # pulses after the first on average; mean and spread of log10 of their delay (ns)
_LAUNCH = 6_400  # ns without a hit, after which a module starts anew
_FINE, _FINE_UNTIL, _COARSE = (
    5,
    400,
    25,
)  # ns: a hit so close to the one before joins its pulse, early in a launch and later
_SPE = (0.25, 0.45, 1.0, 0.3)  # share and mean of the exponential part; mean and spread of the normal part
_LEAST, _GRID = 0.025, 0.05  # p.e.: the least charge, and the steps above it
NEIGHBOURS, COINCIDENCE = 2, 1_000  # places on a string, ns
HITS, WITHIN = 8, 5_000  # coincident hits in so many ns make a trigger
READ_BEFORE, READ_AFTER, TRIGGER_AT = 4_000, 6_000, 9_800  # ns
LEAST_PULSES = 5
_SPAN = 1 << 17  # more than any time and coincidence together


@dataclass(frozen=True)
class Pulses:
    """Flat pulses of events that lie in a row, in rising time; ties by sensor."""

    event: np.ndarray  # int64
    sensor: np.ndarray  # int64
    time: np.ndarray  # int64, ns
    charge: np.ndarray  # p.e.
    auxiliary: np.ndarray  # bool: no coincidence


def read_out(rng: np.random.Generator, light: PhotoElectrons, events: int, modules: int) -> Pulses:
    """Pulses of the events that trigger, of so many; the others have none."""
    pulses = mark(merge(rng, *_with_noise(rng, light, events, modules)), modules)
    return trigger(_by_time(pulses), events)


def _with_noise(
    rng: np.random.Generator, light: PhotoElectrons, events: int, modules: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Event, module, time and count of photo-electrons and of noise, where an event has light at all."""
    start, lit = _window(light, events)
    parts = [(light.event, light.module, np.rint(light.time - start[light.event]), light.count)]
    span, rate = BEFORE + AFTER, NOISE * modules * (BEFORE + AFTER) * 1e-9
    single = rng.poisson(_SINGLE * rate, len(lit))
    bursts = rng.poisson((1 - _SINGLE) * rate / (1 + _BURST[0]), len(lit))
    size = 1 + rng.poisson(_BURST[0], bursts.sum())
    for event, number in ((lit.repeat(single), None), (lit.repeat(bursts), size)):
        module, time = rng.integers(0, modules, len(event)), rng.uniform(0, span, len(event))
        if number is not None:
            event, module, time = event.repeat(number), module.repeat(number), time.repeat(number)
            time = time + 10 ** rng.normal(*_BURST[1:], len(time))
        parts.append((event, module, np.rint(time), np.ones(len(event), np.int64)))
    event, module, time, count = (np.concatenate(part) for part in zip(*parts, strict=True))
    inside = (time >= 0) & (time < span)
    return event[inside], module[inside], time[inside].astype(np.int64), count[inside]


def _window(light: PhotoElectrons, events: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each event's window begins, (events,), and the events that have light."""
    number = np.bincount(light.event, minlength=events)
    order = np.lexsort((light.time, light.event))
    lit = np.flatnonzero(number)
    start = np.zeros(events)
    start[lit] = np.floor(light.time[order[(np.cumsum(number) - number + number // 2)[lit]]]) - BEFORE
    return start, lit


def merge(
    rng: np.random.Generator, event: np.ndarray, module: np.ndarray, time: np.ndarray, count: np.ndarray
) -> Pulses:
    """Pulses, sorted by event, module and time, from hits in any order; none is marked yet."""
    stride = int(module.max(initial=0)) + 1
    key = (event * stride + module) * _SPAN + time
    order = np.argsort(key, kind="stable")
    key, count = key[order], count[order]
    gap = np.diff(key, prepend=-_SPAN)
    launch = np.maximum.accumulate(np.where(gap > _LAUNCH, np.arange(len(key)), 0))
    since = key - key[launch]
    first = np.flatnonzero(gap > np.where(since < _FINE_UNTIL, _FINE, _COARSE))
    charge = np.add.reduceat(single_charges(rng, count), first) if len(first) else np.zeros(0)
    where, time = np.divmod(key[first], _SPAN)
    return Pulses(*np.divmod(where, stride), time, quantised(charge), np.ones(len(first), bool))


def single_charges(rng: np.random.Generator, count: np.ndarray) -> np.ndarray:
    """Measured charges (p.e.) of hits of so many photo-electrons each; of many, nearly normal."""
    share, decay, mean, spread = _SPE
    charge = mean + spread * rng.standard_normal(len(count))
    low = np.flatnonzero(rng.random(len(count)) < share)
    charge[low] = rng.exponential(decay, len(low))
    many = np.flatnonzero(count > 1)
    average = share * decay + (1 - share) * mean
    square = share * 2 * decay**2 + (1 - share) * (mean**2 + spread**2)
    width = np.sqrt(count[many] * (square - average**2))
    charge[many] = np.maximum(0, count[many] * average + width * rng.standard_normal(len(many)))
    return charge


def quantised(charge: np.ndarray) -> np.ndarray:
    """Charges on the grid of the readout, none below its least."""
    return _LEAST + _GRID * np.maximum(0, np.rint((charge - _LEAST) / _GRID))


def mark(pulses: Pulses, modules: int) -> Pulses:
    """Pulses, sorted by event, module and time, marked where no neighbour on the string saw a hit with them."""
    key = (pulses.event * modules + pulses.sensor) * _SPAN + pulses.time
    place = pulses.sensor % PER_STRING
    alone = np.ones(len(key), bool)
    for away in range(1, NEIGHBOURS + 1):
        for step in (-away, away):
            wanted = key + step * _SPAN
            later = np.searchsorted(key, wanted - COINCIDENCE, "right")
            found = key[np.minimum(later, len(key) - 1)] < wanted + COINCIDENCE
            alone &= ~(found & (later < len(key)) & (place + step >= 0) & (place + step < PER_STRING))
    return Pulses(pulses.event, pulses.sensor, pulses.time, pulses.charge, alone)


def _by_time(pulses: Pulses) -> Pulses:
    return _take(pulses, np.lexsort((pulses.sensor, pulses.event * _SPAN + pulses.time)))


def _take(pulses: Pulses, which: np.ndarray) -> Pulses:
    return Pulses(
        pulses.event[which],
        pulses.sensor[which],
        pulses.time[which],
        pulses.charge[which],
        pulses.auxiliary[which],
    )


def trigger(pulses: Pulses, events: int) -> Pulses:
    """What is read out of pulses in the order of time: events with a trigger, in its window, shifted to its time."""
    hits = np.flatnonzero(~pulses.auxiliary)
    event, time = pulses.event[hits], pulses.time[hits]
    last = np.arange(len(hits)) + HITS - 1
    inside = last < len(hits)
    begins = np.flatnonzero(inside)[
        (event[last[inside]] == event[inside]) & (time[last[inside]] - time[inside] <= WITHIN)
    ]
    first, end = np.full(events, _SPAN), np.full(events, -_SPAN)
    np.minimum.at(first, event[begins], time[begins])
    np.maximum.at(end, event[begins], time[begins + HITS - 1])
    start = first[pulses.event]
    read = (pulses.time >= start - READ_BEFORE) & (pulses.time <= end[pulses.event] + READ_AFTER)
    enough = np.bincount(pulses.event[read], minlength=events) >= LEAST_PULSES
    kept = _take(pulses, np.flatnonzero(read & enough[pulses.event]))
    return Pulses(kept.event, kept.sensor, kept.time - first[kept.event] + TRIGGER_AT, kept.charge, kept.auxiliary)
