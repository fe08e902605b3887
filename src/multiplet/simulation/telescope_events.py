"""Neutrinos that interact in or near the telescope, and the places from which their light comes.

Metres, nanoseconds, GeV. Light comes from points: the segments of a muon's track, its large losses, and showers, each
at the mean of its length. Light yields follow L. Rädel and C. Wiebusch, Astropart. Phys. 38 (2012) 53 and 44 (2013)
102.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multiplet.simulation.telescope_muons import BARE, SHOWER, Track, propagate

LIGHT_SPEED = 0.299792458  # m/ns
SHARES = (0.60, 0.28, 0.12)  # of the INTERACTIONS of the layout
LOWEST, HIGHEST = 1e2, 1e6  # GeV
_TRACK, _CASCADE = 0, 1
_DISC = 650.0  # m around the middle that tracks aim at
_ALONG = (-900.0, 600.0)  # where they start, along their way, from where they are nearest to the middle
_FOLLOWED = 800.0  # up to where they are followed
_CYLINDER = (620.0, -620.0, 600.0)  # radius and ends of where showers start
_ACCEPTED = 0.910 / 0.9216  # of ice in these units, over the ice of the published factors


@dataclass(frozen=True)
class Neutrinos:
    """So many neutrinos: direction (E, 3) of flight, vertex (E, 3), and (E,) of each other quantity."""

    azimuth: np.ndarray  # of where they came from
    zenith: np.ndarray
    energy: np.ndarray
    interaction: np.ndarray  # code in INTERACTIONS
    hadronic: np.ndarray  # share of the energy that goes into hadrons
    flight: np.ndarray
    vertex: np.ndarray
    followed: np.ndarray  # m of a track that are in reach of the telescope

    def __len__(self) -> int:
        return len(self.energy)


@dataclass(frozen=True)
class Sources:
    """Places of light, flat: event, position (S, 3), time from the interaction, mean photons, half of a length."""

    event: np.ndarray
    position: np.ndarray
    time: np.ndarray
    photons: np.ndarray
    half: np.ndarray  # m along the flight to both sides; 0 for showers


def origin(azimuth: np.ndarray, zenith: np.ndarray) -> np.ndarray:
    """Unit vectors (…, 3) to where neutrinos came from."""
    return np.stack([np.cos(azimuth) * np.sin(zenith), np.sin(azimuth) * np.sin(zenith), np.cos(zenith)], -1)


def draw_neutrinos(rng: np.random.Generator, events: int, gamma: float, shares: Sequence[float] = SHARES) -> Neutrinos:
    """From all directions alike, with energies ∝ E^-gamma; `shares` are those of the interactions, and sum to 1."""
    azimuth, zenith = rng.random(events) * 2 * np.pi, np.arccos(rng.uniform(-1, 1, events))
    flight = -origin(azimuth, zenith)
    interaction = rng.choice(len(shares), events, p=shares)
    track = interaction == _TRACK
    nearest, start = _across(rng, flight), rng.uniform(*_ALONG, events)
    around, radius = rng.random(events) * 2 * np.pi, _CYLINDER[0] * np.sqrt(rng.random(events))
    inside = np.stack([radius * np.cos(around), radius * np.sin(around), rng.uniform(*_CYLINDER[1:], events)], 1)
    return Neutrinos(
        azimuth,
        zenith,
        _power_law(rng.random(events), gamma),
        interaction,
        rng.beta(0.9, 1.9, events),
        flight,
        np.where(track[:, None], nearest + start[:, None] * flight, inside),
        np.where(track, _FOLLOWED - start, 0),
    )


def _power_law(uniform: np.ndarray, gamma: float) -> np.ndarray:
    power = 1 - gamma
    if abs(power) < 1e-6:
        return LOWEST * (HIGHEST / LOWEST) ** uniform
    return (LOWEST**power + uniform * (HIGHEST**power - LOWEST**power)) ** (1 / power)


def _across(rng: np.random.Generator, flight: np.ndarray) -> np.ndarray:
    """Points (E, 3) on a disc around the middle, at right angles to the flight."""
    helper = np.where(np.abs(flight[:, 2:]) < 0.9, [[0, 0, 1]], [[1, 0, 0]])
    first = np.cross(flight, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    around, radius = rng.random(len(flight)) * 2 * np.pi, _DISC * np.sqrt(rng.random(len(flight)))
    second = np.cross(flight, first)
    return radius[:, None] * (np.cos(around)[:, None] * first + np.sin(around)[:, None] * second)


def light(rng: np.random.Generator, neutrinos: Neutrinos) -> Sources:
    """All places of light of these neutrinos."""
    hadronic = neutrinos.hadronic * neutrinos.energy
    leptonic = neutrinos.energy - hadronic
    every, cascades = np.arange(len(neutrinos)), np.flatnonzero(neutrinos.interaction == _CASCADE)
    tracks = np.flatnonzero(neutrinos.interaction == _TRACK)
    track = propagate(rng, leptonic[tracks], neutrinos.followed[tracks])
    showers = [
        (every, hadronic_centre(hadronic), hadronic_photons(rng, hadronic)),
        (cascades, electron_centre(leptonic[cascades]), electron_photons(leptonic[cascades])),
        (tracks[track.large_muon], track.large_at + electron_centre(track.large), electron_photons(track.large)),
    ]
    event, along, photons = (np.concatenate(part) for part in zip(*showers, _segments(tracks, track), strict=True))
    half = np.zeros(len(event))
    half[len(event) - len(track.length) :] = track.length / 2
    position = neutrinos.vertex[event] + along[:, None] * neutrinos.flight[event]
    return Sources(event, position, along / LIGHT_SPEED, photons, half)


def _segments(tracks: np.ndarray, track: Track) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tracks[track.muon], track.start + track.length / 2, track.photons


def electron_photons(energy: np.ndarray) -> np.ndarray:
    """Photons of electromagnetic showers of so many GeV."""
    return BARE * SHOWER * energy


def hadronic_photons(rng: np.random.Generator, energy: np.ndarray) -> np.ndarray:
    """Photons of hadronic showers, which vary from one to the next."""
    above = np.maximum(energy, 2.72)
    mean, spread = hadronic_light(above), 0.959 * np.log(above) ** -1.356
    return electron_photons(energy) * np.clip(mean * (1 + spread * rng.standard_normal(len(energy))), 0.02, 1.1)


def hadronic_light(energy: np.ndarray) -> np.ndarray:
    """Mean light of a hadronic shower, over that of an electromagnetic one of the same energy."""
    return 1 - (energy / 0.188) ** -0.1627 * (1 - 0.3097)


def electron_centre(energy: np.ndarray) -> np.ndarray:
    """m from the start of an electromagnetic shower to the mean of its light."""
    return np.maximum(0, 2.018 + 0.632 * np.log(np.maximum(energy, 1))) * 0.3965 * _ACCEPTED / 0.632


def hadronic_centre(energy: np.ndarray) -> np.ndarray:
    """m from the start of a hadronic shower to the mean of its light."""
    return (1.584 + 0.419 * np.log(np.maximum(energy, 1))) * 0.3915 / 0.338
