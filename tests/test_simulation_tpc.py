"""Simulated TPC events: what the files promise, and the physics against slow loops and formulas."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from multiplet.data.arrow import read_events
from multiplet.data.columns import Columns, concatenate
from multiplet.errors import DataError, MissingExtraError
from multiplet.simulation.blocks import Generator, simulate
from multiplet.simulation.tpc import PROCESSES, SCHEMA, Tpc

PION, KAON, PROTON, ELECTRON = 1, 2, 3, 4
MASS = {0: 0.105658, PION: 0.139570, KAON: 0.493677, PROTON: 0.938272, ELECTRON: 0.000511}


def test_processes_are_checked() -> None:
    with pytest.raises(DataError, match="at least one of minimum_bias, hard"):
        Tpc(("soft",))
    with pytest.raises(DataError, match="each once"):
        Tpc(("hard", "hard"))
    assert isinstance(Tpc(), Generator)
    assert next(c for c in SCHEMA if c.name == "process").classes == PROCESSES
    assert [c.name for c in SCHEMA if not c.truth] == ["energy", "x", "y", "z"]


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import multiplet.simulation

    for name in [name for name in sys.modules if name.startswith("multiplet.simulation.tpc_")]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(multiplet.simulation, name.rpartition(".")[2], raising=False)
    monkeypatch.setitem(sys.modules, "pythia8mc", None)
    with pytest.raises(MissingExtraError, match=r"multiplet\[simulate\]"):
        Tpc().provenance()


def need_tools() -> None:
    """Skip where the extra `simulate` is not installed."""
    for name in ("pythia8mc", "awkward", "numba"):
        pytest.importorskip(name)


@pytest.fixture(scope="module")
def events() -> Columns:
    """A hundred events of each process."""
    need_tools()
    return concatenate([Tpc().block(name, 0, 1, 100) for name in PROCESSES])


def state(seed: int) -> np.ndarray:
    return np.array([seed], np.uint64)


def born(kind: int, p: tuple[float, float, float], at: tuple[float, float, float], charge: float) -> np.ndarray:
    """A particle as the tracking takes it."""
    return np.array([*p, MASS[kind], charge, *at, kind], np.float64)


def spacepoints(particles: list[np.ndarray], seed: int = 1) -> np.ndarray:
    """Spacepoints of one event with these particles and its vertex at 0."""
    from multiplet.simulation.tpc_response import event

    return event(np.array(particles), 0.0, state(seed))


def owner(events: Columns) -> np.ndarray:
    return np.repeat(np.arange(len(events)), np.diff(events.offsets))


def track_of(events: Columns) -> np.ndarray:
    """A number for each point: equal where event and track are."""
    return owner(events) * 100_000 + events.values["track_id"]


REGIONS = ((31.391, 0.57147), (41.663, 1.02013), (58.915, 1.09653))
PUBLISHED_ROWS = np.concatenate([first + pitch * np.arange(16) for first, pitch in REGIONS])


def radius_and_row(events: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Distance from the beam of each point, and the row nearest to it."""
    radius = np.hypot(events.values["x"].astype(np.float64), events.values["y"])
    return radius, abs(radius[:, None] - PUBLISHED_ROWS).argmin(axis=1)


# What the events promise.


def test_points_lie_on_the_rows_of_the_chamber(events: Columns) -> None:
    v = events.values
    assert events.schema == SCHEMA
    assert all(np.isfinite(v[c.name]).all() for c in SCHEMA)
    assert (np.diff(events.offsets) > 0).all()
    radius, row = radius_and_row(events)
    assert abs(radius - PUBLISHED_ROWS[row]).max() < 1e-3
    assert np.bincount(row).min() > 0.3 * np.bincount(row).max()
    assert abs(v["z"]).max() < 105
    assert abs(v["z"]).max() > 103
    assert v["energy"].min() >= 20
    assert v["energy"].max() <= 6250
    assert np.array_equal(v["energy"], np.floor(v["energy"]))


def test_order_of_points_tells_nothing_of_tracks(events: Columns) -> None:
    row, same = radius_and_row(events)[1], np.diff(owner(events)) == 0
    assert (np.diff(row)[same] >= 0).all()
    phi = np.arctan2(events.values["y"].astype(np.float64), events.values["x"])
    assert (np.diff(phi)[same & (np.diff(row) == 0)] > -1e-6).all()


def test_truth_is_that_of_a_track(events: Columns) -> None:
    """One particle a track, numbered from 0 without gaps; noise is what had less than 60 MeV/c."""
    v = events.values
    track, first, at = np.unique(track_of(events), return_index=True, return_inverse=True)
    for name in ("particle", "noise", "track_pt", "track_eta", "track_charge"):
        assert np.array_equal(v[name], v[name][first][at]), name
    number = track % 100_000
    assert (number[1:][np.diff(number) != 1] == 0).all()
    p = v["track_pt"].astype(np.float64) * np.cosh(v["track_eta"])
    assert np.array_equal(v["noise"] == 1, p < 0.06)
    assert set(np.unique(v["particle"]).tolist()) == {0, 1, 2, 3, 4}
    assert set(np.unique(v["track_charge"]).tolist()) == {-1, 1}
    assert v["process"].tolist() == [0] * 100 + [1] * 100
    assert v["vertex_z"].std() == pytest.approx(10, abs=1.6)


def test_published_figures(events: Columns) -> None:
    """TPCpp-10M: 834 to 856 points, E 253 ± 269 ADC; 11 % noise is what its published scores imply."""
    v = events.values
    assert len(v["x"]) / len(events) == pytest.approx(845, rel=0.15)
    assert v["energy"].mean() == pytest.approx(253, rel=0.06)
    assert v["energy"].std() == pytest.approx(269, rel=0.15)
    assert v["noise"].mean() == pytest.approx(0.11, abs=0.03)
    sizes = np.unique(track_of(events), return_counts=True)[1]
    assert (sizes >= 20).sum() / len(events) == pytest.approx(16, rel=0.2)
    pt = v["track_pt"][np.unique(track_of(events)[v["noise"] == 0], return_index=True)[1]]
    assert 0.2 < np.median(pt) < 0.45
    assert 0.03 < (pt > 1).mean() < 0.2


def test_tracks_go_every_way(events: Columns) -> None:
    """φ of tracks is uniform, both charges and both sides of the chamber are as frequent."""
    v = events.values
    real = np.flatnonzero(v["noise"] == 0)
    first = real[np.unique(track_of(events)[real], return_index=True)[1]]
    spread = 1 / np.sqrt(len(first))
    phi = np.arctan2(v["y"][first], v["x"][first])
    for harmonic in (1, 2, 3, 12):
        assert abs(np.exp(1j * harmonic * phi).mean()) < 4 * spread
    assert abs(v["track_charge"][first].mean()) < 4 * spread
    assert abs(np.sign(v["track_eta"][first]).mean()) < 6 * spread  # jets put several tracks on one side


def test_curvature_is_that_of_pt_and_charge(events: Columns) -> None:
    """A circle through the points of a track has R = pT/(0.3 B), and bends as its charge says."""
    v = events.values
    x, y = v["x"].astype(np.float64), v["y"].astype(np.float64)
    order = np.argsort(track_of(events), kind="stable")
    ratio, signs = {-1: [], 1: []}, []
    for rows in np.split(order, np.flatnonzero(np.diff(track_of(events)[order])) + 1):
        pt, charge = v["track_pt"][rows[0]], int(v["track_charge"][rows[0]])
        if len(rows) < 40 or not 0.3 < pt < 1.5 or v["particle"][rows[0]] not in (PION, KAON, PROTON):
            continue
        a, b = x[rows], y[rows]
        (x_c, y_c, c), *_ = np.linalg.lstsq(np.stack([2 * a, 2 * b, np.ones(len(a))], 1), a**2 + b**2)
        ratio[charge].append(np.sqrt(c + x_c**2 + y_c**2) * 0.299792458e-2 * 1.4 / pt)
        signs.append(np.sign(x_c * b[-1] - y_c * a[-1]) * -charge)  # the last point is beside the centre's direction
    assert min(map(len, ratio.values())) > 300
    for side in ratio.values():
        assert np.median(side) == pytest.approx(0.995, abs=0.01)  # some energy is lost on the way
        assert np.subtract(*np.quantile(side, [0.84, 0.16])) / 2 < 0.03
    assert np.median(ratio[1]) == pytest.approx(np.median(ratio[-1]), abs=0.005)
    assert abs(np.mean(signs)) > 0.97
    assert np.mean(signs) < 0  # the centre lies to the right of a positive particle


# The same events, however they are made.


def same(a: Columns, b: Columns) -> bool:
    return np.array_equal(a.offsets, b.offsets) and all(
        a.values[name].tobytes() == b.values[name].tobytes() for name in a.values
    )


def test_block_depends_on_its_arguments_alone(events: Columns, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ran before in the process, and how many collisions are made at a time, changes nothing."""
    from multiplet.simulation import tpc_events

    for place, name in enumerate(PROCESSES):
        whole = events.take(np.arange(100) + 100 * place)
        assert same(whole, Tpc().block(name, 0, 1, 100))
        monkeypatch.setattr(tpc_events, "_BATCH_MIN", 1)
        assert same(whole.take(np.arange(7)), Tpc().block(name, 0, 1, 7))
        monkeypatch.setattr(tpc_events, "_BATCH_MIN", 40)
        assert same(whole.take(np.arange(7)), Tpc((name,)).block(name, 0, 1, 7))
        assert not same(whole.take(np.arange(7)), Tpc().block(name, 1, 1, 7))
        assert not same(whole.take(np.arange(7)), Tpc().block(name, 0, 2, 7))
    with pytest.raises(DataError, match="no stream"):
        Tpc(("hard",)).block("minimum_bias", 0, 1, 1)


@pytest.mark.slow
def test_same_bytes_for_any_workers(tmp_path: Path) -> None:
    need_tools()
    from multiplet.cli import app

    simulate(Tpc(("hard",)), tmp_path / "one", 130, 3)
    command = ["simulate", "tpc", "--events", "130", "--seed", "3", "--workers", "2", "--processes", "hard"]
    for said in ("130 events in", "already holds"):
        result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "two")])
        assert result.exit_code == 0, result.output
        assert said in result.output
    contents = [
        {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}
        for out in (tmp_path / "one", tmp_path / "two")
    ]
    assert contents[0] == contents[1]
    files = [read_events(tmp_path / "one" / split / "00000.arrow") for split in ("train", "validation", "test")]
    assert [len(file) for file in files] == [104, 13, 13]


def test_response_to_an_event_is_its_own() -> None:
    """An event alone, or after others: the same points."""
    need_tools()
    from multiplet.simulation.tpc_response import respond

    particles = np.array([born(PION, (0.4, 0.1 * n, 0.2), (0, 0, 0), 1 - 2 * (n % 2)) for n in range(9)])
    keys = np.array([5, 6, 7], np.uint64)
    points, offsets, vertices = respond(particles, np.array([0, 4, 4, 9]), keys)
    alone, _, vertex = respond(particles[4:], np.array([0, 5]), keys[2:])
    assert offsets[1] == offsets[2]
    assert np.array_equal(points[offsets[2] :], alone)
    assert vertices[2] == vertex[0]


# The helix.


def slow_crossings(particle: np.ndarray, step: float = 0.02) -> Iterator[tuple[int, np.ndarray]]:
    """Rows and places where a particle meets rows, by Runge-Kutta steps in the field, losing energy all the way."""
    from multiplet.simulation.tpc_matter import GAS_LOSS, ionisation
    from multiplet.simulation.tpc_tracks import ROWS

    mass, charge = particle[3], particle[4]
    y = np.concatenate([particle[5:8], particle[:3]])

    def slope(y: np.ndarray) -> np.ndarray:
        p = y[3:]
        force = 0.299792458e-2 * charge * np.cross(p, [0, 0, 1.4])
        loss = GAS_LOSS * ionisation(float(np.linalg.norm(p)) / mass) * np.hypot(np.linalg.norm(p), mass)
        return np.concatenate([p, force - loss * p / (p @ p) * np.linalg.norm(p)]) / np.linalg.norm(p)

    for _ in range(60_000):
        k1 = slope(y)
        k2 = slope(y + 0.5 * step * k1)
        k3 = slope(y + 0.5 * step * k2)
        k4 = slope(y + step * k3)
        new = y + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        before, after = np.hypot(*y[:2]), np.hypot(*new[:2])
        for row in np.flatnonzero((ROWS - before) * (ROWS - after) < 0):
            share = (ROWS[row] - before) / (after - before)
            yield int(row), y[:3] + share * (new - y)[:3]
        if after > 78 or abs(new[2]) > 105:
            return
        y = new


@pytest.mark.parametrize(
    "kind, p, charge, apart",
    [
        (0, (0.2, 0.1, 0.1), 1, 0.01),
        (0, (0.2, 0.1, 0.1), -1, 0.01),
        (0, (2, 1, -1), 1, 0.01),
        (0, (0.0, 0.1, -0.05), 1, 0.05),
        (0, (-0.02, 0.06, 0.03), 1, 0.1),
        (PROTON, (0.0, 0.125, -0.15), -1, 1.0),
    ],
)
def test_helix_against_small_steps(kind: int, p: tuple[float, float, float], charge: int, apart: float) -> None:
    """Rows crossed, in order and place, by muons that leave at once, by ones that turn in the gas, by a slow proton."""
    need_tools()
    from multiplet.simulation.tpc_tracks import CHILDREN, CROSSING, STEPS, walk

    particle = born(kind, p, (25.0, 25.0, 3.0), charge)
    crossings, children = np.empty((STEPS, CROSSING)), np.empty((CHILDREN, 9))
    found, _ = walk(particle, crossings, children, state(1))
    slow = list(slow_crossings(particle))
    shared = min(found, len(slow))
    assert shared > 30
    assert max(found, len(slow)) <= shared + 1  # at the end of the chamber a crossing may be in or out
    assert crossings[:shared, 0].tolist() == [row for row, _ in slow[:shared]]
    assert abs(crossings[:shared, 1:4] - np.array([at for _, at in slow[:shared]])).max() < apart


def test_advance_turns_by_charge() -> None:
    """R = pT/(0.3 B); in a field along +z a positive charge turns clockwise; |p| stays."""
    need_tools()
    from multiplet.simulation.tpc_tracks import advance

    radius = 1 / (0.299792458e-2 * 1.4)
    for charge in (1.0, -1.0):
        at, momentum = np.zeros(3), np.array([1.0, 0.0, 0.75])
        advance(at, momentum, charge, 1.25 * radius * np.pi / 2)  # a quarter of a turn
        assert at == pytest.approx([radius, -charge * radius, 0.75 * radius * np.pi / 2])
        assert momentum == pytest.approx([0, -charge, 0.75], abs=1e-12)


def test_next_surface_against_marching() -> None:
    """The surface that a circle meets next, found by going along it in small steps."""
    need_tools()
    from multiplet.simulation.tpc_tracks import SURFACES, next_surface

    rng, met, angles = np.random.default_rng(1), set(), np.linspace(0, 2 * np.pi, 40_001)[1:]
    for _ in range(300):
        distance, radius, angle = rng.uniform(0.5, 60), rng.uniform(0.2, 60), rng.uniform(-np.pi, np.pi)

        def rho(u: np.ndarray, d: float = distance, r: float = radius) -> np.ndarray:
            return np.sqrt(d**2 + r**2 + 2 * d * r * np.cos(u))

        outer = int(np.searchsorted(SURFACES, rho(np.array(angle))))
        if outer == len(SURFACES):
            continue
        sweep, surface = next_surface(distance, radius, angle, outer)
        inside = np.searchsorted(SURFACES, rho(angle + angles))
        if (inside == outer).all():
            assert surface == -1
        else:
            at = int(np.argmax(inside != outer))
            assert surface == (outer if inside[at] > outer else outer - 1)
            assert sweep == pytest.approx(angles[at], abs=2e-4)
        met.add("none" if surface < 0 else "out" if surface == outer else "in")
    assert met == {"none", "out", "in"}


def test_strings_of_curlers() -> None:
    """An electron too soft to reach the next row leaves clusters along z until it has no energy left."""
    need_tools()
    from multiplet.simulation.tpc_matter import GAS_LOSS
    from multiplet.simulation.tpc_tracks import CHILDREN, CROSSING, STEPS, walk

    crossings, children = np.empty((STEPS, CROSSING)), np.empty((CHILDREN, 9))
    electron = born(ELECTRON, (2e-4, 0.0, 4e-4), (50.3, 0.0, -20.0), -1.0)
    found, _ = walk(electron, crossings, children, state(1))
    assert found > 3
    assert len(set(crossings[:found, 0].tolist())) == 1
    assert (np.diff(crossings[:found, 3]) > 0).all()
    lost = (GAS_LOSS * crossings[:found, 4] * crossings[:found, 5]).sum()
    kinetic = np.hypot(np.sqrt(0.2), 0.511) * 1e-3 - 0.511e-3
    assert lost == pytest.approx(kinetic, abs=2.1e-5)  # the rest is below the least energy


# Ionisation and what else matter does.


def test_ionisation_has_the_form_of_bethe() -> None:
    """1 at its minimum near βγ = 3.5, close to Bethe's formula below, a rise of about a half above."""
    need_tools()
    from multiplet.simulation.tpc_matter import ionisation

    at = np.geomspace(0.1, 1e4, 500)
    values = np.array([ionisation(float(b)) for b in at])
    assert values.min() == pytest.approx(1.0, abs=0.02)
    assert 2.5 < at[values.argmin()] < 4.5
    assert (np.diff(values[at < 2]) < 0).all()
    assert 1.4 < values[-1] < 1.8

    def bethe(b: float) -> float:
        beta2 = b**2 / (1 + b**2)
        return (np.log(2 * 0.511e6 * b**2 / 130) - beta2) / beta2  # mean excitation of 130 eV, no density effect

    for b in (0.3, 0.5, 1.0, 2.0):
        assert ionisation(b) == pytest.approx(bethe(b) / bethe(3.5), rel=0.2)


def test_species_differ_in_energy() -> None:
    """At 0.5 GeV/c a proton leaves several times what a pion does, a kaon in between, an electron on the plateau."""
    need_tools()
    from multiplet.simulation.tpc_matter import ionisation
    from multiplet.simulation.tpc_response import P_ADC, T_KIND

    phi = np.linspace(0, 2 * np.pi, 61)[:60]
    seen = {}
    for kind in (PION, KAON, PROTON, ELECTRON):
        fan = [born(kind, (0.5 * np.cos(a), 0.5 * np.sin(a), 0.0), (0, 0, 0), 1) for a in phi]
        points = spacepoints(fan)
        adc = np.sort(points[points[:, T_KIND] == kind, P_ADC])
        seen[kind] = adc[: int(0.7 * len(adc))].mean()  # truncated, as tails have no mean worth the name
    expected = {kind: ionisation(0.5 / MASS[kind]) for kind in seen}
    assert expected[PROTON] > 1.8 * expected[KAON] > 2.2 * expected[PION]
    assert seen[KAON] / seen[PION] == pytest.approx(expected[KAON] / expected[PION], rel=0.12)
    assert seen[PROTON] / seen[PION] == pytest.approx(expected[PROTON] / expected[PION], rel=0.15)
    assert seen[ELECTRON] / seen[PION] == pytest.approx(expected[ELECTRON] / expected[PION], rel=0.12)


def test_electrons_are_drawn_alike_one_by_one_and_together() -> None:
    """Mean and spread agree with sums over the distribution, on both sides of where a normal number stands in."""
    need_tools()
    from multiplet.simulation import tpc_response as response

    u = (np.arange(1_000_000) + 0.5) / 1_000_000
    each = 1 + np.minimum(1 / u, 59)
    mean, square = 0.7 + 0.3 * each.mean(), 0.7 + 0.3 * (each**2).mean()
    draws = state(3)
    for expected in (12.0, 299.0, 301.0):
        got = np.array([response.electrons(expected, draws) for _ in range(8000)])
        assert got.mean() == pytest.approx(expected * mean, rel=0.025)
        assert got.std() == pytest.approx(np.sqrt(expected * square), rel=0.05)


def test_resolution_and_efficiency() -> None:
    """Spread of a cluster's place at both ends of the drift and for a flat crossing; one in 66 is lost."""
    need_tools()
    from multiplet.simulation.tpc_response import POINT, measure

    draws, point = state(4), np.empty(POINT)
    for z, tangent, across, along in ((0, 0, 0.0156, 0.05), (104.99, 0, 0.010, 0.04), (0, 4.0, 0.0815, 0.05)):
        crossing = np.array([47, 0.0, 75.363, z, 1.1, 1.5, tangent])
        seen = np.array([point.copy() for _ in range(20_000) if measure(crossing, point, draws)])
        assert (seen[:, 1] - np.pi / 2).std() * 75.363 == pytest.approx(across, rel=0.03)
        if z == 0:
            assert seen[:, 2].std() == pytest.approx(along, rel=0.03)
            assert len(seen) / 20_000 == pytest.approx(0.985, abs=0.004)
        else:
            assert seen[:, 2].max() < 105


def test_decays_keep_energy_and_momentum() -> None:
    """What is not seen of a decay has the mass of a neutrino, or of a π⁰ in the share of kaons that it should."""
    need_tools()
    from multiplet.simulation.tpc_matter import decay

    draws, momentum, child = state(5), np.array([0.3, -0.2, 0.4]), np.zeros(9)
    for kind, muons in ((PION, 1.0), (KAON, 0.6356)):
        missing, kinds = [], []
        for _ in range(3000):
            decay(kind, MASS[kind], momentum, child, draws)
            energy = np.hypot(np.linalg.norm(momentum), MASS[kind]) - np.hypot(np.linalg.norm(child[:3]), child[3])
            missing.append(energy**2 - ((momentum - child[:3]) ** 2).sum())
            kinds.append(child[8])
            assert child[3] == pytest.approx(MASS[int(child[8])], rel=1e-5)
        kinds, missing = np.array(kinds), np.array(missing)
        assert abs(missing[kinds == 0]).max() < 1e-12
        assert missing[kinds == PION] == pytest.approx(0.134977**2, rel=1e-6)
        assert (kinds == 0).mean() == pytest.approx(muons, abs=0.03)


def test_pions_decay_after_their_lifetime() -> None:
    need_tools()
    from multiplet.simulation.tpc_matter import path_to_decay

    draws = state(6)
    for kind, c_tau in ((PION, 780.45), (KAON, 371.2)):
        paths = [path_to_decay(kind, MASS[kind], 0.5, draws) for _ in range(20_000)]
        assert np.mean(paths) == pytest.approx(c_tau * 0.5 / MASS[kind], rel=0.03)
    assert path_to_decay(PROTON, MASS[PROTON], 0.5, draws) == np.inf


def test_photons_convert_in_the_material() -> None:
    """7/9 of the radiation lengths; pairs share the energy and start on a cylinder."""
    need_tools()
    from multiplet.simulation.tpc_tracks import RADIATION_LENGTHS, SURFACES, convert

    draws, pairs, children = state(7), 0, np.empty((2, 9))
    photon = np.array([0.6, 0.0, 0.8, 0.0, 0.0, 0.5, -0.3, 2.0, 0])
    for _ in range(20_000):
        if convert(photon, children, draws):
            pairs += 1
            assert np.hypot(children[:, :3], 0).sum(axis=0) == pytest.approx([0.6, 0, 0.8], abs=2e-3)
            assert np.sqrt((children[:, :3] ** 2).sum(axis=1) + 0.000511**2).sum() == pytest.approx(1.0)
            assert children[:, 4].tolist() == [1, -1]
            assert abs(np.hypot(children[0, 5], children[0, 6]) - SURFACES[:5]).min() < 1e-9
    assert pairs / 20_000 == pytest.approx(7 / 9 * RADIATION_LENGTHS.sum() / 0.6, rel=0.06)
    outside = np.array([0.6, 0.0, 0.8, 0.0, 0.0, 40.0, 0.0, 2.0, 0])
    assert not any(convert(outside, children, draws) for _ in range(100))


def test_delta_rays_follow_one_over_energy_squared() -> None:
    """Their number and spectrum; a slow proton can give none."""
    need_tools()
    from multiplet.simulation.tpc_matter import delta_ray

    draws = state(8)
    path = 100.0
    kicks = np.array([delta_ray(MASS[PION], 1.0, path, draws) for _ in range(40_000)])
    rate = 0.1535e-3 * 0.48 * 2.2e-3 * path * (1 + MASS[PION] ** 2) * (1 / 5e-5 - 1 / 0.01)
    assert (kicks > 0).mean() == pytest.approx(rate, rel=0.03)
    kicks = kicks[kicks > 0]
    assert kicks.min() >= 5e-5
    assert kicks.max() <= 0.01
    assert (kicks > 1e-4).mean() == pytest.approx((1e4 - 100) / (2e4 - 100), abs=0.01)
    assert not any(delta_ray(MASS[PROTON], 0.15, path, draws) for _ in range(1000))


def test_scattering_turns_and_slowing_takes() -> None:
    need_tools()
    from multiplet.simulation.tpc_matter import scatter, slow_down

    draws, straight = state(9), np.array([0.3, -0.4, 1.2])
    turned = np.array([scatter(p, MASS[PION], 0.01, draws) or p for p in np.tile(straight, (20_000, 1))])
    assert np.linalg.norm(turned, axis=1) == pytest.approx(1.3)
    beta = 1.3 / np.hypot(1.3, MASS[PION])
    width = 0.0136 / (beta * 1.3) * np.sqrt(0.01) * (1 + 0.038 * np.log(0.01))
    for side in (np.array([0.8, 0.6, 0]), np.cross(straight / 1.3, [0.8, 0.6, 0])):
        assert (turned @ side / 1.3).std() == pytest.approx(width, rel=0.03)
    momentum = straight.copy()
    assert slow_down(momentum, MASS[PION], 0.1)
    assert np.hypot(np.linalg.norm(momentum), MASS[PION]) == pytest.approx(np.hypot(1.3, MASS[PION]) - 0.1)
    assert np.cross(momentum, straight) == pytest.approx(0, abs=1e-12)
    assert not slow_down(momentum, MASS[PION], 5.0)


def test_close_spacepoints_are_one() -> None:
    """Weighted place, sum of ADC, the larger one's owner; far ones and those of other rows stay."""
    need_tools()
    from multiplet.simulation.tpc_response import POINT, merge
    from multiplet.simulation.tpc_tracks import ROWS

    points = np.zeros((6, POINT))
    apart = 0.2 / ROWS[3]
    points[:, 0] = [3, 3, 3, 3, 3, 4]
    points[:, 1] = [0.0, apart, apart, 0.5, 0.5 + apart, 0.5]
    points[:, 2] = [1.0, 1.4, 9.0, 2.0, 2.1, 2.0]
    points[:, 3] = [100, 300, 50, 6000, 4000, 70]
    points[:, 4] = [1, 2, 3, 4, 5, 6]
    left = merge(points)
    expected = [[3, 0.75 * apart, 1.3, 400, 2], [3, apart, 9, 50, 3], [3, 0.5 + 0.4 * apart, 2.04, 6250, 4]]
    assert left == 4
    assert points[:4, :5] == pytest.approx(np.array([*expected, [4, 0.5, 2, 70, 6]]))
