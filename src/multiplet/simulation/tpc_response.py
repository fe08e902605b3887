"""From particles to spacepoints of a time projection chamber: ionisation, diffusion, clusters, truth (numba).

Lengths in cm, momenta in GeV. Random numbers come from one stream an event, so that the response to an event is a
function of its key alone, whatever else is simulated with it.
"""

from __future__ import annotations

from math import atan2, hypot, log, pi, sqrt

import numpy as np

from multiplet.simulation.compiled import compiled
from multiplet.simulation.jet_tracks import normal, uniform
from multiplet.simulation.tpc_matter import CHARGE, KIND, PARTICLE, PX, PY, PZ, Z, size
from multiplet.simulation.tpc_tracks import (
    CHILDREN,
    CROSSING,
    CX,
    CY,
    CZ,
    HALF_LENGTH,
    IONISATION,
    PATH,
    ROW,
    ROWS,
    STEPS,
    TANGENT,
    convert,
    walk,
)

# Columns of a spacepoint; from OWNER on, those of truth.
P_ROW, P_PHI, P_Z, P_ADC, OWNER = range(5)
T_ID, T_PT, T_ETA, T_CHARGE, T_KIND, T_NOISE = range(5, 11)
POINT = 11

VERTEX_SPREAD = 10.0  # along the beam
NOISE_MOMENTUM = 0.06  # at its birth; a particle with less is noise
_EFFICIENCY = 0.985
_PRIMARIES, _LONGEST = 28.0, 4.0  # ionisations per cm at the minimum; the longest path that one cluster sees
_ALONE, _CLUSTER_MAX = 0.7, 60.0  # chance of a single electron; the most electrons of one ionisation
_MANY = 300.0  # ionisations from which their sum is drawn as a normal number
_MEAN = 1.0 + (1.0 - _ALONE) * (1.0 + log(_CLUSTER_MAX - 1.0))
_MEAN_SQUARE = _ALONE + (1.0 - _ALONE) * (
    1.0 + 2.0 * (1.0 + log(_CLUSTER_MAX - 1.0)) + 2.0 * (_CLUSTER_MAX - 1.0) - 1.0
)
_GAIN, _GAIN_SPREAD = 1.92, 0.15  # ADC counts an electron, and their spread over channels
_ADC_MIN, _ADC_MAX = 20.0, 6250.0
_NEAR_PHI, _NEAR_Z = 0.4, 0.5  # closer spacepoints of a row are one; cm


@compiled
def electrons(expected: float, state: np.ndarray) -> float:
    """Electrons of a Poisson number of ionisations: mostly one each, else 1 + 1/u of them."""
    if expected > _MANY:
        return max(expected * _MEAN + sqrt(expected * _MEAN_SQUARE) * normal(state), 0.0)
    total, gap = 0.0, -log(uniform(state))
    while gap < expected:
        total += 1.0
        if uniform(state) > _ALONE:
            total += min(1.0 / uniform(state), _CLUSTER_MAX - 1.0)
        gap -= log(uniform(state))
    return total


@compiled
def measure(crossing: np.ndarray, point: np.ndarray, state: np.ndarray) -> bool:
    """Fill row, φ, z and ADC of the cluster that a crossing leaves; False where it leaves none."""
    if uniform(state) > _EFFICIENCY:
        return False
    freed = electrons(_PRIMARIES * min(crossing[PATH], _LONGEST) * crossing[IONISATION], state)
    adc = np.floor(_GAIN * freed * (1.0 + _GAIN_SPREAD * normal(state)) + 0.5)
    drift = 1.0 - abs(crossing[CZ]) / HALF_LENGTH
    across = sqrt(0.010**2 + 0.012**2 * drift + (0.02 * min(crossing[TANGENT], 10.0)) ** 2)
    row = int(crossing[ROW])
    point[P_ROW], point[P_ADC] = row, min(adc, _ADC_MAX)
    point[P_PHI] = _wrap(atan2(crossing[CY], crossing[CX]) + across * normal(state) / ROWS[row])
    point[P_Z] = crossing[CZ] + sqrt(0.04**2 + 0.03**2 * drift) * normal(state)
    return adc >= _ADC_MIN and abs(point[P_Z]) < HALF_LENGTH


@compiled
def _wrap(phi: float) -> float:
    return phi - 2.0 * pi * np.floor((phi + pi) / (2.0 * pi))


@compiled
def merge(points: np.ndarray) -> int:
    """Join spacepoints of a row that the readout cannot tell apart, in place; gives how many are left.

    points (M, POINT) are sorted by row and φ. A joined spacepoint lies at the mean, weighted with the ADC, of its parts
    and belongs to the owner of the largest.
    """
    kept = 0
    for i in range(len(points)):
        row, phi, z, adc, largest = (
            points[i, P_ROW],
            points[i, P_PHI],
            points[i, P_Z],
            points[i, P_ADC],
            points[i, P_ADC],
        )
        if adc == 0.0:
            continue
        for j in range(i + 1, len(points)):
            if points[j, P_ROW] != row or (points[j, P_PHI] - phi) * ROWS[int(row)] > _NEAR_PHI:
                break
            more = points[j, P_ADC]
            if more == 0.0 or abs(points[j, P_Z] - z) > _NEAR_Z:
                continue
            if more > largest:
                largest, points[i, OWNER] = more, points[j, OWNER]
            phi = (adc * phi + more * points[j, P_PHI]) / (adc + more)
            z = (adc * z + more * points[j, P_Z]) / (adc + more)
            adc, points[j, P_ADC] = adc + more, 0.0
        points[kept, OWNER] = points[i, OWNER]
        points[kept, P_ROW], points[kept, P_PHI], points[kept, P_Z], points[kept, P_ADC] = (
            row,
            phi,
            z,
            min(adc, _ADC_MAX),
        )
        kept += 1
    return kept


@compiled
def label(points: np.ndarray, particles: np.ndarray) -> None:
    """Fill the truth of spacepoints from their owners; ids count the owners in the order of their first spacepoint."""
    names, count = np.full(len(particles), -1, np.int64), 0
    for point in points:
        owner = int(point[OWNER])
        if names[owner] < 0:
            names[owner], count = count, count + 1
        particle = particles[owner]
        pt = hypot(particle[PX], particle[PY])
        point[T_ID], point[T_PT], point[T_ETA] = names[owner], pt, np.arcsinh(particle[PZ] / pt)
        point[T_CHARGE], point[T_KIND] = particle[CHARGE], particle[KIND]
        point[T_NOISE] = 1.0 if size(particle[PX : PZ + 1]) < NOISE_MOMENTUM else 0.0


@compiled
def _grown(array: np.ndarray, used: int, more: int) -> np.ndarray:
    """The array, or a larger copy where `more` rows do not fit after the used ones."""
    if used + more <= len(array):
        return array
    larger = np.empty((2 * (used + more), array.shape[1]))
    larger[:used] = array[:used]
    return larger


@compiled
def _sorted(points: np.ndarray) -> np.ndarray:
    """By row and φ: by nothing that tells of tracks."""
    return points[np.argsort(10.0 * points[:, P_ROW] + points[:, P_PHI], kind="mergesort")]


@compiled
def event(primaries: np.ndarray, vertex: float, state: np.ndarray) -> np.ndarray:
    """Spacepoints (M, POINT) of one collision, sorted by row and φ, from its particles (P, PARTICLE)."""
    particles, points = primaries.copy(), np.empty((1024, POINT))
    crossings, children = np.empty((STEPS, CROSSING)), np.empty((CHILDREN, PARTICLE))
    particles[:, Z] += vertex
    at, known, used = 0, len(particles), 0
    while at < known:
        found = 0
        if particles[at, CHARGE] == 0.0:
            born = convert(particles[at], children, state)
        else:
            found, born = walk(particles[at], crossings, children, state)
        particles = _grown(particles, known, born)
        particles[known : known + born] = children[:born]
        known += born
        points = _grown(points, used, found)
        for i in range(found):
            if measure(crossings[i], points[used], state):
                points[used, OWNER] = at
                used += 1
        at += 1
    points = _sorted(points[:used])
    points = _sorted(points[: merge(points)])
    label(points, particles)
    return points


@compiled
def respond(particles: np.ndarray, offsets: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spacepoints of a batch of collisions: (points (M, POINT), offsets (events + 1,), z of the vertices (events,)).

    particles (P, PARTICLE) have the collision at the origin; event i holds rows offsets[i] to offsets[i + 1] and draws
    from keys[i] (uint64).
    """
    out, ends, vertices = np.empty((4096, POINT)), np.zeros(len(offsets), np.int64), np.empty(len(offsets) - 1)
    state = np.empty(1, np.uint64)
    for i in range(len(vertices)):
        state[0] = keys[i]
        vertices[i] = VERTEX_SPREAD * normal(state)
        points = event(particles[offsets[i] : offsets[i + 1]], vertices[i], state)
        out = _grown(out, ends[i], len(points))
        ends[i + 1] = ends[i] + len(points)
        out[ends[i] : ends[i + 1]] = points
    return out[: ends[-1]], ends, vertices
