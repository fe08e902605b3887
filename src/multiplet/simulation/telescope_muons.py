"""Muons in ice: how they lose energy, and how much light their tracks give.

Energies in GeV, lengths in m. A muon loses a + bE a metre on average. Of that, three quarters of b are lost in single
losses of a fraction v of the energy, v dN/dv ∝ (1 + v/0.01)^-1.6; those above 1 GeV are drawn one by one, and what is
left of them belongs to the continuous loss, so that the mean is exact whatever the threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LOSS = 0.2375  # a, GeV/m
RADIATION = 3.33e-4  # b, 1/m
STEP = 10.0  # m
THRESHOLD = 1.0  # GeV: losses above it are drawn one by one
LARGE = 50.0  # GeV: losses above it are places of light of their own
STOCHASTIC = 0.75  # of b
BARE = 2450.08  # photons a metre of a bare track, folded with what a module accepts
SHOWER = 5.254  # m of bare track a GeV of an electromagnetic shower
_TRACK_LOSSES = 0.5  # GeV: losses below it are in the light of the track
_ACCEPTED = 0.910 / 0.9216  # of ice in these units, over the ice of the published factors
_V = np.geomspace(1e-6, 0.95, 1500)


def _integral(density: np.ndarray) -> np.ndarray:
    """Of a density in v over log v, up to every _V."""
    v_density = density * _V
    steps = (v_density[1:] + v_density[:-1]) / 2 * np.diff(np.log(_V))
    return np.concatenate([[0], np.cumsum(steps)])


_LOG_V = np.log(_V)
_SHAPE = (1 + _V / 0.01) ** -1.6
_SCALE = STOCHASTIC * RADIATION / _integral(_SHAPE)[-1]
_NUMBER = _SCALE * _integral(_SHAPE / _V)  # losses a metre with less than v
_ENERGY = _SCALE * _integral(_SHAPE)  # of the energy a metre in losses with less than v


@dataclass(frozen=True)
class Track:
    """What muons leave, flat. Segments of the tracks: of which muon, where they begin (m along it), how long they are,

    the energy of the muon there, and the losses (GeV) in it that are not large; and the large losses.
    """

    muon: np.ndarray
    start: np.ndarray
    length: np.ndarray
    energy: np.ndarray
    losses: np.ndarray
    large_muon: np.ndarray
    large_at: np.ndarray
    large: np.ndarray

    @property
    def photons(self) -> np.ndarray:
        """Of every segment: the track, its unseen losses, and the small showers on it."""
        return BARE * (self.length * (track_light(self.energy) + SHOWER * _between(self.energy)) + SHOWER * self.losses)


def track_light(energy: np.ndarray) -> np.ndarray:
    """Light of a muon, with its losses below 0.5 GeV, over that of a bare track of the same length."""
    return 1 + np.maximum(0, 0.188 + 0.0206 * np.log(energy)) * _ACCEPTED


def _between(energy: np.ndarray) -> np.ndarray:
    """GeV a metre in losses above those that track_light holds and below those that are drawn."""
    low, high = (np.interp(np.log(limit / energy), _LOG_V, _ENERGY) for limit in (_TRACK_LOSSES, THRESHOLD))
    return energy * (high - low)


def mean_loss(energy: np.ndarray, length: float) -> np.ndarray:
    """Of a muon, GeV, over a path in which it does not stop."""
    return (energy + LOSS / RADIATION) * (1 - np.exp(-RADIATION * length))


def propagate(rng: np.random.Generator, energy: np.ndarray, length: np.ndarray) -> Track:
    """Muons of such energies followed over such lengths, each (muons,), or until they stop."""
    muon, at = np.flatnonzero((energy > LOSS) & (length > 0)), 0.0
    energy = energy[muon].astype(np.float64)
    segments, losses = [], []
    while len(muon):
        step = np.minimum(STEP, length[muon] - at)
        log_lowest = np.log(THRESHOLD / energy)
        number, fraction = (np.interp(log_lowest, _LOG_V, table) for table in (_NUMBER, _ENERGY))
        continuous = LOSS + energy * ((1 - STOCHASTIC) * RADIATION + fraction)
        step = np.minimum(step, energy / continuous)
        count = rng.poisson((_NUMBER[-1] - number) * step)
        who = np.repeat(np.arange(len(muon)), count)
        drawn = number[who] + rng.random(len(who)) * (_NUMBER[-1] - number[who])
        single = np.exp(np.interp(drawn, _NUMBER, _LOG_V)) * energy[who]
        total = np.bincount(who, single, len(muon))
        available = energy - continuous * step
        single *= np.minimum(1, available / np.maximum(total, 1e-9))[who]  # no more than it has
        apart = single > LARGE
        small = np.bincount(who[~apart], single[~apart], len(muon))
        segments.append((muon, np.full(len(muon), at), step, energy, small))
        where = at + rng.random(apart.sum()) * step[who[apart]]
        losses.append((muon[who[apart]], where, single[apart]))
        energy = available - np.minimum(total, available)
        at += STEP
        goes = (energy > LOSS) & (length[muon] > at)
        muon, energy = muon[goes], energy[goes]
    return _joined(segments, losses)


def _joined(segments: Sequence[tuple[np.ndarray, ...]], losses: Sequence[tuple[np.ndarray, ...]]) -> Track:
    """All that was left, step by step; the first row is for no muons at all."""
    none, nothing = np.zeros(0, np.int64), np.zeros(0)
    first = [(none, nothing, nothing, nothing, nothing)]
    muon, start, length, energy, small = (np.concatenate(part) for part in zip(*first, *segments, strict=True))
    large_muon, large_at, large = (np.concatenate(part) for part in zip((none, nothing, nothing), *losses, strict=True))
    return Track(muon, start, length, energy, small, large_muon, large_at, large)
