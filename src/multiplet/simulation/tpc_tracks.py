"""Particles in a time projection chamber: helices through material and gas, from row to row of pads (numba).

A particle moves on pieces of helix, exact between two surfaces, and loses energy after each. Lengths in cm, momenta in
GeV, charge in e, the field of 1.4 T along z. Rows and size are the published ones of the sPHENIX chamber; what lies
before the gas is lumped into five thin cylinders.
"""

from __future__ import annotations

from math import acos, atan2, cos, hypot, pi, sin, sqrt

import numpy as np

from multiplet.simulation.compiled import compiled
from multiplet.simulation.jet_tracks import uniform
from multiplet.simulation.tpc_matter import (
    CHARGE,
    ELECTRON,
    GAS_LOSS,
    KIND,
    LEAST_ENERGY,
    M_ELECTRON,
    MASS,
    PX,
    PY,
    PZ,
    SOLID_LOSS,
    X,
    Y,
    Z,
    decay,
    delta_ray,
    ionisation,
    isotropic,
    path_to_decay,
    scatter,
    size,
    slow_down,
)

FIELD = 1.4
CURVATURE = 0.299792458e-2 * FIELD  # pT = CURVATURE · |charge| · R
HALF_LENGTH = 105.0
ROWS = np.concatenate([np.linspace(*ends, 16) for ends in ((31.391, 39.963), (41.663, 56.965), (58.915, 75.363))])
PITCH = np.repeat([0.5715, 1.0201, 1.0965], 16)
RADIATION_LENGTHS = np.array([0.004, 0.010, 0.012, 0.012, 0.010])
CYLINDERS = len(RADIATION_LENGTHS)  # the gas begins at the last of them
SURFACES = np.concatenate([[2.0, 3.5, 8.0, 11.0, 30.0], ROWS, [78.0]])  # beyond the last a particle is gone

# Columns of a crossing: row, position, path in the row, ionisation relative to the minimum, tangent of the angle to
# the radius.
ROW, CX, CY, CZ, PATH, IONISATION, TANGENT = range(7)
CROSSING = 7

STEPS, CHILDREN = 4096, 64  # the most of one particle
STRAYS = 0.07  # soft electrons for each particle that leaves through the outer wall; sets the share of noise
_STRAY_MIN, _STRAY_MAX = 1e-4, 5e-3  # their kinetic energies
_PIECE = 5.0  # of path in the gas after which the energy is looked at again
_STEEP = 0.02  # cosine of the angle to the radius below which a crossing counts as no flatter
_STRING, _STRING_PATH = 3.0, 3.5  # what gives one cluster of a curler: so much z, at most so much path


@compiled
def next_surface(distance: float, radius: float, angle: float, outer: int) -> tuple[float, int]:
    """What a circle meets next: (angle to sweep, number of the surface), (0, -1) where it meets nothing.

    Its centre is `distance` from the beam; `angle` in (−π, π] is the particle's place on it, 0 farthest from the beam,
    and grows along the path; SURFACES[outer] is the nearest surface outside.
    """
    out = SURFACES[outer] < distance + radius
    if angle < 0.0 and out:
        return max(-_angle_at(SURFACES[outer], distance, radius) - angle, 0.0), outer
    if outer > 0 and SURFACES[outer - 1] > abs(distance - radius):
        return max(_angle_at(SURFACES[outer - 1], distance, radius) - angle, 0.0), outer - 1
    if out:
        return 2.0 * pi - _angle_at(SURFACES[outer], distance, radius) - angle, outer
    return 0.0, -1


@compiled
def _angle_at(surface: float, distance: float, radius: float) -> float:
    cosine = (surface**2 - distance**2 - radius**2) / (2.0 * distance * radius)
    return acos(min(max(cosine, -1.0), 1.0))


@compiled
def advance(at: np.ndarray, momentum: np.ndarray, charge: float, length: float) -> None:
    """Move a position (3,) and a momentum (3,) along their helix, in place."""
    pt, p = hypot(momentum[0], momentum[1]), size(momentum)
    signed = charge * pt / CURVATURE
    x, y = momentum[1] / pt * signed, -momentum[0] / pt * signed  # of the centre, from the particle
    turn = -charge * CURVATURE * length / p
    c, s = cos(turn), sin(turn)
    at[0] += x - c * x + s * y
    at[1] += y - s * x - c * y
    at[2] += length * momentum[2] / p
    momentum[0], momentum[1] = c * momentum[0] - s * momentum[1], s * momentum[0] + c * momentum[1]


@compiled
def walk(particle: np.ndarray, crossings: np.ndarray, children: np.ndarray, state: np.ndarray) -> tuple[int, int]:
    """Follow a charged particle until it leaves, stops or decays; gives how many crossings and children it filled.

    particle (PARTICLE,) is at its birth; crossings (STEPS, CROSSING) of rows come in the order of the path, one each
    time that the helix meets a row; children (CHILDREN, PARTICLE) are delta rays and the product of a decay.
    """
    momentum, at = particle[PX : PZ + 1].copy(), particle[X : Z + 1].copy()
    mass, charge, kind = particle[MASS], particle[CHARGE], int(particle[KIND])
    life = path_to_decay(kind, mass, size(momentum), state)
    outer = int(np.searchsorted(SURFACES, hypot(at[0], at[1]), side="right"))
    found, born = 0, 0
    while found < len(crossings) and outer < len(SURFACES) and abs(at[2]) < HALF_LENGTH:
        pt, p = hypot(momentum[0], momentum[1]), size(momentum)
        if pt < 1e-6 or hypot(p, mass) - mass < LEAST_ENERGY:
            break
        radius = pt / CURVATURE
        x, y = at[0] + charge * radius * momentum[1] / pt, at[1] - charge * radius * momentum[0] / pt
        dx, dy, gas = at[0] - x, at[1] - y, outer >= CYLINDERS
        angle = -charge * atan2(x * dy - y * dx, x * dx + y * dy)
        sweep, surface = next_surface(hypot(x, y), radius, angle, outer)
        if surface < 0:
            if gas:
                found += _string(x, y, at[2], momentum, mass, crossings[found:])
            break
        path, strength = radius * sweep * p / pt, ionisation(p / mass)
        room = _room(at[2], momentum[2] / p)
        length = min(path, life, room, _PIECE if gas else np.inf)
        if gas and born < CHILDREN - 1:  # the last place is for a decay
            born += _knock_out(at, momentum, mass, charge, length, children[born], state)
        advance(at, momentum, charge, length)
        life -= length
        if gas and not slow_down(momentum, mass, GAS_LOSS * strength * length):
            break
        if life <= 0.0:
            decay(kind, mass, momentum, children[born], state)
            children[born, CHARGE], children[born, X : Z + 1] = charge, at
            born += 1
        if life <= 0.0 or length == room:
            break
        if length < path:
            continue
        outer = surface + 1 if surface == outer else surface
        cosine = abs(at[0] * momentum[0] + at[1] * momentum[1]) / hypot(at[0], at[1]) / hypot(momentum[0], momentum[1])
        cosine = min(max(cosine, _STEEP), 1.0)
        stretch = p / pt / cosine
        if surface < CYLINDERS:
            thickness = RADIATION_LENGTHS[surface] * stretch
            if not slow_down(momentum, mass, SOLID_LOSS * strength * thickness):
                break
            scatter(momentum, mass, thickness, state)
        elif surface < len(SURFACES) - 1:
            row, out = surface - CYLINDERS, crossings[found]
            # Of a small circle no more than the half turn between two crossings lies in a row.
            out[ROW], out[CX : CZ + 1], out[PATH] = row, at, min(PITCH[row] / cosine, pi * radius) * p / pt
            out[IONISATION], out[TANGENT] = strength, sqrt(1.0 - cosine**2) / cosine
            found += 1
        elif born < CHILDREN and uniform(state) < STRAYS:
            _stray(children[born], state)
            born += 1
    return found, born


@compiled
def _stray(child: np.ndarray, state: np.ndarray) -> None:
    """Fill an electron as soft photons from around the chamber free them: anywhere in the gas, in any direction."""
    inner, outer = SURFACES[CYLINDERS], SURFACES[-1]
    radius, phi = sqrt(inner**2 + uniform(state) * (outer**2 - inner**2)), 2.0 * pi * uniform(state)
    kinetic = _STRAY_MIN * (_STRAY_MAX / _STRAY_MIN) ** uniform(state)
    child[PX], child[PY], child[PZ] = isotropic(sqrt(kinetic * (kinetic + 2.0 * M_ELECTRON)), state)
    child[MASS], child[CHARGE], child[KIND] = M_ELECTRON, -1.0, ELECTRON
    child[X], child[Y], child[Z] = radius * cos(phi), radius * sin(phi), HALF_LENGTH * (2.0 * uniform(state) - 1.0)


@compiled
def _room(z: float, slope: float) -> float:
    """The path to the end of the chamber, of a particle with slope = pz/p."""
    if slope == 0.0:
        return np.inf
    return ((HALF_LENGTH if slope > 0.0 else -HALF_LENGTH) - z) / slope


@compiled
def _knock_out(
    at: np.ndarray,
    momentum: np.ndarray,
    mass: float,
    charge: float,
    length: float,
    child: np.ndarray,
    state: np.ndarray,
) -> int:
    """Fill a delta ray, if there is one on the next piece of helix; gives how many: 0 or 1."""
    kinetic = delta_ray(mass, size(momentum), length, state)
    if kinetic == 0.0:
        return 0
    there, along = at.copy(), momentum.copy()
    advance(there, along, charge, length * uniform(state))
    child[PX], child[PY], child[PZ] = isotropic(sqrt(kinetic * (kinetic + 2.0 * M_ELECTRON)), state)
    child[MASS], child[CHARGE], child[KIND], child[X : Z + 1] = M_ELECTRON, -1.0, ELECTRON, there
    return 1


@compiled
def _string(x: float, y: float, z: float, momentum: np.ndarray, mass: float, crossings: np.ndarray) -> int:
    """Clusters of a curler around (x, y) that stays between two rows: one every few cm of z; gives how many."""
    distance, found = hypot(x, y), 0
    row = np.argmin(np.abs(ROWS - distance))
    if abs(ROWS[row] - distance) > PITCH[row]:
        return 0
    moving = True
    while moving and found < len(crossings):
        p = size(momentum)
        strength = ionisation(p / mass)
        range_left = (hypot(p, mass) - mass) / (GAS_LOSS * strength)
        path = min(_STRING / max(abs(momentum[2]) / p, 1e-9), _STRING_PATH, range_left)
        dz = path * momentum[2] / p
        if abs(z + dz) > HALF_LENGTH:
            break
        out = crossings[found]
        out[ROW], out[CX], out[CY] = row, x * ROWS[row] / distance, y * ROWS[row] / distance
        out[CZ], out[PATH], out[IONISATION], out[TANGENT] = z + 0.5 * dz, path, strength, 0.0
        found, z = found + 1, z + dz
        moving = slow_down(momentum, mass, GAS_LOSS * strength * path)
    return found


@compiled
def convert(photon: np.ndarray, children: np.ndarray, state: np.ndarray) -> int:
    """Let a photon turn into e⁺e⁻ in the material that it crosses; gives how many children it filled: 0 or 2."""
    px, py, x, y = photon[PX], photon[PY], photon[X], photon[Y]
    pt, p = hypot(px, py), size(photon[PX : PZ + 1])
    if pt < 1e-6 or p < 4.0 * M_ELECTRON:
        return 0
    along, across = (px * x + py * y) / pt, (px * y - py * x) / pt
    for surface in range(np.searchsorted(SURFACES, hypot(x, y), side="right"), CYLINDERS):
        half = sqrt(SURFACES[surface] ** 2 - across**2)
        stretch = p / pt * SURFACES[surface] / half
        if uniform(state) > 7.0 / 9.0 * RADIATION_LENGTHS[surface] * stretch:
            continue
        share = uniform(state)
        for i in range(2):
            part = share if i == 0 else 1.0 - share
            energy = M_ELECTRON + part * (p - 2.0 * M_ELECTRON)
            children[i, MASS], children[i, CHARGE], children[i, KIND] = M_ELECTRON, 1.0 - 2.0 * i, ELECTRON
            for axis in range(3):
                children[i, PX + axis] = photon[PX + axis] * sqrt(energy**2 - M_ELECTRON**2) / p
                children[i, X + axis] = photon[X + axis] + photon[PX + axis] / pt * (half - along)
        return 2
    return 0
