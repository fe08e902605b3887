"""Simulated telescope events: what the files promise, and the physics against published numbers, formulas and loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from multiplet.cli import app
from multiplet.data.arrow import read_events
from multiplet.data.columns import Columns, concatenate
from multiplet.data.orientation import light_direction
from multiplet.errors import DataError
from multiplet.ice import SURFACE
from multiplet.simulation import telescope_muons as muons
from multiplet.simulation import telescope_pulses as readout
from multiplet.simulation.blocks import Generator, simulate
from multiplet.simulation.telescope import SCHEMA, Telescope
from multiplet.simulation.telescope_array import Modules, ideal_ice, ideal_modules, read_ice, read_modules
from multiplet.simulation.telescope_events import LIGHT_SPEED, Sources, draw_neutrinos, hadronic_light, light, origin
from multiplet.simulation.telescope_light import GROUP_INDEX, Light, PhotoElectrons, delay, visible


@pytest.fixture(scope="module")
def events() -> Columns:
    """A thousand events."""
    return concatenate([Telescope().block("neutrinos", number, 1, 100) for number in range(10)])


@pytest.fixture(scope="module")
def detector() -> Light:
    return Light(ideal_modules(), ideal_ice())


def event_of(events: Columns) -> np.ndarray:
    return np.repeat(np.arange(len(events)), np.diff(events.offsets))


def test_array() -> None:
    modules = ideal_modules()
    expected = [(3.5778, 287.817, -586.54, 600.96), (-4.6988, 266.610, -474.65, 499.63)]
    expected.append((-26.5075, 295.843, -504.93, 498.07))
    assert len(modules) == 5160
    for axis, numbers in zip(modules.position.astype(np.float64).T, expected, strict=True):
        np.testing.assert_allclose([axis.mean(), axis.std(ddof=1)], numbers[:2], atol=6e-4)
        np.testing.assert_allclose([axis.min(), axis.max()], numbers[2:], atol=6e-3)
    strings = modules.position.reshape(86, 60, 3)[:, 0, :2]
    apart = np.linalg.norm(strings[:, None] - strings[None], axis=2) + 1e9 * np.eye(86)
    np.testing.assert_allclose(apart[:78, :78].min(1), 125, atol=1e-3)
    assert apart[78:].min() > 40.9
    assert apart[78:].min(1).max() < 72.2
    np.testing.assert_allclose(strings[35], [38.46, -41.64], atol=6e-3)
    depth = SURFACE - modules.position[:, 2].reshape(86, 60)
    np.testing.assert_allclose(depth[[0, 77], [0, 59]], [1450, 2453], atol=1e-3)
    np.testing.assert_allclose(depth[85, [0, 9, 10, 59]], [1760, 1850, 2107, 2450], atol=1e-3)


def test_efficiency_leaves_out_the_veto_cap() -> None:
    efficiency = ideal_modules().efficiency.reshape(86, 60)
    assert np.all(efficiency[:78] == 1)
    assert np.all(efficiency[78:, :10] == 1)
    np.testing.assert_allclose(efficiency[78:, 10:], 1.35)


def test_ice() -> None:
    z = (SURFACE - np.arange(1450, 2451)).astype(np.float32)
    scattering, absorption = ideal_ice().along(z, z)
    np.testing.assert_allclose(1 / scattering[[0, -1]], [18, 72], rtol=2e-3)
    np.testing.assert_allclose(1 / absorption[[0, -1]], [62.1, 248.4], rtol=2e-3)
    assert 2040 <= SURFACE - z[scattering.argmax()] <= 2050
    np.testing.assert_allclose([1 / scattering.max(), 1 / absorption.max()], [5.0, 17.0], rtol=0.02)
    depth = np.linspace(1500, 2300, 20001)  # a path by a fine sum of the formula
    slow = np.mean(1 / (36 * 2 ** ((depth - 1950) / 500)) + 0.178 * np.exp(-0.5 * ((depth - 2045) / 23) ** 2))
    ends = [np.array([SURFACE - d], np.float32) for d in (2300, 1500)]
    np.testing.assert_allclose(ideal_ice().along(*ends)[0], slow, rtol=1e-3)
    np.testing.assert_array_equal(ideal_ice().along(*ends), ideal_ice().along(*ends[::-1]))


@pytest.mark.parametrize("energy", [1e2, 1e3, 1e4, 1e5])
def test_muons_lose_what_the_formula_says(energy: float) -> None:
    """Energies before every step and those drawn, against the mean; and the split of the continuous loss."""
    length, count = (300.0 if energy < 1e3 else 1000.0), 5000
    track = muons.propagate(np.random.default_rng(1), np.full(count, energy), np.full(count, length))
    at_end = track.energy[track.start == track.start.max()]
    inside = track.start.max()
    expected = (energy + 0.2375 / 3.33e-4) * (1 - np.exp(-3.33e-4 * inside))
    stopped = count - len(at_end)
    np.testing.assert_allclose((energy * count - at_end.sum()) / count, expected, rtol=0.02)
    assert stopped < 0.02 * count
    v = np.geomspace(1e-6, 0.95, 200_000)  # single losses above 1 GeV in the first step, by a fine sum
    density = (1 + v / 0.01) ** -1.6
    above = np.trapezoid(np.where(v > 1 / energy, density, 0), v) / np.trapezoid(density, v)
    first = track.start == 0
    seen = track.losses[first].sum() + track.large[track.large_at < 10].sum()
    spread = np.sqrt(10 * 0.75 * 3.33e-4 * energy**2 * 0.1 * count)  # losses of a tenth of the energy dominate
    assert abs(seen - count * 10 * 0.75 * 3.33e-4 * energy * above) < 4 * spread


def test_muons_end() -> None:
    rng = np.random.default_rng(2)
    track = muons.propagate(rng, np.array([5.0, 50.0, 1e4, 0.0]), np.array([1e4, 10.0, 35.0, 10.0]))
    reach = [(track.length[track.muon == k]).sum() for k in range(3)]
    assert 5 / 0.2375 * 0.6 < reach[0] <= 5 / 0.2375
    np.testing.assert_allclose(reach[1:], [10, 35])
    assert len(muons.propagate(rng, np.zeros(0), np.zeros(0)).muon) == 0
    np.testing.assert_allclose(muons.mean_loss(np.array([1e3]), 1000), 485.23, rtol=1e-4)


def test_light_has_no_gap_between_track_and_drawn_losses() -> None:
    """All losses of a muon give light once: mean photons a metre, by a fine sum over losses from 0.5 GeV on."""
    energy, count = 1e4, 20_000
    track = muons.propagate(np.random.default_rng(3), np.full(count, energy), np.full(count, 10.0))
    v = np.geomspace(1e-6, 0.95, 200_000)
    density = (1 + v / 0.01) ** -1.6
    above = np.trapezoid(np.where(v > 0.5 / energy, density, 0), v) / np.trapezoid(density, v)
    shower = 5.254 * 0.75 * 3.33e-4 * energy * above
    bare = 1 + (0.188 + 0.0206 * np.log(energy)) * 0.910 / 0.9216
    got = (track.photons.sum() + 2450.08 * 5.254 * track.large.sum()) / count / 10
    np.testing.assert_allclose(got, 2450.08 * (bare + shower), rtol=0.06)  # heavy tails
    between = np.trapezoid(np.where((v > 0.5 / energy) & (v < 1 / energy), density, 0), v) / np.trapezoid(density, v)
    rest = track.photons.sum() / 2450.08 - 5.254 * track.losses.sum()
    np.testing.assert_allclose(rest / count / 10, bare + 5.254 * 0.75 * 3.33e-4 * energy * between, rtol=1e-3)


def test_neutrinos() -> None:
    drawn = draw_neutrinos(np.random.default_rng(4), 100_000, 1.9)
    np.testing.assert_allclose(np.bincount(drawn.interaction) / 1e5, [0.60, 0.28, 0.12], atol=0.006)
    np.testing.assert_allclose((drawn.energy < 1e3).mean(), (1 - 10**-0.9) / (1 - 10**-3.6), atol=0.006)
    np.testing.assert_allclose(drawn.hadronic.mean(), 0.32, atol=0.005)
    np.testing.assert_allclose(drawn.flight, -origin(drawn.azimuth, drawn.zenith))
    np.testing.assert_allclose(drawn.flight.mean(0), 0, atol=0.01)
    along = (drawn.vertex * drawn.flight).sum(1)[drawn.interaction == 0]
    aside = np.linalg.norm(np.cross(drawn.vertex, drawn.flight), axis=1)[drawn.interaction == 0]
    assert along.min() >= -900
    assert along.max() <= 600
    assert aside.max() <= 650
    np.testing.assert_allclose(np.median(aside), 650 / np.sqrt(2), rtol=0.01)
    np.testing.assert_allclose(hadronic_light(np.array([1e3])), 0.83, atol=0.005)


def shower(where: tuple[float, float, float], photons: float) -> Sources:
    return Sources(np.zeros(1, np.int64), np.array([where]), np.zeros(1), np.array([photons]), np.zeros(1))


def test_light_grows_with_energy(detector: Light) -> None:
    """Thinned and counted strings alike, up to where modules saturate."""
    drawn = draw_neutrinos(np.random.default_rng(5), 1, 1.9)
    rng, seen = np.random.default_rng(6), []
    for photons, repeats in ((1e5, 300), (1e7, 100), (1e9, 3)):
        shown = [detector.shine(rng, drawn, shower((60, 20, -300), photons)) for _ in range(repeats)]
        seen.append(sum(part.count.sum() for part in shown) / repeats / photons)
    np.testing.assert_allclose(np.array(seen) / seen[-1], 1, atol=0.1)


def test_thinning_gives_the_exact_means(detector: Light) -> None:
    """Photo-electrons of every event and module, against means of all pairs one by one."""
    check_means(detector)


@pytest.mark.slow
def test_thinning_in_an_uneven_array() -> None:
    place = ideal_modules().position.reshape(86, 60, 3).copy()
    rng = np.random.default_rng(7)
    place[:, :, 2] += rng.normal(0, 6, (86, 1))
    place[:, :, :2] += rng.normal(0, 2, (86, 60, 2))
    check_means(Light(Modules(place.reshape(-1, 3).astype(np.float32), ideal_modules().efficiency), ideal_ice()))


def check_means(detector: Light) -> None:
    rng = np.random.default_rng(8)
    drawn = draw_neutrinos(rng, 6, 1.9)
    drawn.energy[:] = [300, 1e3, 3e3, 1e4, 3e4, 1e5]
    sources = light(rng, drawn)
    place, flight = sources.position.astype(np.float32), drawn.flight.astype(np.float32)
    expected, modules = np.zeros((6, len(detector.modules))), np.arange(len(detector.modules))
    for number, event in enumerate(sources.event):
        here = np.repeat(place[number : number + 1], len(modules), 0)
        mean = visible(
            detector.modules, detector.ice, modules, here, np.repeat(flight[event : event + 1], len(modules), 0)
        )
        expected[event] += np.minimum(mean[0] * sources.photons[number], 3e4)
    seen, repeats = np.zeros_like(expected), 40
    for _ in range(repeats):
        got = detector.shine(rng, drawn, sources)
        np.add.at(seen, (got.event, got.module), got.count)
    per_event = expected.sum(1) * repeats
    assert np.all(np.abs(seen.sum(1) - per_event) < 4 * np.sqrt(per_event) + 0.004 * per_event)  # reach of 450 m
    much = expected * repeats > 20
    pull = (seen - expected * repeats)[much] / np.sqrt(expected[much] * repeats)
    assert much.sum() > 300
    assert abs(pull.mean()) < 0.25
    assert 0.85 < pull.std() < 1.15


def test_light_goes_where_modules_look(detector: Light) -> None:
    """A module above the light, which it looks at, sees more than one below, in the same ice; and Cherenkov's angle."""
    pair = np.array([30, 31])
    place = detector.modules.position[pair].mean(0, keepdims=True) + np.float32([[20, 0, 0]])
    sideways = np.tile(np.float32([[0, 1, 0]]), (2, 1))
    above, below = visible(detector.modules, detector.ice, pair, np.repeat(place, 2, 0), sideways)[0]
    assert 1.2 < above / below < 1.6
    module = np.array([30, 30])
    place = np.repeat(detector.modules.position[module[:1]] - np.float32([[30, 0, 0]]), 2, 0)
    cosine = np.float32([1 / 1.33, -1 / 1.33])
    axes = np.stack([cosine, np.sqrt(1 - cosine**2), 0 * cosine], 1)
    forward, backward = visible(detector.modules, detector.ice, module, place, axes)[0]
    np.testing.assert_allclose(forward / backward, np.exp(4 / 1.33 * np.exp(-30 / 40)), rtol=1e-3)


def test_delays_grow_with_distance() -> None:
    """Measured moments of the parametrisation at 33 m, 95 m, 175 m and 300 m of ordinary ice."""
    rng, moments = np.random.default_rng(9), []
    for distance in (33.0, 95.0, 175.0, 300.0):
        late = delay(rng, np.full(50_000, distance), np.full(50_000, 1 / 30), np.full(50_000, 1 / 100))
        moments.append([np.quantile(late, q) for q in (0.1, 0.5, 0.9)])
    assert np.all(np.diff(moments, axis=0) > 0)
    shape, scale = (11.8 + 0.437 * 95) / 33.3 - 0.3, 1 / (1 / 612 + LIGHT_SPEED / GROUP_INDEX * 0.563 / 100)
    late = delay(rng, np.full(200_000, 95.0), np.full(200_000, 1 / 30), np.full(200_000, 1 / 100))
    np.testing.assert_allclose([late.mean(), late.var()], [shape * scale, shape * scale**2 + 9], rtol=0.02)


def test_photons_arrive_after_their_way(detector: Light) -> None:
    drawn = draw_neutrinos(np.random.default_rng(10), 1, 1.9)
    where = (60.0, 20.0, -300.0)
    got = detector.shine(np.random.default_rng(11), drawn, shower(where, 1e8))
    way = np.linalg.norm(detector.modules.position[got.module] - np.array(where), axis=1) * GROUP_INDEX / LIGHT_SPEED
    assert len(got.time) > 1000
    assert (got.time - way).min() > -15
    assert np.all(got.count >= 1)


def test_bright_modules_keep_their_charge(detector: Light) -> None:
    """No more than 300 photo-electrons with times of their own, whose counts add up."""
    drawn = draw_neutrinos(np.random.default_rng(12), 1, 1.9)
    where = tuple(float(v) for v in detector.modules.position[30] + [0, 15, 0])
    got = detector.shine(np.random.default_rng(13), drawn, shower(where, 3e7))
    mean = visible(
        detector.modules, detector.ice, np.array([30]), np.float32([where]), drawn.flight.astype(np.float32)
    )[0]
    here = got.module == 30
    assert here.sum() == 300
    assert 300 < mean[0] * 3e7 < 3e4
    assert abs(got.count[here].sum() - mean[0] * 3e7) < 5 * np.sqrt(mean[0] * 3e7)


def test_merging() -> None:
    rng = np.random.default_rng(14)
    event = np.array([1, 0, 0, 0, 0, 0, 0, 0, 0])
    module = np.array([5, 7, 7, 7, 7, 7, 7, 8, 7])
    time = np.array([100, 104, 100, 110, 520, 510, 20_000, 100, 20_004])
    pulses = readout.merge(rng, event, module, time, np.array([1, 1, 1, 1, 1, 1, 1, 1, 50_000]))
    assert pulses.event.tolist() == [0, 0, 0, 0, 0, 1]
    assert pulses.sensor.tolist() == [7, 7, 7, 7, 8, 5]
    assert pulses.time.tolist() == [100, 110, 510, 20_000, 100, 100]  # 104 joins 100 at 5 ns, 520 joins 510 at 25 ns
    assert 30_000 < pulses.charge[3] < 55_000
    steps = (pulses.charge - 0.025) / 0.05
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-6)


def test_charges() -> None:
    rng = np.random.default_rng(15)
    one = readout.single_charges(rng, np.ones(200_000, np.int64))
    np.testing.assert_allclose(one.mean(), 0.25 * 0.45 + 0.75, atol=0.005)
    many = readout.single_charges(rng, np.full(100_000, 16))
    np.testing.assert_allclose([many.mean(), many.std()], [16 * one.mean(), 4 * one.std()], rtol=0.01)
    assert readout.quantised(np.array([-3.0, 0.0, 0.06, 0.1])).tolist() == pytest.approx([0.025, 0.025, 0.075, 0.125])


def test_coincidence_is_what_a_loop_finds() -> None:
    rng = np.random.default_rng(16)
    count = 1500
    merged = readout.merge(
        rng,
        rng.integers(0, 3, count),
        rng.integers(50, 190, count),
        rng.integers(0, 50_000, count),
        np.ones(count, np.int64),
    )
    pulses = readout.mark(merged, 240)
    for k in range(len(pulses.event)):
        partner = (
            (pulses.event == pulses.event[k])
            & (pulses.sensor // 60 == pulses.sensor[k] // 60)
            & np.isin(np.abs(pulses.sensor - pulses.sensor[k]), [1, 2])
            & (np.abs(pulses.time - pulses.time[k]) < 1000)
        )
        assert pulses.auxiliary[k] == (not partner.any())
    assert 0.1 < pulses.auxiliary.mean() < 0.9


def test_trigger_and_window() -> None:
    """Seven hits in 5 µs are none, eight are; 4 µs before the first and 6 µs after the last are read."""

    def pulses(hits: list[int], others: list[int]) -> readout.Pulses:
        time = np.array(hits + others)
        order, alone = np.argsort(time), np.array([False] * len(hits) + [True] * len(others))
        zero = np.zeros(len(time), np.int64)
        return readout.Pulses(zero, zero, time[order], np.ones(len(time)), alone[order])

    eight = [20_000 + 700 * k for k in range(8)]
    others = [15_999, 16_000, 30_900, 30_901]
    assert len(readout.trigger(pulses(eight[:7], others), 1).time) == 0
    assert len(readout.trigger(pulses([*eight[:7], 25_001], others), 1).time) == 0
    got = readout.trigger(pulses(eight, others), 1)
    assert got.time.tolist() == [5800, *(t - 10_200 for t in eight), 20_700]


def test_noise_alone() -> None:
    """550 Hz in 5160 modules over 50 µs: 142 hits, less what bursts lose at the end, merged where they are close."""
    one = np.zeros(200, np.int64)
    seen = PhotoElectrons(np.arange(200), one, np.full(200, 50.0), one + 1)
    event, module, time, _ = readout._with_noise(np.random.default_rng(17), seen, 200, 5160)
    assert 132 < (len(event) - 200) / 200 < 143
    assert module.min() == 0
    assert module.max() > 5150
    assert time.min() >= 0
    assert time.max() < 50_000
    assert np.all(time[:200] == 20_000)


def test_events_keep_the_invariants(events: Columns) -> None:
    value, event = events.values, event_of(events)
    assert len(events) == 1000
    assert events.schema == SCHEMA
    assert np.diff(events.offsets).min() >= 8
    key = np.stack([event, value["time"], value["sensor_id"]])
    assert np.all(np.lexsort(key[::-1]) == np.arange(len(event)))
    assert np.all(value["time"] == np.rint(value["time"]))
    assert value["time"].min() >= 5800
    assert value["charge"].min() >= 0.024
    assert np.all(np.isfinite(value["charge"]))
    place = ideal_modules().position[value["sensor_id"]]
    np.testing.assert_array_equal(np.stack([value[k] for k in "xyz"], 1), place)
    assert np.all(np.bincount(event, value["auxiliary"] == 0) >= 8)
    assert set(np.unique(value["interaction"])) == {0, 1, 2}
    assert value["azimuth"].min() >= 0
    assert value["azimuth"].max() < 2 * np.pi + 1e-6
    assert value["energy"].min() >= 100
    assert value["energy"].max() <= 1e6


def test_events_are_like_the_published_ones(events: Columns) -> None:
    """Numbers of the data of Kaggle's "IceCube – Neutrinos in Deep Ice", within 30 %."""
    count, event, value = np.diff(events.offsets), event_of(events), events.values
    np.testing.assert_allclose(np.quantile(count, [0.25, 0.5, 0.75, 0.9]), [48, 63, 89, 144], rtol=0.3)
    assert 0.087 < (count > 127).mean() < 0.17
    np.testing.assert_allclose((np.bincount(event, value["auxiliary"]) / count).mean(), 0.640, rtol=0.3)
    sensor, pulses = np.unique(event * 5160 + value["sensor_id"], return_counts=True)
    sensors = np.bincount(sensor // 5160)
    np.testing.assert_allclose([sensors.mean(), np.median(sensors)], [60, 50], rtol=0.3)
    np.testing.assert_allclose((pulses == 1).mean(), 0.78, rtol=0.3)


def test_light_goes_away_from_the_origin() -> None:
    events = concatenate([Telescope(1.5).block("neutrinos", number, 2, 100) for number in range(8)])
    hits = np.bincount(event_of(events), events.values["auxiliary"] == 0)
    cosine, bright = light_direction(events), hits >= 30
    track = events.values["interaction"] == 0
    assert (bright & track).sum() > 150
    assert (cosine[bright & track] < 0).mean() > 0.8
    assert 0.3 < (cosine[bright & ~track] < 0).mean() < 0.7
    turned = {**events.values, "zenith": np.float32(np.pi) - events.values["zenith"]}
    turned["azimuth"] = events.values["azimuth"] + np.float32(np.pi)
    np.testing.assert_allclose(light_direction(Columns(events.schema, events.offsets, turned)), -cosine, atol=1e-4)


def test_blocks_depend_on_their_seed_alone() -> None:
    telescope = Telescope()
    assert isinstance(telescope, Generator)
    whole, begun = telescope.block("neutrinos", 3, 5, 40), telescope.block("neutrinos", 3, 5, 7)
    again = whole.take(np.arange(7))
    for column in SCHEMA:
        np.testing.assert_array_equal(again.values[column.name], begun.values[column.name])
    other = telescope.block("neutrinos", 3, 6, 7)
    assert not np.array_equal(other.values["energy"], begun.values["energy"])
    with pytest.raises(DataError, match="no stream"):
        telescope.block("muons", 0, 1, 1)
    for gamma in (np.nan, 50.0):
        with pytest.raises(DataError, match="gamma"):
            Telescope(gamma)


@pytest.mark.slow
def test_files_do_not_depend_on_workers(tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        simulate(Telescope(), tmp_path / name, 250, 1, workers)
    for path in (tmp_path / "one").rglob("*.arrow*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def write_geometry(path: Path, position: np.ndarray, ids: np.ndarray | None = None) -> Path:
    rows = np.column_stack([np.arange(len(position)) if ids is None else ids, position])
    lines = [",".join([f"{row[0]:g}", *(f"{v:.4f}" for v in row[1:])]) for row in rows]
    path.write_text("\n".join(["sensor_id,x,y,z", *lines]) + "\n")
    return path


def test_command_with_an_array_of_ones_own(tmp_path: Path) -> None:
    """Twenty strings of the user's, and ice clearer than ours."""
    position = ideal_modules().position[: 20 * 60]
    geometry = write_geometry(tmp_path / "array.csv", position)
    ice = tmp_path / "ice.csv"
    ice.write_text("depth,scattering,absorption\n1400,30,100\n2500,60,220\n")
    arguments = ["simulate", "telescope", "--out", str(tmp_path / "out"), "--events", "20", "--seed", "3"]
    done = CliRunner().invoke(app, [*arguments, "--geometry", str(geometry), "--ice", str(ice), "--gamma", "1.2"])
    assert done.exit_code == 0, done.output
    events = read_events(tmp_path / "out" / "train" / "00000.arrow")
    assert len(events) == 16
    assert events.values["sensor_id"].max() < 1200
    np.testing.assert_allclose(events.values["x"], position[events.values["sensor_id"], 0], atol=1e-3)
    inverse = read_ice(ice).along(np.float32([SURFACE - 1950]), np.float32([SURFACE - 1950]))
    np.testing.assert_allclose(1 / np.concatenate(inverse), [45, 160], rtol=1e-3)
    assert read_modules(write_geometry(tmp_path / "all.csv", ideal_modules().position)).efficiency.sum() > 5299


def test_bad_geometry_is_one_clear_error(tmp_path: Path) -> None:
    good = ideal_modules().position[:180].astype(np.float64)
    ids = np.arange(180)
    path = tmp_path / "array.csv"

    def refused(position: np.ndarray, match: str, ids: np.ndarray | None = None) -> None:
        with pytest.raises(DataError, match=match) as error:
            read_modules(write_geometry(path, position, ids))
        assert "array.csv" in str(error.value)

    refused(good[:100], "whole strings of 60")
    refused(good[:0], "0 modules")
    refused(good, "each once: look at 4", np.where(ids == 5, 4, ids))
    refused(np.where(ids[:, None] == 7, np.nan, good), "x in row 8 is not a finite number")
    refused(good[::-1], "string 0 .* top to bottom")
    refused(good - [[0, 0, 1948]], "z from the middle")
    refused(good[np.argsort(np.random.default_rng(1).permutation(180))], "beside it; string")
    for text, match in (("sensor_id,x,y\n0,1,2\n", "z"), ("sensor_id,x,y,z\n0,1,2,high\n", "numbers"), ("", "CSV")):
        path.write_text(text)
        with pytest.raises(DataError, match=match):
            read_modules(path)
    path.write_text("depth,scattering,absorption\n2000,30,100\n1900,30,100\n")
    with pytest.raises(DataError, match="rising"):
        read_ice(path)


def test_an_array_that_never_triggers_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multiplet.simulation.telescope._PATIENCE", 5)
    far = Modules(ideal_modules().position[:60] + np.float32([[5e4, 0, 0]]), ideal_modules().efficiency[:60])
    with pytest.raises(DataError, match="hardly a neutrino triggers"):
        Telescope(modules=far).block("neutrinos", 0, 1, 1)


def test_interactions_can_be_chosen() -> None:
    made = Telescope(interactions=("track",)).block("neutrinos", 0, 1, 20)
    assert (made.values["interaction"] == 0).all()
    kinds = Telescope().block("neutrinos", 0, 1, 60).values["interaction"]
    assert set(kinds) == {0, 1, 2}
    with pytest.raises(DataError, match="interactions are"):
        Telescope(interactions=("muon",))
