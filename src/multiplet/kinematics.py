"""Kinematics: four-vectors, angles, directions, impact parameters, sums over events and jet substructure.

Plain functions of numpy arrays or torch tensors (all arguments of one call of the same kind), element by element and
broadcasting; momenta and energies in GeV, angles in rad, lengths in mm. PyTorch is imported when a tensor comes in.
A length that is 0 (pT of padding, ΔR of a point to itself) has no gradient: differentiate real points only.

    px py pz E   four-momentum, z along the beam          eta  pseudorapidity      y  rapidity
    pt           momentum across the beam                 phi  azimuth             d0, z0  impact parameters
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from multiplet.errors import DataError

if TYPE_CHECKING:
    import torch

Values = TypeVar("Values", float, np.ndarray, "torch.Tensor")
Array = TypeVar("Array", np.ndarray, "torch.Tensor")

SMALLEST = 1e-20  # GeV; E - |pz| of a massless particle along the beam is raised to it, so that y stays finite


def _library(values: object) -> ModuleType:
    """The library the values belong to: every function used below has the same name and meaning in both."""
    if isinstance(values, np.ndarray | np.generic | float | int):
        return np
    import torch

    return torch


# --- angles -----------------------------------------------------------------------------------------------------------


def wrap(phi: Values) -> Values:
    """The same angle in [-π, π), in rad: π comes back as -π, and what is in range already comes back bit for bit."""
    library = _library(phi)
    turned = library.remainder(phi + math.pi, 2 * math.pi) - math.pi
    turned = library.where(turned < math.pi, turned, -math.pi)  # just below -π the remainder rounds up to a full turn
    return library.where((phi >= -math.pi) & (phi < math.pi), phi, turned)


def delta_phi(phi: Values, other_phi: Values) -> Values:
    """How far phi lies from other_phi, in [-π, π)."""
    return wrap(phi - other_phi)


def delta_r(eta: Values, phi: Values, other_eta: Values, other_phi: Values) -> Values:
    """The distance √(Δη² + Δφ²) of two directions."""
    return _library(eta).hypot(eta - other_eta, delta_phi(phi, other_phi))


# --- four-vectors -----------------------------------------------------------------------------------------------------


def pt(px: Values, py: Values) -> Values:
    """Transverse momentum √(px² + py²)."""
    return _library(px).hypot(px, py)


def eta(px: Values, py: Values, pz: Values) -> Values:
    """Pseudorapidity asinh(pz/pT); pT = 0 has none and gives ±inf or NaN, so readers refuse it."""
    return _library(px).arcsinh(pz / pt(px, py))


def phi(px: Values, py: Values) -> Values:
    """Azimuth atan2(py, px) in [-π, π], not wrapped: a point on the cut keeps the sign that its py gives it."""
    return _library(px).arctan2(py, px)


def rapidity(pz: Values, energy: Values) -> Values:
    """Rapidity y = ½ ln((E + pz)/(E - pz)), finite along the beam and odd in pz.

    Computed as sign(pz) ½ ln(1 + 2|pz|/(E - |pz|)), which unlike the same form in pz loses nothing where pz is near -E.
    """
    library = _library(pz)
    size = library.abs(pz)
    gap = library.clip(energy - size, SMALLEST, None)
    return library.sign(pz) * library.log1p(2 * size / gap) / 2


def mass_squared(px: Values, py: Values, pz: Values, energy: Values) -> Values:
    """m² = E² - p² in GeV², as (E - pz)(E + pz) - pT², which is the better one far forward.

    Rounding can make it slightly negative: clamp before a root or a logarithm.
    """
    return (energy - pz) * (energy + pz) - px * px - py * py


def p4(pt: Values, eta: Values, phi: Values, mass: Values) -> tuple[Values, Values, Values, Values]:
    """Four-momentum (px, py, pz, E); mass 0 gives the massless particle that jets are rebuilt from."""
    library = _library(pt)
    energy = library.hypot(pt * library.cosh(eta), mass)
    return pt * library.cos(phi), pt * library.sin(phi), pt * library.sinh(eta), energy


# --- directions in space ----------------------------------------------------------------------------------------------


def unit_vector(azimuth: Array, zenith: Array) -> Array:
    """The direction (cos azimuth sin zenith, sin azimuth sin zenith, cos zenith), (..., 3), of angles (...) in rad."""
    library = _library(azimuth)
    across = library.sin(zenith)
    return library.stack([library.cos(azimuth) * across, library.sin(azimuth) * across, library.cos(zenith)], -1)


def angles(vector: Array) -> tuple[Array, Array]:
    """Azimuth in [0, 2π) and zenith in [0, π] of vectors (..., 3) of any length; one of length 0 gives (0, 0)."""
    library = _library(vector)
    x, y, z = (vector[..., n] for n in range(3))
    azimuth = library.remainder(library.arctan2(y, x), 2 * math.pi)
    zero = library.zeros_like(azimuth)
    azimuth = library.where(azimuth < 2 * math.pi, azimuth, zero)  # just below 0 the remainder rounds up to a full turn
    return azimuth, library.arctan2(library.hypot(x, y), z)


def opening_angle(a: Array, b: Array) -> Array:
    """The angle in [0, π] rad between vectors (..., 3) of any length above 0, exact for small ones as well.

    atan2(|a × b|, a · b), where arccos(a · b) would be off by 3e-4 in single precision and have no gradient at 0 and π;
    this has 0 there.
    """
    library = _library(a)
    (ax, ay, az), (bx, by, bz) = ([v[..., n] for n in range(3)] for v in (a, b))
    across = library.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], -1)
    return library.arctan2(library.linalg.norm(across, None, -1), (a * b).sum(-1))


# --- tracks in jets ---------------------------------------------------------------------------------------------------


def signed_d0(d0: Values, z0: Values, eta: Values, phi: Values, jet_eta: Values, jet_phi: Values) -> Values:
    """|d0| with the sign of the track's lifetime: positive where it passes the jet axis in front of the vertex.

    The sign is that of (j × t)·(t × (-m)) with track direction t, jet direction j and point of closest approach
    m = (d0 cos(phi - π/2), d0 sin(phi - π/2), z0), as in the MPM code (jetssl); written out, (j·m) t² - (j·t)(t·m).
    A track along the jet axis has no sign and gives 0. eta and phi are true directions: see unflip_deta.
    """
    library = _library(d0)
    track = (library.cos(phi), library.sin(phi), library.sinh(eta))
    jet = (library.cos(jet_phi), library.sin(jet_phi), library.sinh(jet_eta))
    closest = (d0 * library.sin(phi), -d0 * library.cos(phi), z0)
    across = _dot(jet, closest) * _dot(track, track) - _dot(jet, track) * _dot(track, closest)
    return library.abs(d0) * library.sign(across)


def signed_z0(z0: Values, eta: Values, jet_eta: Values) -> Values:
    """|z0| with the sign of z0 (jet_eta - eta): positive where the track starts on the jet's side."""
    library = _library(z0)
    return library.abs(z0) * library.sign(z0 * (jet_eta - eta))


def unflip_deta(deta: Values, jet_eta: Values) -> Values:
    """η - η_jet from JetClass's part_deta, its product with +1 where η_jet > 0 and with -1 elsewhere, 0 too."""
    return _library(deta).where(jet_eta > 0, deta, -deta)


def _dot(a: tuple[Values, ...], b: tuple[Values, ...]) -> Values:
    return sum(x * y for x, y in zip(a[1:], b[1:], strict=True)) + a[0] * b[0]


# --- sums over events -------------------------------------------------------------------------------------------------


def segment_sum(values: Array, offsets: Array) -> Array:
    """Sums over events of flat values: (points, ...) and offsets (events + 1,) → (events, ...); an empty event gives 0.

    Raises DataError where the offsets do not span the values, since points would go missing unseen.
    """
    if int(offsets[0]) != 0 or int(offsets[-1]) != len(values):
        raise DataError(f"offsets run from {int(offsets[0])} to {int(offsets[-1])}; values have {len(values)} points")
    if isinstance(values, np.ndarray):
        return _segment_sum_numpy(values, offsets)
    if values.is_floating_point():
        return _library(values).segment_reduce(values, "sum", offsets=offsets, axis=0, initial=0)
    before = _library(values).nn.functional.pad(values.cumsum(0).movedim(0, -1), (1, 0)).movedim(-1, 0)
    return before[offsets[1:]] - before[offsets[:-1]]  # exact in integers


def _segment_sum_numpy(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    starts, filled = offsets[:-1], np.diff(offsets) > 0
    kind = np.int64 if values.dtype == bool else values.dtype
    sums = np.zeros((len(starts), *values.shape[1:]), kind)
    if filled.any():  # reduceat gives an empty segment its neighbour's first value, so it only sees the filled ones
        sums[filled] = np.add.reduceat(values, starts[filled], axis=0, dtype=kind)
    return sums


# --- substructure of jets, constituents on the last axis --------------------------------------------------------------


def n_subjettiness(
    pt: Array, eta: Array, phi: Array, axis_eta: Array, axis_phi: Array, radius: float = 0.8, beta: float = 1.0
) -> Array:
    """N-subjettiness τ_N (arXiv 1011.2268, eq. 1) about given axes: Σ pT min_a ΔR_a^β / (R^β Σ pT).

    Constituents are (..., N) and axes (..., A), η or y for both; a padded constituent has pT = 0 and finite angles.
    A jet without momentum gives NaN.
    """
    distance = delta_r(eta[..., None], phi[..., None], axis_eta[..., None, :], axis_phi[..., None, :])
    nearest = _library(pt).amin(distance, -1) ** beta
    return (pt * nearest).sum(-1) / (radius**beta * _above_zero(pt.sum(-1)))


def energy_correlations(pt: Array, eta: Array, phi: Array, beta: float = 1.0) -> tuple[Array, Array]:
    """Normalised energy correlation functions (e2, e3) (arXiv 1305.0007) of constituents (..., N), z_i = pT_i/Σ pT.

    e2 = Σ_{i<j} z_i z_j ΔR_ij^β and e3 = Σ_{i<j<k} z_i z_j z_k (ΔR_ij ΔR_jk ΔR_ik)^β. With W_ij = z_i ΔR_ij^β, whose
    diagonal is 0, e3 is the trace of W³ over 6: N² memory in place of N³. Padding as in n_subjettiness.
    """
    share = pt / _above_zero(pt.sum(-1))[..., None]
    distance = delta_r(eta[..., :, None], phi[..., :, None], eta[..., None, :], phi[..., None, :]) ** beta
    weighted = share[..., :, None] * distance
    pairs = (weighted * share[..., None, :]).sum((-2, -1)) / 2
    triples = ((weighted @ weighted) * weighted.swapaxes(-1, -2)).sum((-2, -1)) / 6
    return pairs, triples


def d2(pt: Array, eta: Array, phi: Array, beta: float = 1.0) -> Array:
    """D2 = e3/e2³ (arXiv 1409.6298), small for two-pronged jets; NaN where no two constituents are apart."""
    pairs, triples = energy_correlations(pt, eta, phi, beta)
    return triples / _above_zero(pairs) ** 3


def _above_zero(divisor: Values) -> Values:
    """The divisor with NaN in place of 0: numpy would warn of 0/0, and inf would be taken for a value."""
    return _library(divisor).where(divisor > 0, divisor, math.nan)
