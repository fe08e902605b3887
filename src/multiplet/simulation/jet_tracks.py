"""Charged particles in the fast detector: helix, efficiency, momentum and impact-parameter resolution (numba).

Numbers are the public facts of the CMS card of Delphes 3 (arXiv 1307.6346). Lengths in mm, momenta in GeV, charge in
units of e, the field of 3.8 T along z.
"""

from __future__ import annotations

from math import asinh, atan2, cos, exp, hypot, log, pi, sin, sqrt

import numpy as np

from multiplet.simulation.compiled import compiled

FIELD = 3.8
RADIUS = 1290.0
HALF_LENGTH = 3000.0
CURVATURE = 0.299792458e-3 * FIELD  # pT = CURVATURE · |charge| · R

# Columns of an energy-flow object; the last three are needed only on the way.
PX, PY, PZ, ENERGY, ETA, D0, D0_ERR, DZ, DZ_ERR, CHARGE, PID, MASS, PHI_SURFACE, RESOLUTION = range(14)
COLUMNS = 14

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S11, _S27, _S30, _S31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)


@compiled
def next_bits(state: np.ndarray) -> np.uint64:
    """The next 64 bits of SplitMix64; state is one uint64, moved on in place."""
    state[0] += _GAMMA
    z = state[0]
    z = (z ^ (z >> _S30)) * _MIX1
    z = (z ^ (z >> _S27)) * _MIX2
    return z ^ (z >> _S31)


@compiled
def uniform(state: np.ndarray) -> float:
    """The next number in (0, 1)."""
    return (np.float64(next_bits(state) >> _S11) + 0.5) / 9007199254740992.0


@compiled
def event_keys(seed: np.uint64, first: int, count: int) -> np.ndarray:
    """Unrelated states for the random numbers of events first, first + 1, …: (count,) uint64."""
    keys, state = np.empty(count, np.uint64), np.empty(1, np.uint64)
    for i in range(count):
        state[0] = seed
        start = next_bits(state)
        state[0] = start ^ np.uint64(first + i)
        keys[i] = next_bits(state)
    return keys


@compiled
def normal(state: np.ndarray) -> float:
    """The next standard normal number (Box, Muller 1958)."""
    radius = sqrt(-2.0 * log(uniform(state)))
    return radius * cos(2.0 * pi * uniform(state))


@compiled
def circle(px: float, py: float, x: float, y: float, charge: int) -> tuple[float, float, float]:
    """Centre (x, y) and radius of a helix seen along the beam: R = pT / (0.2998 B |q|)."""
    signed = hypot(px, py) / (CURVATURE * charge)
    return x + signed * py / hypot(px, py), y - signed * px / hypot(px, py), abs(signed)


@compiled
def surface(particle: np.ndarray, charge: int) -> tuple[bool, float, float]:
    """Where a particle meets the calorimeter: (reached, η, φ) of the point on the cylinder, seen from the origin.

    particle: px, py, pz, E, x, y, z. Those born outside or along the beam do not reach it.
    """
    px, py, pz, _, x, y, z = particle
    pt = hypot(px, py)
    if hypot(x, y) > RADIUS or abs(z) > HALF_LENGTH or pt < 3e-5:
        return False, 0.0, 0.0
    if pz != 0.0:
        path = (HALF_LENGTH * (1.0 if pz > 0.0 else -1.0) - z) * pt / pz  # transverse path to the end cap
    else:
        path = np.inf
    if charge == 0:
        along, across = (px * x + py * y) / pt, (px * y - py * x) / pt
        path = min(path, -along + sqrt(RADIUS**2 - across**2))
        x, y = x + path * px / pt, y + path * py / pt
    else:
        x_c, y_c, radius = circle(px, py, x, y, charge)
        start = atan2(y - y_c, x - x_c)
        turn = -1.0 if charge > 0 else 1.0  # a positive charge turns clockwise in a field along +z
        distance = hypot(x_c, y_c)
        if distance + radius > RADIUS:  # else it curls up inside and leaves by an end
            beta = np.arccos(min(max((RADIUS**2 - distance**2 - radius**2) / (2.0 * distance * radius), -1.0), 1.0))
            towards = atan2(y_c, x_c)
            first = (turn * (towards + beta - start)) % (2.0 * pi)
            second = (turn * (towards - beta - start)) % (2.0 * pi)
            path = min(path, radius * min(first, second))
        angle = start + turn * path / radius
        x, y = x_c + radius * cos(angle), y_c + radius * sin(angle)
    if path == np.inf:
        return False, 0.0, 0.0
    rho = hypot(x, y)
    if rho == 0.0:
        return False, 0.0, 0.0
    return True, asinh((z + path * pz / pt) / rho), atan2(y, x)


@compiled
def perigee(particle: np.ndarray, charge: int) -> tuple[float, float, float]:
    """(d0, dz, φ): signed impact parameters in mm and the momentum's φ where the helix is closest to the beam.

    d0 = (x p_y − y p_x)/pT and dz = z there, the sign convention of Delphes.
    """
    px, py, pz, _, x, y, z = particle
    pt = hypot(px, py)
    x_c, y_c, radius = circle(px, py, x, y, charge)
    distance = hypot(x_c, y_c)
    scale = 1.0 - radius / distance if distance > 0.0 else 0.0
    x_d, y_d = x_c * scale, y_c * scale
    turn = -1.0 if charge > 0 else 1.0
    swept = atan2(y_d - y_c, x_d - x_c) - atan2(y - y_c, x - x_c)
    swept = (swept + pi) % (2.0 * pi) - pi
    phi = atan2(py, px) + swept
    phi = (phi + pi) % (2.0 * pi) - pi
    return x_d * sin(phi) - y_d * cos(phi), z + turn * swept * radius * pz / pt, phi


@compiled
def efficiency(pid: int, pt: float, eta: float) -> float:
    """The chance that a charged particle leaves a track."""
    eta, pid = abs(eta), abs(pid)
    if pt <= 0.1 or eta > 2.5:
        return 0.0
    central = eta <= 1.5
    if pid == 11:
        if pt <= 1.0:
            return 0.73 if central else 0.50
        if pt <= 100.0:
            return 0.95 if central else 0.83
        return 0.99 if central else 0.90
    if pid == 13:
        if pt <= 1.0:
            return 0.75 if central else 0.70
        return (0.99 if central else 0.98) * (exp(0.5 - 5e-4 * pt) if pt > 1000.0 else 1.0)
    if pt <= 1.0:
        return 0.70 if central else 0.60
    return 0.95 if central else 0.85


@compiled
def momentum_resolution(pid: int, pt: float, eta: float) -> float:
    """σ(pT)/pT = √(a² + (b pT)²)."""
    eta, pid = abs(eta), abs(pid)
    ring = 0 if eta <= 0.5 else (1 if eta <= 1.5 else 2)
    if pid == 13:
        return hypot((0.01, 0.015, 0.025)[ring], (1.0e-4, 1.5e-4, 3.5e-4)[ring] * pt)
    slope = (1.3e-3, 1.7e-3, 3.1e-3)[ring] * pt
    return hypot((0.03, 0.05, 0.15)[ring] if pid == 11 else (0.06, 0.10, 0.25)[ring], slope)


@compiled
def impact_errors(pt: float, eta: float) -> tuple[float, float]:
    """(σ(d0), σ(dz)) in mm: fits to the card's tables; 0 where the card gives none."""
    eta = abs(eta)
    if pt < 0.1823 or eta > 2.5:
        return 0.0, 0.0
    if eta <= 0.9:
        return hypot(0.0108, 0.0864 / pt**0.775), hypot(0.0307, 0.1160 / pt**0.747)
    if eta <= 1.4:
        return hypot(0.0098, 0.1034 / pt**0.800), hypot(0.0344, 0.2019 / pt**0.786)
    return hypot(0.0140, 0.1632 / pt**0.885), hypot(0.0792, 0.6593 / pt**0.868)


@compiled
def track(
    particle: np.ndarray,
    pid: int,
    charge: int,
    eta: float,
    phi: float,
    compatible: bool,
    out: np.ndarray,
    state: np.ndarray,
) -> bool:
    """Fill one row with the track of a charged particle that meets the calorimeter at (η, φ); False where none is."""
    pt = hypot(particle[0], particle[1])
    if uniform(state) > efficiency(pid, pt, eta):
        return False
    d0, dz, direction = perigee(particle, charge)
    slope = particle[2] / pt
    mass = sqrt(max(particle[3] ** 2 - pt**2 - particle[2] ** 2, 0.0))
    relative = 0.0
    if not compatible:
        relative = momentum_resolution(pid, pt, eta)
        width = sqrt(log(1.0 + min(relative, 1.0) ** 2))
        pt *= exp(width * normal(state) - 0.5 * width**2)
    d0_error, dz_error = impact_errors(pt, asinh(slope))
    out[PX], out[PY], out[PZ] = pt * cos(direction), pt * sin(direction), pt * slope
    out[ENERGY] = sqrt(pt**2 * (1.0 + slope**2) + mass**2)
    out[ETA], out[PHI_SURFACE] = eta, phi
    out[D0], out[D0_ERR] = d0 + d0_error * normal(state), d0_error
    out[DZ], out[DZ_ERR] = dz + dz_error * normal(state), dz_error
    out[CHARGE], out[PID], out[MASS], out[RESOLUTION] = charge, pid, mass, relative
    return True
