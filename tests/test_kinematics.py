"""Kinematics against slow scalar loops, known four-vectors, symmetries and FastJet."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multiplet import kinematics
from multiplet.errors import DataError

Make = Callable[[np.ndarray], object]
LIBRARIES: dict[str, Make] = {"numpy": np.asarray, "torch": torch.as_tensor}
ANGLES = st.floats(-50, 50)
MOMENTA = st.floats(1e-3, 1e3)
ETAS = st.floats(-5, 5)


@pytest.fixture(params=LIBRARIES)
def make(request: pytest.FixtureRequest) -> Make:
    return LIBRARIES[request.param]


@pytest.fixture
def particles() -> tuple[np.ndarray, ...]:
    """pt 1e-3 … 1e3 GeV, |eta| up to 5, every phi, masses 0 … 100 GeV; float64."""
    rng = np.random.default_rng(0)
    edges = [(p, e) for p in (1e-3, 1.0, 1e3) for e in (-5.0, -1e-6, 0.0, 1e-6, 5.0)]
    pt = np.concatenate([10 ** rng.uniform(-3, 3, 200), [p for p, _ in edges]])
    eta = np.concatenate([rng.uniform(-5, 5, 200), [e for _, e in edges]])
    mass = np.where(rng.random(len(pt)) < 0.5, 0.0, rng.uniform(0, 100, len(pt)))
    return pt, eta, rng.uniform(-math.pi, math.pi, len(pt)), mass


def jets(seed: int = 0, count: int = 5, points: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Jets of 3 … points constituents around φ = π, where wrapping matters; padded with pT = 0."""
    rng = np.random.default_rng(seed)
    pt = rng.exponential(20, (count, points)) + 0.5
    pt[np.arange(points) >= rng.integers(3, points + 1, count)[:, None]] = 0
    phi = kinematics.wrap(math.pi + rng.normal(0, 0.3, (count, points)))
    return pt, rng.normal(0.5, 0.3, (count, points)), phi


# --- angles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_wrap_at_the_cut(make: Make, dtype: type) -> None:
    pi = dtype(math.pi)
    below, above = np.nextafter(pi, dtype(0)), np.nextafter(pi, dtype(4))
    given_angles = np.array([pi, -pi, below, -below, above, -above, 3 * pi, -3 * pi, 0], dtype)
    wrapped = np.asarray(kinematics.wrap(make(given_angles)))
    assert wrapped.dtype == dtype
    assert wrapped[:4].tolist() == [-pi, -pi, below, -below]
    assert np.all((wrapped >= -pi) & (wrapped < pi))
    assert wrapped[8] == 0
    assert np.allclose(np.cos(wrapped), np.cos(given_angles), atol=1e-5)


@given(ANGLES)
def test_wrap_is_the_same_direction(phi: float) -> None:
    wrapped = float(kinematics.wrap(np.array(phi)))
    assert -math.pi <= wrapped < math.pi
    assert math.isclose(math.cos(wrapped), math.cos(phi), abs_tol=1e-12)
    assert math.isclose(math.sin(wrapped), math.sin(phi), abs_tol=1e-12)
    assert float(kinematics.wrap(np.array(wrapped))) == wrapped
    assert float(kinematics.wrap(torch.tensor(phi, dtype=torch.float64))) == wrapped


@given(ANGLES, ANGLES)
def test_delta_phi_is_the_short_way_round(phi: float, other: float) -> None:
    between = math.acos(max(-1.0, min(1.0, math.cos(phi - other))))
    assert math.isclose(abs(kinematics.delta_phi(np.array(phi), np.array(other))), between, abs_tol=1e-6)


@given(ETAS, ANGLES, ETAS, ANGLES, ANGLES)
def test_delta_r_does_not_change_under_rotation(eta: float, phi: float, eta2: float, phi2: float, turn: float) -> None:
    here = kinematics.delta_r(*map(np.array, (eta, phi, eta2, phi2)))
    there = kinematics.delta_r(*map(np.array, (eta, phi + turn, eta2, phi2 + turn)))
    assert np.isclose(here, there, atol=1e-9)
    assert np.isclose(here, kinematics.delta_r(*map(np.array, (eta2, phi2, eta, phi))), atol=1e-9)


# --- four-vectors -----------------------------------------------------------------------------------------------------


def test_four_vectors_equal_a_scalar_loop(make: Make, particles: tuple[np.ndarray, ...]) -> None:
    momenta = kinematics.p4(*map(make, particles))
    got = [kinematics.pt(*momenta[:2]), kinematics.eta(*momenta[:3]), kinematics.phi(*momenta[:2])]
    got += [kinematics.rapidity(*momenta[2:]), kinematics.mass_squared(*momenta)]
    for i, (pt, eta, phi, mass) in enumerate(zip(*particles, strict=True)):
        px, py, pz = pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta)
        energy = math.sqrt(px**2 + py**2 + pz**2 + mass**2)
        assert [float(m[i]) for m in momenta] == pytest.approx([px, py, pz, energy], rel=1e-13, abs=1e-14)
        y = math.asinh(pz / math.hypot(pt, mass))  # tanh y = pz/E, so sinh y = pz/mT: another formula than the one used
        expected = [pt, eta, phi, y, mass**2]
        tolerances = [1e-13, 1e-13, 1e-13, 1e-9, 1e-12 * max(energy**2, 1)]
        for value, wanted, tolerance in zip(got, expected, tolerances, strict=True):
            assert float(value[i]) == pytest.approx(wanted, rel=1e-12, abs=tolerance)


def test_single_precision_stays_close(make: Make, particles: tuple[np.ndarray, ...]) -> None:
    single = kinematics.p4(*(make(p.astype(np.float32)) for p in particles))
    for value, wanted in zip(single, kinematics.p4(*particles), strict=True):
        assert np.asarray(value).dtype == np.float32
        assert np.allclose(np.asarray(value), wanted, rtol=1e-5, atol=1e-4)
    assert np.allclose(np.asarray(kinematics.eta(*single[:3])), particles[1], rtol=2e-6, atol=1e-6)
    rapidity = kinematics.rapidity(*kinematics.p4(*particles)[2:])
    central = np.abs(particles[1]) < 3  # beyond, E - |pz| has no digits left in single precision
    assert np.allclose(np.asarray(kinematics.rapidity(*single[2:]))[central], rapidity[central], rtol=1e-3, atol=1e-5)


def test_a_w_boson_from_its_quarks() -> None:
    half = 80.3692 / 2  # GeV; at rest the two quarks are back to back with half the mass each
    up = kinematics.p4(*map(np.array, (half, 0.0, 0.3, 0.0)))
    down = kinematics.p4(*map(np.array, (half, 0.0, 0.3 - math.pi, 0.0)))
    boson = [a + b for a, b in zip(up, down, strict=True)]
    assert np.allclose(boson, [0, 0, 0, 80.3692], atol=1e-12)
    assert math.sqrt(kinematics.mass_squared(*boson)) == pytest.approx(80.3692)


def test_known_directions() -> None:
    assert kinematics.eta(np.array(1.0), np.array(0.0), np.array(1.0)) == pytest.approx(0.881373587019543)  # 45 degrees
    assert kinematics.rapidity(np.array(3.0), np.array(5.0)) == pytest.approx(math.log(2))
    assert kinematics.phi(np.array(-1.0), np.array(0.0)) == math.pi


@given(MOMENTA, ETAS, ANGLES, st.floats(0.1, 100), st.floats(-3, 3), ANGLES)
def test_symmetries(pt: float, eta: float, phi: float, mass: float, boost: float, turn: float) -> None:
    px, py, pz, energy = kinematics.p4(*map(np.array, (pt, eta, phi, mass)))
    boosted = energy * math.sinh(boost) + pz * math.cosh(boost), energy * math.cosh(boost) + pz * math.sinh(boost)
    y = kinematics.rapidity(pz, energy)
    assert np.isclose(kinematics.rapidity(*boosted), y + boost, atol=1e-6)
    assert np.isclose(kinematics.rapidity(-pz, energy), -y, atol=1e-12)
    turned = px * math.cos(turn) - py * math.sin(turn), px * math.sin(turn) + py * math.cos(turn)
    assert np.isclose(kinematics.delta_phi(kinematics.phi(*turned), kinematics.phi(px, py) + turn), 0, atol=1e-9)
    assert np.isclose(kinematics.mass_squared(*turned, *boosted), mass**2, atol=1e-9 * boosted[1] ** 2)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rapidity_along_the_beam_is_finite_and_odd(make: Make, dtype: type) -> None:
    pz = np.array([1e-3, 1e3, -1e-3, -1e3, 0], dtype)
    y = np.asarray(kinematics.rapidity(make(pz), make(np.abs(pz))))
    assert np.isfinite(y).all()
    assert y[:2].tolist() == (-y[2:4]).tolist()
    assert y[4] == 0
    assert (y[:2] > 15).all()


# --- tracks in jets ---------------------------------------------------------------------------------------------------


def slow_signed_d0(d0: float, z0: float, eta: float, phi: float, jet_eta: float, jet_phi: float) -> float:
    """The specification's formula word for word: |d0| sign[(j × t)·(t × (-m))]."""
    track = np.array([math.cos(phi), math.sin(phi), math.sinh(eta)])
    jet = np.array([math.cos(jet_phi), math.sin(jet_phi), math.sinh(jet_eta)])
    closest = np.array([d0 * math.cos(phi - math.pi / 2), d0 * math.sin(phi - math.pi / 2), z0])
    return abs(d0) * np.sign(np.dot(np.cross(jet, track), np.cross(track, -closest)))


def test_impact_parameters_equal_a_scalar_loop(make: Make) -> None:
    rng = np.random.default_rng(1)
    d0, z0 = rng.normal(0, 1, (2, 300))
    jet_eta, jet_phi = rng.uniform(-2, 2, 300), rng.uniform(-3, 3, 300)
    eta, phi = jet_eta + rng.uniform(-0.5, 0.5, 300), jet_phi + rng.uniform(-0.5, 0.5, 300)
    transverse = kinematics.signed_d0(*map(make, (d0, z0, eta, phi, jet_eta, jet_phi)))
    along = kinematics.signed_z0(*map(make, (z0, eta, jet_eta)))
    for i in range(300):
        assert transverse[i] == pytest.approx(slow_signed_d0(d0[i], z0[i], eta[i], phi[i], jet_eta[i], jet_phi[i]))
        assert along[i] == pytest.approx(abs(z0[i]) * np.sign(z0[i] * (jet_eta[i] - eta[i])))


@pytest.mark.parametrize("flight", [2.0, -2.0])
def test_a_decay_down_the_jet_gives_a_positive_d0_and_one_behind_a_negative(flight: float) -> None:
    phi, zero = (
        0.2,
        np.array(0.0),
    )  # the jet lies along x, the particle decays at (flight, 0) mm, the track leaves at phi
    closest = np.array([flight, 0]) - flight * math.cos(phi) * np.array([math.cos(phi), math.sin(phi)])
    d0 = flight * math.sin(phi)
    assert np.allclose(closest, d0 * np.array([math.sin(phi), -math.cos(phi)]))
    assert kinematics.signed_d0(np.array(d0), zero, zero, np.array(phi), zero, zero) == pytest.approx(d0)
    assert kinematics.signed_d0(np.array(-d0), zero, zero, np.array(-phi), zero, zero) == pytest.approx(d0)


@pytest.mark.parametrize("jet_eta, sign", [(1.3, 1), (-1.3, -1), (0.0, -1)])
def test_unflip_deta_for_both_signs_of_the_jet(make: Make, jet_eta: float, sign: int) -> None:
    eta = np.random.default_rng(2).uniform(-2, 2, 50)
    stored, jet = sign * (eta - jet_eta), np.full(50, jet_eta)
    assert np.allclose(np.asarray(kinematics.unflip_deta(make(stored), make(jet))) + jet_eta, eta, atol=1e-15)


# --- sums over events -------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), max_size=12), st.sampled_from(["float64", "float32", "int64", "bool"]))
def test_segment_sum_equals_a_loop(counts: list[int], dtype: str) -> None:
    offsets = np.cumsum([0, *counts]).astype(np.int64)
    values = (np.random.default_rng(sum(counts)).normal(0, 10, (sum(counts), 2))).astype(dtype)
    expected = np.array([values[a:b].sum(0) for a, b in itertools.pairwise(offsets)]).reshape(-1, 2)
    for make in LIBRARIES.values():
        for column in (slice(None), 0):
            got = np.asarray(kinematics.segment_sum(make(np.ascontiguousarray(values[:, column])), make(offsets)))
            assert got.shape == expected[:, column].shape
            assert np.allclose(got, expected[:, column], atol=1e-5 if dtype == "float32" else 1e-12)


def test_segment_sum_refuses_offsets_that_lose_points(make: Make) -> None:
    with pytest.raises(DataError, match="offsets run from 0 to 4; values have 5 points"):
        kinematics.segment_sum(make(np.ones(5)), make(np.array([0, 2, 4])))


# --- substructure -----------------------------------------------------------------------------------------------------


def slow_r(eta: np.ndarray, phi: np.ndarray, i: int, j: int) -> float:
    turn = (phi[i] - phi[j] + math.pi) % (2 * math.pi) - math.pi
    return math.sqrt((eta[i] - eta[j]) ** 2 + turn**2)


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_energy_correlations_equal_loops_over_pairs_and_triples(make: Make, beta: float) -> None:
    pt, eta, phi = jets()
    pairs, triples = kinematics.energy_correlations(*map(make, (pt, eta, phi)), beta=beta)
    ratio = kinematics.d2(*map(make, (pt, eta, phi)), beta=beta)
    for b, (p, e, f) in enumerate(zip(pt, eta, phi, strict=True)):
        z, points = p / p.sum(), range(len(p))
        r = {pair: slow_r(e, f, *pair) ** beta for pair in itertools.combinations(points, 2)}
        e2 = sum(z[i] * z[j] * r[i, j] for i, j in r)
        e3 = sum(z[i] * z[j] * z[k] * r[i, j] * r[i, k] * r[j, k] for i, j, k in itertools.combinations(points, 3))
        assert [float(pairs[b]), float(triples[b])] == pytest.approx([e2, e3])
        assert float(ratio[b]) == pytest.approx(e3 / e2**3)


def test_n_subjettiness_equals_a_loop(make: Make) -> None:
    pt, eta, phi = jets()
    axes = eta[:, :3] + 0.05, phi[:, :3] - 0.05
    tau = kinematics.n_subjettiness(*map(make, (pt, eta, phi, *axes)), radius=0.8)
    for b in range(len(pt)):
        total = 0.0
        for i in range(pt.shape[1]):
            both = [(np.append(eta[b], axes[0][b, a]), np.append(phi[b], axes[1][b, a])) for a in range(3)]
            total += pt[b, i] * min(slow_r(e, f, i, pt.shape[1]) for e, f in both)
        assert float(tau[b]) == pytest.approx(total / (0.8 * pt[b].sum()))


def test_padding_and_rotation_do_not_change_substructure() -> None:
    pt, eta, phi = jets()
    wide = [np.pad(x, ((0, 0), (0, 5)), constant_values=fill) for x, fill in ((pt, 0), (eta, 4.2), (phi, -1))]
    assert np.allclose(kinematics.d2(pt, eta, phi), kinematics.d2(*wide))
    turned = kinematics.wrap(phi + 2.0)
    assert np.allclose(kinematics.d2(pt, eta, phi), kinematics.d2(pt, eta, turned))
    tau = [kinematics.n_subjettiness(pt, eta, f, eta[:, :2], f[:, :2]) for f in (phi, turned)]
    assert np.allclose(*tau)
    assert np.allclose(tau[0], kinematics.n_subjettiness(*wide, eta[:, :2], phi[:, :2]))


def test_substructure_of_what_is_no_jet_is_not_a_number(make: Make) -> None:
    nothing, one = np.zeros((1, 3)), np.array([[5.0, 0, 0]])
    assert math.isnan(kinematics.d2(*map(make, (nothing, nothing, nothing)))[0])
    assert math.isnan(kinematics.d2(*map(make, (one, nothing, nothing)))[0])
    axis = np.zeros((1, 1))
    assert math.isnan(kinematics.n_subjettiness(*map(make, (nothing, nothing, nothing, axis, axis)))[0])
    assert float(kinematics.n_subjettiness(*map(make, (one, nothing, nothing, axis, axis)))[0]) == 0


@pytest.mark.filterwarnings("ignore")  # awkward and fastjet raise deprecation warnings of their own
def test_energy_correlations_and_axes_agree_with_fastjet() -> None:
    fastjet, awkward = pytest.importorskip("fastjet"), pytest.importorskip("awkward")
    rng = np.random.default_rng(3)
    pt, eta, phi = rng.exponential(20, 30) + 1, rng.normal(0, 0.2, 30), rng.normal(3.1, 0.2, 30)
    momenta = np.stack(kinematics.p4(pt, eta, phi, np.zeros(30)), -1)
    jet = awkward.Array([[dict(zip(("px", "py", "pz", "E"), p, strict=True)) for p in momenta.tolist()]])
    cluster = fastjet.ClusterSequence(
        awkward.with_name(jet, "Momentum4D"), fastjet.JetDefinition(fastjet.kt_algorithm, 1.0)
    )
    pt, eta, phi = pt[None], eta[None], phi[None]
    for value, points in zip(kinematics.energy_correlations(pt, eta, phi), (2, 3), strict=True):
        assert value == pytest.approx(cluster.exclusive_jets_energy_correlator(njets=1, npoint=points)[0])
    ratio = cluster.exclusive_jets_energy_correlator(njets=1, npoint=2, func="d2")[0]
    assert kinematics.d2(pt, eta, phi) == pytest.approx(ratio)

    axes = cluster.exclusive_jets(2)[0]
    x, y, z, energy = (awkward.to_numpy(axes[name])[None] for name in ("px", "py", "pz", "E"))
    tau2 = kinematics.n_subjettiness(pt, eta, phi, kinematics.rapidity(z, energy), kinematics.phi(x, y))
    tau1 = kinematics.n_subjettiness(pt, eta, phi, np.array([[0.0]]), np.array([[3.1]]))
    assert 0 < tau2 < tau1


def test_gradients_flow_through_tensors() -> None:
    pt, eta, phi = (torch.as_tensor(x)[:, :3].requires_grad_() for x in jets())
    kinematics.mass_squared(*(c.sum(-1) for c in kinematics.p4(pt, eta, phi, torch.zeros_like(pt)))).sum().backward()
    assert torch.isfinite(pt.grad).all()


def test_importing_kinematics_does_not_import_torch() -> None:
    code = "import sys, numpy, multiplet.kinematics as k; k.wrap(numpy.ones(3)); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
