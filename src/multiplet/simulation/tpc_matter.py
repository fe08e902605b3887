"""What happens to a particle in a time projection chamber: ionisation, scattering, delta rays, decays (numba).

Lengths in cm, momenta, energies and masses in GeV, charge in e. The gas is Ne-CF4.
"""

from __future__ import annotations

from math import cos, hypot, log, pi, sin, sqrt

import numpy as np

from multiplet.simulation.compiled import compiled
from multiplet.simulation.jet_tracks import normal, uniform

# Columns of a particle at its birth; the charge is -1, 0 or 1, the kind a place in tpcpp.PARTICLES.
PX, PY, PZ, MASS, CHARGE, X, Y, Z, KIND = range(9)
PARTICLE = 9

OTHER, PION, KAON, PROTON, ELECTRON = range(5)
M_ELECTRON, M_MUON, M_PION, M_PI0, M_KAON = 0.000511, 0.105658, 0.139570, 0.134977, 0.493677
C_TAU_PION, C_TAU_KAON, KAON_TO_MUON = 780.45, 371.2, 0.6356

GAS_LOSS = 3.5e-6  # per cm at the minimum of ionisation
SOLID_LOSS = 0.036  # per radiation length, at the minimum too
LEAST_ENERGY = 2e-5  # kinetic; a slower particle stops

_DELTA_MIN, _DELTA_MAX = 5e-5, 0.01  # kinetic energies of delta rays that become tracks of their own
_DELTA_RATE = 0.1535e-3 * 0.48 * 2.2e-3  # GeV/cm: K Z/A ρ / 2 of the gas


@compiled
def ionisation(beta_gamma: float) -> float:
    """Mean ionisation in the gas relative to its minimum, in the form of ALEPH (Blum, Riegler, Rolandi 2008)."""
    shape = (beta_gamma / sqrt(1.0 + beta_gamma**2)) ** 1.863
    return (10.632 - shape - log(1.34e-5 + beta_gamma**-1.948)) / (13.06 * shape)


@compiled
def size(momentum: np.ndarray) -> float:
    """|p|."""
    return sqrt(momentum[0] ** 2 + momentum[1] ** 2 + momentum[2] ** 2)


@compiled
def slow_down(momentum: np.ndarray, mass: float, loss: float) -> bool:
    """Take so much energy from a momentum (3,) in place; False, and nothing done, where the particle stops instead."""
    p = size(momentum)
    energy = hypot(p, mass) - loss
    if energy - mass < LEAST_ENERGY:
        return False
    momentum *= sqrt(energy**2 - mass**2) / p
    return True


@compiled
def scatter(momentum: np.ndarray, mass: float, thickness: float, state: np.ndarray) -> None:
    """Turn a momentum (3,) in place by multiple scattering in so many radiation lengths (Highland's formula)."""
    px, py, pz = momentum
    pt, p = hypot(px, py), size(momentum)
    width = 0.0136 * hypot(p, mass) / p**2 * sqrt(thickness) * max(1.0 + 0.038 * log(thickness), 0.0)
    a, b = width * normal(state), width * normal(state)
    momentum[0] += -a * p * py / pt - b * pz * px / pt
    momentum[1] += a * p * px / pt - b * pz * py / pt
    momentum[2] += b * pt
    momentum *= p / size(momentum)


@compiled
def isotropic(p: float, state: np.ndarray) -> tuple[float, float, float]:
    """A momentum of this size in any direction."""
    cosine, phi = 2.0 * uniform(state) - 1.0, 2.0 * pi * uniform(state)
    sine = sqrt(1.0 - cosine**2)
    return p * sine * cos(phi), p * sine * sin(phi), p * cosine


@compiled
def delta_ray(mass: float, p: float, path: float, state: np.ndarray) -> float:
    """Kinetic energy of a delta ray knocked out on so much path, 1/T² within what kinematics allow; mostly 0: none."""
    energy, ratio = hypot(p, mass), M_ELECTRON / mass
    most = 2.0 * M_ELECTRON * (p / mass) ** 2 / (1.0 + 2.0 * energy / mass * ratio + ratio**2)
    if ratio == 1.0:
        most = 0.5 * (energy - mass)  # of two electrons the slower one is the delta ray
    span = 1.0 / _DELTA_MIN - 1.0 / min(max(most, _DELTA_MIN), _DELTA_MAX)
    if uniform(state) > _DELTA_RATE * path * (energy / p) ** 2 * span:
        return 0.0
    return 1.0 / (1.0 / _DELTA_MIN - uniform(state) * span)


@compiled
def path_to_decay(kind: int, mass: float, p: float, state: np.ndarray) -> float:
    """The path after which a pion or a kaon decays; no other charged particle does so in the chamber."""
    if kind in (PION, KAON):
        return -log(uniform(state)) * (C_TAU_PION if kind == PION else C_TAU_KAON) * p / mass
    return np.inf


@compiled
def decay(kind: int, mass: float, momentum: np.ndarray, child: np.ndarray, state: np.ndarray) -> None:
    """Fill momentum, mass and kind of the charged product: π, K → μν; K → π π⁰ stands for all the kaon's other ways."""
    child[KIND], child[MASS], other = OTHER, M_MUON, 0.0
    if kind == KAON and uniform(state) > KAON_TO_MUON:
        child[KIND], child[MASS], other = PION, M_PION, M_PI0
    light, heavy = abs(child[MASS] - other), child[MASS] + other
    at_rest = sqrt((mass**2 - light**2) * (mass**2 - heavy**2)) / (2.0 * mass)
    q = isotropic(at_rest, state)
    along = momentum[0] * q[0] + momentum[1] * q[1] + momentum[2] * q[2]
    boost = (along / (hypot(size(momentum), mass) + mass) + hypot(at_rest, child[MASS])) / mass
    for axis in range(3):
        child[axis] = q[axis] + momentum[axis] * boost
