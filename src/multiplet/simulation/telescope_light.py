"""From places of light to photo-electrons in optical modules.

Metres, nanoseconds. Few of the pairs of a place and a module see anything, so their number is not what this costs: a
table holds, for a place at some height and distance from a string, no less than what each module of the string may
see. Strings that see little are thinned from it: places, strings and modules are drawn by that bound, and each photon
is kept with the chance of its exact mean over the bound. Strings that see much are counted module by module. Both give
Poisson numbers with the exact means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multiplet.ice import ICE_REACH
from multiplet.simulation.telescope_array import PER_STRING, Ice, Modules
from multiplet.simulation.telescope_events import LIGHT_SPEED, Neutrinos, Sources

GROUP_INDEX = 1.356
CHERENKOV = 1 / 1.33  # cosine of the angle
AREA = 0.0565  # m² of a module, folded with the angles at which it accepts
REACH = 450.0  # m sideways to which light is followed
MOST = 3e4  # photo-electrons that a module counts of one place of light
STORED = 300  # of them that keep times of their own; each then stands for as many as are needed
_HEIGHT, _DISTANCE = 5.0, 7.5  # m: the cells of the table
_BRIGHT = 30.0  # bound of a string's photo-electrons above which its modules are counted one by one
_ALIKE, _KINDS = 8.0, 12  # strings that differ less (m) in height share a table; more, rather than have so many tables
_CHUNK = 1 << 16


@dataclass(frozen=True)
class PhotoElectrons:
    """Flat, in no order: event, module, time (ns from the interaction), and for how many each stands."""

    event: np.ndarray
    module: np.ndarray
    time: np.ndarray
    count: np.ndarray


def visible(
    modules: Modules, ice: Ice, module: np.ndarray, place: np.ndarray, flight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of pairs of a module and a place of light (P, 3) with a direction (P, 3): photo-electrons a photon, distance,

    and inverse lengths of scattering and absorption between them.
    """
    away = (modules.position[module] - place).astype(np.float32)
    distance = np.maximum(1, np.sqrt(np.einsum("pc,pc->p", away, away)))
    scattering, absorption = ice.along(place[:, 2].astype(np.float32), modules.position[module, 2])
    mean = diffuse(distance, scattering, absorption) * modules.efficiency[module]
    mean *= 1 + np.float32(0.35) * away[:, 2] / distance
    towards = np.einsum("pc,pc->p", away, flight) / distance
    mean *= np.exp((np.float32(0.9) - 2 * np.abs(towards - np.float32(CHERENKOV))) * np.exp(-distance / 40))
    return mean, distance, scattering, absorption


def diffuse(distance: np.ndarray, scattering: np.ndarray, absorption: np.ndarray) -> np.ndarray:
    """Photo-electrons a photon of a module that looks everywhere, from the mean inverse lengths (1/m) to it."""
    scatter, absorb = np.float32(2.38) / scattering, np.float32(0.557) / absorption
    spread = scatter / (3 * np.exp(-scatter / absorb))
    fade = np.exp(-distance / np.sqrt(absorb * scatter / 3))
    return np.float32(AREA / (4 * np.pi)) * fade / (spread * distance * np.tanh(distance / spread))


def delay(rng: np.random.Generator, distance: np.ndarray, scattering: np.ndarray, absorption: np.ndarray) -> np.ndarray:
    """ns that photons come later than the straight way takes."""
    shape = np.maximum(0.15, (11.8 + 0.437 * distance * (30 * scattering) ** 0.42) / 33.3 - 0.3)
    rate = 1 / 612 + LIGHT_SPEED / GROUP_INDEX * 0.563 * absorption
    return rng.standard_gamma(shape) / rate + 3 * rng.standard_normal(len(distance))


def _kinds(z: np.ndarray) -> np.ndarray:
    """Of strings with modules at z (strings, 60): a number for those that share a table (strings,)."""
    shape, alike = np.stack([z.mean(1), np.ptp(z, 1)], 1), _ALIKE
    while True:
        kinds = np.unique(np.round(shape / alike), axis=0, return_inverse=True)[1].reshape(-1)
        if kinds.max() < _KINDS:
            return kinds
        alike *= 2


class Light:
    """Modules in ice, with the table of what the modules of each string may see at most; made once."""

    def __init__(self, modules: Modules, ice: Ice) -> None:
        self.modules, self.ice = modules, ice
        place = modules.position.reshape(-1, PER_STRING, 3)
        self.string = place[:, :, :2].mean(1)  # (strings, 2)
        self.aside = float(np.linalg.norm(place[:, :, :2] - self.string[:, None], axis=2).max())
        efficiency = modules.efficiency.reshape(-1, PER_STRING)
        self.kind = _kinds(place[:, :, 2])
        kinds = range(self.kind.max() + 1)
        tables = [self._bounds(place[self.kind == kind, :, 2], efficiency[self.kind == kind].max(0)) for kind in kinds]
        self.heights, self.distances = tables[0].shape[:2]
        bounds = np.concatenate(tables).reshape(-1, PER_STRING)
        total = bounds.sum(1, keepdims=True, dtype=np.float32)
        self.total = total[:, 0].copy()
        self.cumulative = np.ones((len(bounds), 64), np.float32)
        self.cumulative[:, : PER_STRING - 1] = np.cumsum(bounds[:, :-1] / total, 1)
        self.bounds = bounds

    def _bounds(self, z: np.ndarray, efficiency: np.ndarray) -> np.ndarray:
        """No less than what modules of strings with these z (strings, 60) see of a photon: (height, distance, 60)."""
        low = np.arange(-ICE_REACH, ICE_REACH, _HEIGHT).astype(np.float32)[:, None]
        above, below = z.max(0) - low, z.min(0) - low - _HEIGHT
        least = np.where((above > 0) & (below < 0), 0, np.minimum(np.abs(above), np.abs(below)))
        near = np.arange(0, REACH, _DISTANCE)[:, None, None]
        distance = np.maximum(1, np.hypot(near, least)).transpose(1, 0, 2)
        furthest = np.hypot(near + _DISTANCE + self.aside, np.maximum(np.abs(above), np.abs(below))).transpose(1, 0, 2)
        best = np.zeros_like(distance)
        for edge in (0, _HEIGHT / 2, _HEIGHT):
            for level in np.linspace(z.min(0), z.max(0), 2 + int(np.ptp(z, 0).max() / _HEIGHT)):
                lengths = self.ice.along(
                    low + np.float32(edge), np.broadcast_to(level, (1, PER_STRING)).astype(np.float32)
                )
                best = np.maximum(best, diffuse(distance, *(part[:, None] for part in lengths)))
        up = above[:, None] / np.where(above[:, None] > 0, distance, furthest)
        best *= (1 + 0.35 * np.clip(up, -1, 1)) * np.exp(0.9 * np.exp(-distance / 40)) * efficiency
        return (1.02 * best).astype(np.float32)

    def shine(self, rng: np.random.Generator, neutrinos: Neutrinos, sources: Sources) -> PhotoElectrons:
        """Photo-electrons of all modules from all places of light."""
        flight = neutrinos.flight.astype(np.float32)
        place = sources.position.astype(np.float32)
        source, string, row, bound = self._strings(place, sources.photons.astype(np.float32))
        bright = bound > _BRIGHT
        parts = [
            self._thin(rng, sources, place, flight, *(part[~bright] for part in (source, string, row, bound))),
            self._count(rng, sources, place, flight, source[bright], string[bright]),
        ]
        module, source, count = (np.concatenate(part) for part in zip(*parts, strict=True))
        return self._arrive(rng, sources, neutrinos, module, source, count)

    def _strings(self, place: np.ndarray, photons: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Strings within reach of every source: source, string, row of the table, bound of photo-electrons."""
        height = np.floor((place[:, 2] + ICE_REACH) / np.float32(_HEIGHT)).astype(np.int32)
        known = np.flatnonzero((height >= 0) & (height < self.heights))
        string = self.string.astype(np.float32)
        dx, dy = (place[known, axis, None] - string[None, :, axis] for axis in (0, 1))
        apart = np.sqrt(dx * dx + dy * dy)
        near = np.flatnonzero(apart.reshape(-1) < REACH)
        source, string = known[near // len(string)], near % len(string)
        cell = (np.maximum(apart.reshape(-1)[near] - np.float32(self.aside), 0) / np.float32(_DISTANCE)).astype(
            np.int32
        )
        row = (self.kind[string] * self.heights + height[source]) * self.distances + cell
        return source, string, row, self.total[row] * photons[source]

    def _thin(
        self,
        rng: np.random.Generator,
        sources: Sources,
        place: np.ndarray,
        flight: np.ndarray,
        source: np.ndarray,
        string: np.ndarray,
        row: np.ndarray,
        bound: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Photo-electrons drawn from the bound and kept by the exact mean: module, source, count."""
        up_to = np.cumsum(bound, dtype=np.float64)
        drawn = rng.poisson(up_to[-1] if len(up_to) else 0)
        pair = np.searchsorted(up_to, np.sort(rng.random(drawn)) * (up_to[-1] if drawn else 0), "right")
        pair = np.minimum(pair, len(up_to) - 1)
        source, string, row = source[pair], string[pair], row[pair]
        uniform, below = rng.random(drawn, np.float32), np.zeros(drawn, np.int32)
        for stride in (32, 16, 8, 4, 2, 1):
            below += stride * (self.cumulative[row, below + stride - 1] <= uniform)
        place_on = np.minimum(below, PER_STRING - 1)
        module = string * PER_STRING + place_on
        mean = visible(self.modules, self.ice, module, place[source], flight[sources.event[source]])[0]
        kept = np.flatnonzero(rng.random(drawn, np.float32) * self.bounds[row, place_on] < mean)
        return module[kept], source[kept], np.ones(len(kept), np.int32)

    def _count(
        self,
        rng: np.random.Generator,
        sources: Sources,
        place: np.ndarray,
        flight: np.ndarray,
        source: np.ndarray,
        string: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Photo-electrons of every module of these strings: module, source, count."""
        module = (string[:, None] * PER_STRING + np.arange(PER_STRING)).reshape(-1)
        source = np.repeat(source, PER_STRING)
        counts = []
        for start in range(0, len(source), _CHUNK):
            of = source[start : start + _CHUNK]
            pairs = module[start : start + _CHUNK]
            mean = visible(self.modules, self.ice, pairs, place[of], flight[sources.event[of]])[0]
            counts.append(rng.poisson(np.minimum(mean * sources.photons[of], MOST)))
        count = np.concatenate([np.zeros(0, np.int64), *counts])
        seen = np.flatnonzero(count)
        return module[seen], source[seen], count[seen].astype(np.int32)

    def _arrive(
        self,
        rng: np.random.Generator,
        sources: Sources,
        neutrinos: Neutrinos,
        module: np.ndarray,
        source: np.ndarray,
        count: np.ndarray,
    ) -> PhotoElectrons:
        """Single photo-electrons with their times; those of a segment come from anywhere on it."""
        stored = np.minimum(count, STORED)
        share = np.repeat(count // stored, stored)
        first = np.cumsum(stored) - stored
        extra = np.arange(len(share)) - np.repeat(first, stored) < np.repeat(count % stored, stored)
        module, source = np.repeat(module, stored), np.repeat(source, stored)
        event = sources.event[source]
        along = rng.uniform(-1, 1, len(source)) * sources.half[source]
        place = sources.position[source] + along[:, None] * neutrinos.flight[event]
        away = self.modules.position[module] - place
        distance = np.maximum(1, np.sqrt(np.einsum("pc,pc->p", away, away)))
        lengths = self.ice.along(place[:, 2].astype(np.float32), self.modules.position[module, 2])
        late = delay(rng, distance, *lengths)
        time = sources.time[source] + along / LIGHT_SPEED + distance * (GROUP_INDEX / LIGHT_SPEED) + late
        return PhotoElectrons(event, module, time, share + extra)
