"""A fast CMS-like detector: from stable particles to energy-flow objects, compiled with numba.

The order and the numbers are the public facts of the CMS card of Delphes 3 (arXiv 1307.6346) as JetClass used it:
helix to the calorimeter → tracking efficiency → momentum smearing → impact-parameter smearing → ECAL → HCAL → energy
flow. Lengths in mm, momenta and energies in GeV.

Random numbers come from SplitMix64 (Steele, Lea, Flood 2014), one stream an event, so that the response to an event
is a function of its key alone, whatever else is simulated with it.
"""

from __future__ import annotations

from math import asinh, cos, cosh, floor, hypot, log, pi, sin, sinh, sqrt
from math import exp as exponential

import numpy as np

from multiplet.simulation.compiled import compiled
from multiplet.simulation.jet_tracks import (
    COLUMNS,
    ENERGY,
    ETA,
    MASS,
    PHI_SURFACE,
    PID,
    PX,
    PY,
    PZ,
    RESOLUTION,
    normal,
    surface,
    track,
    uniform,
)

PHOTON, NEUTRAL_HADRON = 22, 0  # PID of objects that a calorimeter alone has seen
_ENERGY_MIN = (0.5, 1.0)  # of ECAL and HCAL towers
_SIGNIFICANCE_MIN = (2.0, 1.0)

_HF = np.array([3.125, 3.3, 3.475, 3.65, 3.825, 4.0, 4.175, 4.35, 4.525, 4.7, 5.0])


def _ecal() -> tuple[np.ndarray, np.ndarray]:
    """Edges in η, and cells in φ of each ring: 0.0174 × 1° up to |η| = 2.958, then the forward calorimeter."""
    fine = np.arange(-170, 171) * 0.0174
    cells = [np.full(len(_HF), 36), np.full(len(fine) - 1, 360), np.full(len(_HF), 36)]
    return np.concatenate([-_HF[::-1], fine, _HF]), np.concatenate(cells)


def _hcal() -> tuple[np.ndarray, np.ndarray]:
    """The same for the HCAL: 0.087 × 5° up to |η| = 1.653, 10° up to 4.525, 20° beyond."""
    barrel, endcap = np.arange(20) * 0.087, [1.74, 1.83, 1.93, 2.043, 2.172, 2.322, 2.5, 2.65, 2.868, 2.95]
    half = np.concatenate([barrel, endcap, _HF])
    cells = np.concatenate([np.full(19, 72), np.full(len(half) - 1 - 19 - 2, 36), np.full(2, 18)])
    return np.concatenate([-half[:0:-1], half]), np.concatenate([cells[::-1], cells])


_ECAL_EDGES, _ECAL_CELLS = _ecal()
_HCAL_EDGES, _HCAL_CELLS = _hcal()


@compiled
def resolution(hcal: bool, eta: float, energy: float) -> float:
    """σ_E in GeV of a tower centred at η."""
    eta = abs(eta)
    if hcal:
        if eta <= 3.0:
            return sqrt((0.05 * energy) ** 2 + 1.5**2 * energy)
        return sqrt((0.13 * energy) ** 2 + 2.7**2 * energy)
    if eta > 2.5:
        return sqrt((0.107 * energy) ** 2 + 2.08**2 * energy)
    shape = 1.0 + 0.64 * eta**2 if eta <= 1.5 else 2.16 + 5.6 * (eta - 2.0) ** 2
    return shape * sqrt((0.008 * energy) ** 2 + 0.11**2 * energy + 0.40**2)


@compiled
def fraction(hcal: bool, pid: int) -> float:
    """The share of a particle's energy that a calorimeter sees."""
    pid = abs(pid)
    if pid in (12, 13, 14, 16):
        return 0.0
    if pid in (11, 22, 111):
        return 0.0 if hcal else 1.0
    if pid in (310, 3122):
        return 0.7 if hcal else 0.3
    return 1.0 if hcal else 0.0


@compiled
def _tower(hcal: bool, eta: float, phi: float) -> int:
    """The number of the tower at a direction, -1 outside."""
    edges, cells = (_HCAL_EDGES, _HCAL_CELLS) if hcal else (_ECAL_EDGES, _ECAL_CELLS)
    ring = np.searchsorted(edges, eta) - 1
    if ring < 0 or ring >= len(cells):
        return -1
    cell = floor((phi + pi) / (2.0 * pi) * cells[ring])
    return ring * 1000 + min(max(cell, 0), cells[ring] - 1)


@compiled
def log_normal(mean: float, sigma: float, state: np.ndarray) -> float:
    """A log-normal number of this mean and standard deviation; 0 where the mean is."""
    if mean <= 0.0:
        return 0.0
    width = sqrt(log(1.0 + (sigma / mean) ** 2))
    return mean * exponential(width * normal(state) - 0.5 * width**2)


@compiled
def _rescale(row: np.ndarray, factor: float) -> None:
    """Multiply a track's momentum, keeping its mass."""
    for axis in (PX, PY, PZ):
        row[axis] *= factor
    row[ENERGY] = sqrt(row[PX] ** 2 + row[PY] ** 2 + row[PZ] ** 2 + row[MASS] ** 2)


@compiled
def _neutral(hcal: bool, energy: float, eta: float, phi: float, out: np.ndarray) -> None:
    pt = energy / cosh(eta)
    out[:] = 0.0
    out[PX], out[PY], out[PZ], out[ENERGY], out[ETA] = pt * cos(phi), pt * sin(phi), pt * sinh(eta), energy, eta
    out[PID] = NEUTRAL_HADRON if hcal else PHOTON


@compiled
def _flow(
    hcal: bool, tower: int, deposit: float, tracks: np.ndarray, members: np.ndarray, out: np.ndarray, state: np.ndarray
) -> int:
    """Energy flow of one tower: rescales its tracks in place, or fills one neutral object and gives 1.

    `tracks[members]` are the tower's tracks that leave energy in this calorimeter.
    """
    edges, cells = (_HCAL_EDGES, _HCAL_CELLS) if hcal else (_ECAL_EDGES, _ECAL_CELLS)
    ring, cell = tower // 1000, tower % 1000
    centre = 0.5 * (edges[ring] + edges[ring + 1])
    energy = log_normal(deposit, resolution(hcal, centre, deposit), state)
    eta = edges[ring] + (edges[ring + 1] - edges[ring]) * uniform(state)
    phi = -pi + (cell + uniform(state)) * 2.0 * pi / cells[ring]
    sigma = resolution(hcal, centre, energy)
    if energy < _ENERGY_MIN[int(hcal)] or energy < _SIGNIFICANCE_MIN[int(hcal)] * sigma:
        energy = 0.0
    charged, variance = 0.0, 0.0
    for member in members:
        charged += tracks[member, ENERGY]
        variance += (tracks[member, RESOLUTION] * tracks[member, ENERGY]) ** 2
    excess = energy - charged
    if excess > _ENERGY_MIN[int(hcal)] and excess > _SIGNIFICANCE_MIN[int(hcal)] * sqrt(variance + sigma**2):
        _neutral(hcal, excess, eta, phi, out)
        return 1
    if charged > 0.0:
        # Inverse-variance mean of track sum and tower; tracks of no stated resolution give way to the tower.
        share = sigma**2 / (sigma**2 + variance) if variance > 0.0 else 0.0
        for member in members:
            _rescale(tracks[member], share + (1.0 - share) * energy / charged)
    return 0


@compiled
def _calorimeter(
    hcal: bool, hits: np.ndarray, tracks: np.ndarray, electron: np.ndarray, out: np.ndarray, state: np.ndarray
) -> int:
    """Towers of one calorimeter. hits (H, 3): η, φ at its face and energy left; gives how many neutrals went to out."""
    n, size = len(hits), len(hits) + len(tracks)
    towers = np.empty(size, np.int64)
    for i in range(n):
        towers[i] = _tower(hcal, hits[i, 0], hits[i, 1])
    for i in range(len(tracks)):
        seen = electron[i] != hcal and abs(tracks[i, PID]) != 13
        towers[n + i] = _tower(hcal, tracks[i, ETA], tracks[i, PHI_SURFACE]) if seen else -1
    order = np.argsort(towers, kind="mergesort")
    members, filled, at = np.empty(len(tracks), np.int64), 0, 0
    while at < size:
        tower, deposit, count = towers[order[at]], 0.0, 0
        while at < size and towers[order[at]] == tower:
            if order[at] < n:
                deposit += hits[order[at], 2]
            else:
                members[count] = order[at] - n
                count += 1
            at += 1
        if tower >= 0:
            filled += _flow(hcal, tower, deposit, tracks, members[:count], out[filled], state)
    return filled


@compiled
def _event(
    particles: np.ndarray, pid: np.ndarray, charge: np.ndarray, compatible: bool, out: np.ndarray, state: np.ndarray
) -> int:
    """Energy flow of one event; gives how many rows of out were filled."""
    n = len(particles)
    ecal, hcal = np.empty((n, 3)), np.empty((n, 3))
    tracks, electron = np.empty((n, COLUMNS)), np.empty(n, np.bool_)
    n_ecal, n_hcal, n_tracks = 0, 0, 0
    for i in range(n):
        reached, eta, phi = surface(particles[i], charge[i])
        if not reached:
            continue
        if charge[i] != 0 and track(particles[i], pid[i], charge[i], eta, phi, compatible, tracks[n_tracks], state):
            electron[n_tracks] = abs(pid[i]) == 11
            n_tracks += 1
        share = fraction(False, pid[i])
        if share > 0.0:
            ecal[n_ecal, 0], ecal[n_ecal, 1], ecal[n_ecal, 2] = eta, phi, share * particles[i, ENERGY]
            n_ecal += 1
        share = fraction(True, pid[i])
        if share > 0.0:
            hcal[n_hcal, 0], hcal[n_hcal, 1], hcal[n_hcal, 2] = eta, phi, share * particles[i, ENERGY]
            n_hcal += 1
    kept, light = tracks[:n_tracks], electron[:n_tracks]
    filled = _calorimeter(False, ecal[:n_ecal], kept, light, out, state)
    filled += _calorimeter(True, hcal[:n_hcal], kept, light, out[filled:], state)
    for i in range(n_tracks):
        if hypot(kept[i, PX], kept[i, PY]) > 0.0:  # a track whose tower fell below threshold is gone
            out[filled] = kept[i]
            if not compatible:
                out[filled, ETA] = asinh(kept[i, PZ] / hypot(kept[i, PX], kept[i, PY]))
            filled += 1
    return filled


@compiled
def respond(
    particles: np.ndarray, pid: np.ndarray, charge: np.ndarray, offsets: np.ndarray, keys: np.ndarray, compatible: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Energy-flow objects of a batch of events: (objects (M, COLUMNS), offsets (events + 1)).

    particles (P, 7): px, py, pz, E in GeV and the production point x, y, z in mm of stable particles; pid their PDG
    ids, charge in e; event i holds rows offsets[i] to offsets[i + 1] and draws from keys[i] (uint64). `compatible`
    switches on the two facts of JetClass: tracks keep their true momentum at no stated resolution, so that a tower
    without an excess overrides them, and the η of a charged object is that of its impact on the calorimeter.
    """
    out = np.empty((3 * len(particles), COLUMNS))
    ends = np.zeros(len(offsets), np.int64)
    state = np.empty(1, np.uint64)
    for i in range(len(offsets) - 1):
        rows = slice(offsets[i], offsets[i + 1])
        state[0] = keys[i]
        ends[i + 1] = ends[i] + _event(particles[rows], pid[rows], charge[rows], compatible, out[ends[i] :], state)
    return out[: ends[-1]], ends
