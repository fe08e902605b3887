"""Simulated jets and the block driver: what the files promise, and the physics against slow loops and FastJet."""

from __future__ import annotations

import shutil
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from multiplet.data.arrow import read_events, sums_path
from multiplet.data.columns import Column, Columns, concatenate
from multiplet.errors import DataError, MissingExtraError
from multiplet.kinematics import delta_r
from multiplet.simulation import blocks
from multiplet.simulation.blocks import block_seed, simulate
from multiplet.simulation.jets import KINDS, LABELS, SCHEMA, Jets

SPLITS = ("train", "validation", "test")


# The driver, with a generator that costs nothing.


@dataclass(frozen=True)
class Toy:
    """Events of Poisson length; fails at one block of stream b, if asked to."""

    streams: tuple[str, ...] = ("a", "b", "c")
    scale: float = 1.0
    fail_at: int = -1

    @property
    def schema(self) -> tuple[Column, ...]:
        return Column("x"), Column("kind", level="event", truth=True, dtype="int16", classes=self.streams)

    def provenance(self) -> dict[str, str]:
        return {"generator": "toy", "scale": str(self.scale)}

    def block(self, stream: str, number: int, seed: int, events: int) -> Columns:
        if stream == "b" and number == self.fail_at:
            raise OSError("no space left on device")
        rng = np.random.default_rng(block_seed(seed, stream, number))
        offsets = np.concatenate([[0], np.cumsum(rng.poisson(3, events))]).astype(np.int64)
        x = (self.scale * rng.normal(size=offsets[-1])).astype(np.float32)
        kind = np.full(events, self.streams.index(stream), np.int16)
        return Columns(self.schema, offsets, {"x": x, "kind": kind})


def contents(out: Path) -> dict[str, bytes]:
    """Every file under a folder by its relative name."""
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_blocks_same_bytes_for_any_workers(tmp_path):
    """One process or three: the same files, byte for byte."""
    assert simulate(Toy(), tmp_path / "one", 1000, 5, workers=1, shard_events=300)
    assert simulate(Toy(), tmp_path / "three", 1000, 5, workers=3, shard_events=300)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")
    assert sorted(p.name for p in (tmp_path / "one/train").glob("*.arrow")) == [
        "00000.arrow",
        "00001.arrow",
        "00002.arrow",
    ]
    assert not (tmp_path / "one/.parts").exists()


def test_blocks_resume_gives_the_same_bytes(tmp_path, monkeypatch):
    """A run that dies in the middle is taken up where it was, and ends in the same bytes."""
    simulate(Toy(), tmp_path / "whole", 1000, 5)
    with pytest.raises(OSError, match="no space"):
        simulate(Toy(fail_at=2), tmp_path / "broken", 1000, 5)
    kept = list((tmp_path / "broken/.parts").glob("*.arrow"))
    assert kept
    made = []
    real = blocks._make
    monkeypatch.setattr(blocks, "_make", lambda *a: made.append(a[1]) or real(*a))
    simulate(Toy(), tmp_path / "broken", 1000, 5)
    assert len(made) == 12 - len(kept)
    assert contents(tmp_path / "whole") == contents(tmp_path / "broken")


def test_blocks_death_while_writing_files(tmp_path, monkeypatch):
    """Dying between two final files leaves the parts, from which the rest is written."""
    simulate(Toy(), tmp_path / "whole", 600, 5)
    real, calls = blocks._assemble, []

    def dies(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(blocks, "_assemble", dies)
    with pytest.raises(KeyboardInterrupt):
        simulate(Toy(), tmp_path / "broken", 600, 5)
    monkeypatch.setattr(blocks, "_assemble", real)
    simulate(Toy(), tmp_path / "broken", 600, 5)
    assert contents(tmp_path / "whole") == contents(tmp_path / "broken")


def test_blocks_damaged_part_is_redone(tmp_path):
    """A part with a flipped byte, and one without its checksums, are made again."""
    simulate(Toy(), tmp_path / "whole", 1000, 5)
    with pytest.raises(OSError, match="no space"):
        simulate(Toy(fail_at=3), tmp_path / "broken", 1000, 5)
    first, second, *_ = sorted((tmp_path / "broken/.parts").glob("*.arrow"))
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)
    sums_path(second).unlink()
    simulate(Toy(), tmp_path / "broken", 1000, 5)
    assert contents(tmp_path / "whole") == contents(tmp_path / "broken")


@pytest.mark.parametrize(
    "toy, events, seed, match",
    [(Toy(scale=2.0), 1000, 5, "scale"), (Toy(), 1000, 6, "seed"), (Toy(), 900, 5, "events")],
)
def test_blocks_refuse_foreign_parts_and_files(tmp_path, toy, events, seed, match):
    """Other settings in the same folder: an error that names them, before anything is changed."""
    with pytest.raises(OSError, match="no space"):
        simulate(Toy(fail_at=3), tmp_path, 1000, 5)
    before = contents(tmp_path)
    with pytest.raises(DataError, match=f"other settings.*{match}"):
        simulate(toy, tmp_path, events, seed)
    assert contents(tmp_path) == before
    assert simulate(Toy(), tmp_path, 1000, 5)
    before = contents(tmp_path)
    with pytest.raises(DataError, match=f"other settings.*{match}"):
        simulate(toy, tmp_path, events, seed)
    assert contents(tmp_path) == before


def test_blocks_refuse_a_part_under_another_name(tmp_path):
    """A part file is of one block; renamed, it is not taken for another."""
    with pytest.raises(OSError, match="no space"):
        simulate(Toy(fail_at=3), tmp_path, 1000, 5)
    parts = tmp_path / ".parts"
    for end in ("", ".sums"):
        shutil.copy(parts / f"a-000000.arrow{end}", parts / f"b-000000.arrow{end}")
    with pytest.raises(DataError, match="part"):
        simulate(Toy(), tmp_path, 1000, 5)


def test_blocks_finished_does_nothing(tmp_path):
    """Asked again, the driver says so and leaves the files; a damaged file is made again, the same."""
    assert simulate(Toy(), tmp_path, 500, 5) is True
    before = contents(tmp_path)
    assert simulate(Toy(), tmp_path, 500, 5) is False
    file = tmp_path / "train/00000.arrow"
    file.write_bytes(file.read_bytes()[:-7])
    assert simulate(Toy(), tmp_path, 500, 5) is True
    assert contents(tmp_path) == before


def test_blocks_splits_are_balanced_and_disjoint(tmp_path):
    """Every event once; every split and every prefix of it holds each stream as often, within one."""
    simulate(Toy(), tmp_path, 1003, 5, shard_events=200)
    seen = []
    for split, size in zip(SPLITS, (802, 101, 100), strict=True):
        files = [read_events(path) for path in sorted((tmp_path / split).glob("*.arrow"))]
        kind = np.concatenate([file.values["kind"] for file in files])
        seen.append(np.concatenate([file.values["event_id"] for file in files]))
        assert len(kind) == size
        counts = np.cumsum(kind[:, None] == np.arange(3), axis=0)
        assert np.all(np.ptp(counts, axis=1) <= 1)
    assert np.array_equal(np.concatenate(seen), np.arange(1003))
    column = next(c for c in read_events(tmp_path / "test/00000.arrow").schema if c.name == "event_id")
    assert not column.truth
    assert "not an input" in column.about


def test_blocks_events_lie_where_they_belong(tmp_path):
    """Event k is event k // S of stream k mod S, whatever block it was made in."""
    simulate(Toy(), tmp_path, 700, 5, fractions=(1.0, 0.0, 0.0))
    file = read_events(tmp_path / "train/00000.arrow")
    for number in (0, 1, 299, 300, 699):
        place = number // 3
        block = Toy().block(
            "abc"[number % 3], place // 100, 5, min(100, len(range(number % 3, 700, 3)) - place // 100 * 100)
        )
        low, high = block.offsets[place % 100 : place % 100 + 2]
        assert np.array_equal(block.values["x"][low:high], file.values["x"][slice(*file.offsets[number : number + 2])])
    assert not (tmp_path / "test").exists()


def test_blocks_progress_and_bad_arguments(tmp_path):
    """Progress ends at what was asked for; impossible arguments are all named at once."""
    told = []
    simulate(Toy(), tmp_path / "a", 250, 5, progress=lambda *a: told.append(a))
    assert told[0] == (0, 250)
    assert told[-1] == (250, 250)
    with pytest.raises(DataError, match=r"events is 0.*workers is 0.*fractions"):
        simulate(Toy(), tmp_path / "b", 0, 5, workers=0, fractions=(0.5, 0.1, 0.1))


# Jets.


def test_jets_classes_are_checked():
    """An unknown class is refused with the nearest name; labels are canonical whatever was asked for."""
    with pytest.raises(DataError, match="did you mean 'Tbqq'"):
        Jets(processes=("Tbq",))
    with pytest.raises(DataError, match="each once"):
        Jets(processes=("QCD", "QCD"))
    label = next(c for c in SCHEMA if c.name == "label")
    assert label.classes == LABELS
    assert label.truth


def test_jets_without_the_extra(monkeypatch):
    """Without Pythia the error names the extra to install."""
    import multiplet.simulation

    for name in [name for name in sys.modules if name.startswith("multiplet.simulation.jet_")]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(multiplet.simulation, name.rpartition(".")[2], raising=False)
    monkeypatch.setitem(sys.modules, "pythia8mc", None)
    with pytest.raises(MissingExtraError, match=r"multiplet\[simulate\]"):
        Jets().provenance()


def need_tools() -> None:
    """Skip where the extra `simulate` is not installed."""
    for name in ("pythia8mc", "fastjet", "awkward", "numba"):
        pytest.importorskip(name)


def same(a: Columns, b: Columns) -> bool:
    """Equal bit for bit."""
    return np.array_equal(a.offsets, b.offsets) and all(
        a.values[name].tobytes() == b.values[name].tobytes() for name in a.values
    )


@pytest.fixture(scope="module")
def jets() -> Columns:
    """Forty jets of each class, class by class."""
    need_tools()
    return concatenate([Jets().block(name, 0, 1, 40) for name in LABELS])


def per_jet(jets: Columns, values: np.ndarray) -> np.ndarray:
    """Sum over the points of each jet."""
    return np.add.reduceat(values.astype(np.float64), jets.offsets[:-1])


def test_jets_same_bytes_for_any_workers(tmp_path):
    """One process or two: the same files; no jet is in two splits."""
    need_tools()
    generator = Jets(("Zqq", "Wqq"))
    simulate(generator, tmp_path / "one", 60, 3)
    simulate(generator, tmp_path / "two", 60, 3, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    files = [read_events(tmp_path / "one" / split / "00000.arrow") for split in SPLITS]
    assert [len(file) for file in files] == [48, 6, 6]
    pt = np.concatenate([file.values["jet_pt"] for file in files])
    assert len(set(pt.tolist())) == 60
    assert set(files[0].values["label"].tolist()) == {6, 7}


@pytest.mark.parametrize("name", ["QCD", "Hqql", "Tbl"])
def test_jets_block_depends_on_its_arguments_alone(name, monkeypatch):
    """What ran before in the process, and how many collisions are made at a time, changes nothing."""
    need_tools()
    from multiplet.simulation import jet_events

    first = Jets().block(name, 7, 1, 12)
    Jets().block(name, 8, 1, 9)
    Jets().block("Zqq", 0, 1, 3)
    assert same(first, Jets().block(name, 7, 1, 12))
    monkeypatch.setattr(jet_events, "_BATCH_MIN", 40)
    assert same(first, Jets().block(name, 7, 1, 12))
    monkeypatch.setattr(jet_events, "_BATCH_MIN", 1)
    assert same(first.take(np.arange(5)), Jets().block(name, 7, 1, 5))
    assert not same(first, Jets().block(name, 7, 2, 12))
    with pytest.raises(DataError, match="no stream"):
        Jets(("QCD",)).block("Tbl", 0, 1, 1)


def test_jets_points(jets):
    """Every column of a point is what its name says."""
    v, jet = jets.values, np.repeat(np.arange(len(jets)), np.diff(jets.offsets))
    assert jets.schema == SCHEMA
    assert all(np.isfinite(v[name]).all() for name in v)
    px, py, pz, energy = (v[name].astype(np.float64) for name in ("px", "py", "pz", "energy"))
    pt = np.hypot(px, py)
    assert (energy >= np.sqrt(pt**2 + pz**2) * (1 - 1e-6)).all()
    assert (pt > 0).all()
    assert (np.diff(pt)[np.diff(jet) == 0] <= 0).all()
    sign = np.where(v["jet_eta"] > 0, 1, -1)[jet]
    assert np.allclose(sign * v["deta"] + v["jet_eta"][jet], np.arcsinh(pz / pt), atol=2e-5)
    assert (abs(v["dphi"]) < np.pi).all()
    assert np.allclose(np.cos(v["dphi"] + v["jet_phi"][jet]), px / pt, atol=1e-5)
    flags = np.stack([v[name] for name in KINDS])
    assert set(flags.sum(axis=0).tolist()) <= {0, 1}
    assert (flags.sum(axis=0) == 1).mean() > 0.99
    neutral = (v["is_neutral_hadron"] + v["is_photon"]) > 0
    assert (v["charge"][neutral] == 0).all()
    assert (abs(v["charge"][~neutral]) == 1).all()
    for name in ("d0", "d0_err", "dz", "dz_err"):
        assert (v[name][neutral] == 0).all()
    # A track below 0.18 GeV has no stated error even if the calorimeter raised its momentum afterwards.
    assert (v["d0_err"][~neutral] > 0).mean() > 0.99
    assert (v["dz_err"][~neutral] > 0).mean() > 0.99


def test_jets_selection_and_truth(jets):
    """Jets are inside the selection, and near what they come from."""
    v = jets.values
    assert (v["jet_pt"] > 500).all()
    assert (v["jet_pt"] < 1000).all()
    assert (abs(v["jet_eta"]) < 2).all()
    assert np.array_equal(v["jet_nparticles"], np.diff(jets.offsets))
    assert np.array_equal(v["label"], np.repeat(np.arange(10), 40))
    assert (delta_r(v["jet_eta"], v["jet_phi"], v["genpart_eta"], v["genpart_phi"]) < 0.8).all()
    pid = abs(v["genpart_pid"].reshape(10, 40))
    assert set(pid[0].tolist()) <= {1, 2, 3, 4, 5, 21}
    assert pid[1:, 0].tolist() == [25] * 5 + [23, 24, 6, 6]
    assert (pid[1:] == pid[1:, :1]).all()
    codes = [{50}, {41}, {42}, {44}, {45}, {46}, {31, 32, 33}, {21, 22}, {11, 12}, {15, 16}]
    for found, allowed in zip(v["truth_match"].reshape(10, 40), codes, strict=True):
        assert set(found.tolist()) <= allowed


def test_jets_are_the_sum_of_their_points(jets):
    """Compatible: pT and φ, because the stored η differs; realistic: all four components."""
    v = jets.values
    px, py = per_jet(jets, v["px"]), per_jet(jets, v["py"])
    assert np.allclose(np.hypot(px, py), v["jet_pt"], rtol=1e-6)
    assert np.allclose(per_jet(jets, v["energy"]), v["jet_energy"], rtol=0.05)
    real = Jets(("Hbb",), jetclass_compatible=False).block("Hbb", 0, 1, 15)
    v = real.values
    px, py, pz, energy = (per_jet(real, v[name]) for name in ("px", "py", "pz", "energy"))
    assert np.allclose(np.hypot(px, py), v["jet_pt"], rtol=1e-6)
    assert np.allclose(np.arcsinh(pz / np.hypot(px, py)), v["jet_eta"], atol=1e-5)
    assert np.allclose(energy, v["jet_energy"], rtol=1e-6)


def test_jets_masses_and_multiplicities(jets):
    """Median mass and mean multiplicity of each class in wide windows around real JetClass's (its 500 jets)."""
    v = jets.values
    momentum = v["jet_pt"].astype(np.float64) * np.cosh(v["jet_eta"].astype(np.float64))
    mass = np.sqrt(np.maximum(v["jet_energy"].astype(np.float64) ** 2 - momentum**2, 0)).reshape(10, 40)
    real = np.array([66, 122, 123, 124, 121, 96, 93, 87, 170, 121])
    assert (abs(np.median(mass, axis=1) / real - 1) < [0.6, *[0.15] * 9]).all()
    real = np.array([34.8, 40.2, 38.3, 56.7, 48.8, 26.2, 35.2, 31.7, 52.0, 26.1])
    assert (abs(v["jet_nparticles"].reshape(10, 40).mean(axis=1) / real - 1) < 0.3).all()


# Substructure.


def momenta_of(jets: Columns, number: int) -> np.ndarray:
    """px, py, pz, E of one jet's points."""
    rows = slice(jets.offsets[number], jets.offsets[number + 1])
    return np.stack([jets.values[name][rows].astype(np.float64) for name in ("px", "py", "pz", "energy")], axis=1)


def slow_clusters(momenta: np.ndarray, power: float, radius: float, left: int) -> list[np.ndarray]:
    """Sequential recombination by trying every pair at every step, until so many are left."""
    alive = list(momenta)

    def place(p: np.ndarray) -> tuple[float, float, float]:
        return np.arctanh(p[2] / p[3]), np.arctan2(p[1], p[0]), np.hypot(p[0], p[1])

    while len(alive) > left:
        best, pair = np.inf, (-1, -1)
        for i, a in enumerate(alive):
            y, phi, pt = place(a)
            if pt ** (2 * power) < best:
                best, pair = pt ** (2 * power), (i, -1)
            for j in range(i):
                y_j, phi_j, pt_j = place(alive[j])
                distance = delta_r(y, phi, y_j, phi_j) ** 2 / radius**2 * min(pt**power, pt_j**power) ** 2
                if distance < best:
                    best, pair = distance, (i, j)
        if pair[1] >= 0:
            alive.append(alive[pair[0]] + alive[pair[1]])
        alive = [p for i, p in enumerate(alive) if i not in pair]
    return alive


@pytest.mark.parametrize("number", [0, 45, 170, 330])
def test_tau_against_slow_loop(jets, number):
    """τ_1 … τ_4 with axes found by trying every pair."""
    from multiplet.simulation.jet_substructure import n_subjettiness

    momenta = momenta_of(jets, number)[:30]
    pt = np.hypot(momenta[:, 0], momenta[:, 1])
    y, phi = np.arctanh(momenta[:, 2] / momenta[:, 3]), np.arctan2(momenta[:, 1], momenta[:, 0])
    for n, tau in enumerate(n_subjettiness(momenta, 4), start=1):
        axes = slow_clusters(momenta, 1.0, 0.8, n)
        nearest = [
            min(delta_r(y[i], phi[i], np.arctanh(a[2] / a[3]), np.arctan2(a[1], a[0])) for a in axes)
            for i in range(len(pt))
        ]
        assert tau == pytest.approx((pt * nearest).sum() / (0.8 * pt.sum()), rel=1e-9)


def test_substructure_of_small_jets():
    """As many axes as points: τ is 0; a single point has its own mass."""
    need_tools()
    from multiplet.simulation.jet_substructure import substructure

    momenta = np.array([[300.0, 0, 10, 310], [200.0, 30, 0, 210], [100.0, -40, 5, 120]])
    assert np.array_equal(substructure(momenta, np.array([0, 3]))[0, 3:], [0, 0])
    single = substructure(momenta[:1], np.array([0, 1]))[0]
    assert single[0] == pytest.approx(np.sqrt(310**2 - 300**2 - 10**2))
    assert (single[1:] == 0).all()


def test_substructure_against_fastjet(jets, monkeypatch):
    """Soft-drop mass of every jet, and exclusive kT axes, against FastJet."""
    import awkward as ak
    import fastjet

    from multiplet.simulation.jet_substructure import recombine, soft_drop_mass

    record = {
        name: ak.unflatten(jets.values[column].astype(np.float64), np.diff(jets.offsets))
        for name, column in (("px", "px"), ("py", "py"), ("pz", "pz"), ("E", "energy"))
    }
    events = ak.zip(record, with_name="Momentum4D")
    tree = fastjet.ClusterSequence(events, fastjet.JetDefinition(fastjet.cambridge_algorithm, 100.0))
    groomed = tree.exclusive_jets_softdrop_grooming(1).msoftdrop
    ours = [soft_drop_mass(momenta_of(jets, i)) for i in range(len(jets))]
    assert np.allclose(ours, ak.to_numpy(ak.flatten(groomed, axis=None)), rtol=1e-6, atol=1e-4)
    tree = fastjet.ClusterSequence(events, fastjet.JetDefinition(fastjet.kt_algorithm, 0.8))
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # FastJet replaces it for everybody
    with pytest.warns(UserWarning, match="should be interpreted with care"):  # it says so of kT as well
        axes = tree.exclusive_jets(3)
    for i in range(0, len(jets), 10):
        pseudojets, steps = recombine(momenta_of(jets, i), True, 0.8)
        gone = steps[: int(jets.values["jet_nparticles"][i]) - 3]
        made = jets.values["jet_nparticles"][i] + (gone[:, 2] >= 0).sum()
        left = sorted(set(range(made)) - set(gone[:, :2].ravel().tolist()))
        assert np.allclose(np.sort(pseudojets[left, 0]), np.sort(ak.to_numpy(axes[i].px)), rtol=1e-9, atol=1e-9)


def test_anti_kt_against_slow_loop():
    """Jets of two events, the second empty, in falling pT; members point into the right rows."""
    need_tools()
    from multiplet.simulation.jet_substructure import anti_kt

    rng = np.random.default_rng(4)
    pt, eta, phi = rng.exponential(20, 40) + 1, rng.normal(0, 1, 40), rng.uniform(-np.pi, np.pi, 40)
    momenta = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta) * 1.01], axis=1)
    event, rows, begins = anti_kt(momenta, np.array([0, 0, 40, 40]), 10.0)
    assert (event == 1).all()
    found = np.add.reduceat(momenta[rows], begins[:-1], axis=0)
    found_pt = np.hypot(found[:, 0], found[:, 1])
    assert (np.diff(found_pt) <= 0).all()
    alive, done = list(momenta), []
    while alive:
        best, pair = np.inf, (-1, -1)
        for i, a in enumerate(alive):
            for j in range(-1, i):
                b = alive[j]
                inverse = min(1 / (a[0] ** 2 + a[1] ** 2), np.inf if j < 0 else 1 / (b[0] ** 2 + b[1] ** 2))
                y, y_b = np.arctanh(a[2] / a[3]), np.arctanh(b[2] / b[3])
                apart = 0.64 if j < 0 else delta_r(y, np.arctan2(a[1], a[0]), y_b, np.arctan2(b[1], b[0])) ** 2
                if inverse * apart < best:
                    best, pair = inverse * apart, (i, j)
        if pair[1] < 0:
            done.append(np.hypot(*alive[pair[0]][:2]))
        else:
            alive.append(alive[pair[0]] + alive[pair[1]])
        alive = [p for i, p in enumerate(alive) if i not in pair]
    assert np.allclose(found_pt, sorted((pt for pt in done if pt > 10), reverse=True))


# The detector.


def test_helix():
    """R = pT/(0.3 B); a positive charge turns clockwise; the way to the calorimeter is that of small steps."""
    need_tools()
    from multiplet.simulation.jet_tracks import HALF_LENGTH, RADIUS, circle, surface

    x, y, radius = circle(1.0, 0.0, 0.0, 0.0, 1)
    assert radius == pytest.approx(1000 / (0.299792458 * 3.8))
    assert (x, y) == (pytest.approx(0), pytest.approx(-radius))
    assert circle(1.0, 0.0, 0.0, 0.0, -1)[1] == pytest.approx(radius)
    rng = np.random.default_rng(1)
    for charge in (1, -1, 0):
        for _ in range(10):
            pt, phi, slope = rng.uniform(0.2, 5), rng.uniform(-np.pi, np.pi), rng.normal()
            start = rng.normal(0, 100, 3)
            particle = np.array([pt * np.cos(phi), pt * np.sin(phi), pt * slope, 10.0, *start])
            at, angle, step = start.copy(), phi, 0.5
            bend = -charge * 0.299792458e-3 * 3.8 / pt
            while np.hypot(at[0], at[1]) < RADIUS and abs(at[2]) < HALF_LENGTH:
                middle = angle + 0.5 * step * bend
                at += step * np.array([np.cos(middle), np.sin(middle), slope])
                angle += step * bend
            reached, eta, phi = surface(particle, charge)
            assert reached
            assert eta == pytest.approx(np.arcsinh(at[2] / np.hypot(at[0], at[1])), abs=1e-3)
            assert np.cos(phi - np.arctan2(at[1], at[0])) == pytest.approx(1, abs=1e-6)


def test_surface_refuses_what_never_arrives():
    """Born outside, or moving along the beam."""
    need_tools()
    from multiplet.simulation.jet_tracks import surface

    assert not surface(np.array([1.0, 0, 0, 1, 1300, 0, 0]), 0)[0]
    assert not surface(np.array([1.0, 0, 0, 1, 0, 0, 3100]), 1)[0]
    assert not surface(np.array([0.0, 0, 50, 50, 0, 0, 0]), 1)[0]
    assert not surface(np.array([0.1, 0, 0, 1, 0, 0, 0]), 1)[0]  # curls for ever at one z


def test_impact_parameters():
    """Sign and size of d0 and dz, against the closest point of many along the helix."""
    need_tools()
    from multiplet.simulation.jet_tracks import perigee

    d0, dz, phi = perigee(np.array([0.0, 500.0, 0.0, 500.0, 10.0, 3.0, 7.0]), 1)
    assert d0 == pytest.approx(10, rel=1e-3)
    assert dz == pytest.approx(7)
    assert phi == pytest.approx(np.pi / 2, abs=1e-3)
    assert perigee(np.array([0.0, 500.0, 0.0, 500.0, -10.0, 3.0, 7.0]), -1)[0] == pytest.approx(-10, rel=1e-3)
    assert perigee(np.array([3.0, 4.0, 5.0, 9.0, 0.0, 0.0, 0.0]), 1)[:2] == (pytest.approx(0), pytest.approx(0))
    rng = np.random.default_rng(2)
    for charge in (1, -1):
        for _ in range(10):
            pt, angle, slope, start = (
                rng.uniform(0.5, 5),
                rng.uniform(-np.pi, np.pi),
                rng.normal(),
                rng.normal(0, 30, 3),
            )
            bend = -charge * 0.299792458e-3 * 3.8 / pt
            path = np.linspace(-200, 200, 400_001)
            x = start[0] + (np.sin(angle + bend * path) - np.sin(angle)) / bend
            y = start[1] - (np.cos(angle + bend * path) - np.cos(angle)) / bend
            near = np.argmin(np.hypot(x, y))
            direction = angle + bend * path[near]
            particle = np.array([pt * np.cos(angle), pt * np.sin(angle), pt * slope, 10.0, *start])
            d0, dz, phi = perigee(particle, charge)
            assert d0 == pytest.approx(x[near] * np.sin(direction) - y[near] * np.cos(direction), abs=1e-2)
            assert dz == pytest.approx(start[2] + path[near] * slope, abs=1e-2)
            assert np.cos(phi - direction) == pytest.approx(1, abs=1e-6)


def test_efficiencies_and_resolutions():
    """The card's numbers at either side of their edges."""
    need_tools()
    from multiplet.simulation.jet_response import fraction, resolution
    from multiplet.simulation.jet_tracks import efficiency, impact_errors, momentum_resolution

    assert [efficiency(211, pt, 1.0) for pt in (0.05, 0.5, 5.0)] == [0.0, 0.70, 0.95]
    assert [efficiency(-321, pt, -2.0) for pt in (0.5, 5.0)] == [0.60, 0.85]
    assert [efficiency(11, pt, 0.0) for pt in (0.5, 5.0, 500.0)] == [0.73, 0.95, 0.99]
    assert [efficiency(11, pt, 2.0) for pt in (0.5, 5.0, 500.0)] == [0.50, 0.83, 0.90]
    assert [efficiency(13, pt, eta) for pt, eta in ((0.5, 0), (5.0, 0), (0.5, 2), (5.0, 2))] == [0.75, 0.99, 0.70, 0.98]
    assert efficiency(211, 5.0, 2.6) == 0.0
    assert resolution(False, 0.0, 100.0) == pytest.approx(np.sqrt(0.64 + 1.21 + 0.16))
    assert resolution(False, -2.0, 100.0) == pytest.approx(2.16 * np.sqrt(0.64 + 1.21 + 0.16))
    assert resolution(False, 3.0, 100.0) == pytest.approx(np.sqrt(10.7**2 + 2.08**2 * 100))
    assert resolution(True, 1.0, 100.0) == pytest.approx(np.sqrt(25 + 225))
    assert resolution(True, 3.5, 100.0) == pytest.approx(np.sqrt(169 + 729))
    assert [fraction(False, pid) for pid in (22, -11, 211, 13, 310, 14)] == [1, 1, 0, 0, 0.3, 0]
    assert [fraction(True, pid) for pid in (22, -11, 211, 13, -3122, 14)] == [0, 0, 1, 0, 0.7, 0]
    assert momentum_resolution(211, 100.0, 0.3) == pytest.approx(np.hypot(0.06, 0.13))
    assert momentum_resolution(13, 100.0, 2.0) == pytest.approx(np.hypot(0.025, 0.035))
    assert impact_errors(1.0, 0.5) == (pytest.approx(np.hypot(0.0108, 0.0864)), pytest.approx(np.hypot(0.0307, 0.116)))
    assert impact_errors(0.15, 0.5) == (0.0, 0.0)


def test_towers():
    """Towers of the card: ECAL 0.0174 × 1°, HCAL 0.087 × 5° to |η| 1.653, then 10°, then 20°."""
    need_tools()
    from multiplet.simulation import jet_response as response

    assert np.allclose(np.diff(response._ECAL_EDGES[11:-11]), 0.0174)
    assert response._ECAL_EDGES[[0, -1]].tolist() == [-5, 5]
    edges, cells = response._HCAL_EDGES, response._HCAL_CELLS
    assert np.allclose(edges, -edges[::-1])
    assert len(cells) == len(edges) - 1
    low = np.minimum(abs(edges[1:]), abs(edges[:-1]))
    assert np.array_equal(cells, np.where(low < 1.65, 72, np.where(low < 4.52, 36, 18)))
    assert response._tower(False, 0.001, 0.001) == response._tower(False, 0.017, 0.017)
    assert response._tower(False, 0.001, 0.001) != response._tower(False, 0.018, 0.001)
    assert response._tower(True, 5.1, 0.0) == -1
    assert response._tower(True, 0.1, np.pi) >= 0


def respond(pid: int, charge: int, energy: float, eta: float, copies: int, compatible: bool = True):
    """Objects of events with one particle each."""
    from multiplet.simulation.jet_response import respond as run
    from multiplet.simulation.jet_tracks import event_keys

    mass = {211: 0.13957, 11: 0.000511, 13: 0.10566}.get(pid, 0.0)
    p = np.sqrt(energy**2 - mass**2)
    row = [p / np.cosh(eta), 0.0, p * np.tanh(eta), energy, 0.0, 0.0, 0.0]
    keys = event_keys(np.uint64(1), 0, copies)
    assert len(set(keys.tolist())) == copies
    return run(
        np.tile(row, (copies, 1)),
        np.full(copies, pid),
        np.full(copies, charge),
        np.arange(copies + 1),
        keys,
        compatible,
    )


def test_response_photon_and_muon():
    """A photon is smeared by the ECAL; a muon passes with its own momentum and its efficiency."""
    need_tools()
    from multiplet.simulation.jet_tracks import D0, D0_ERR, ENERGY, PID

    objects, offsets = respond(22, 0, 50.0, 0.3, 4000)
    sigma = (1 + 0.64 * 0.3**2) * np.sqrt((0.008 * 50) ** 2 + 0.11**2 * 50 + 0.40**2)
    assert len(objects) == 4000
    assert (objects[:, PID] == 22).all()
    assert objects[:, ENERGY].mean() == pytest.approx(50, abs=5 * sigma / np.sqrt(4000))
    assert objects[:, ENERGY].std() == pytest.approx(sigma, rel=0.06)
    objects, offsets = respond(13, -1, 50.0, 0.3, 4000)
    assert len(objects) == offsets[-1]
    assert len(objects) / 4000 == pytest.approx(0.99, abs=0.008)
    assert np.allclose(objects[:, ENERGY], 50.0)
    assert np.std(objects[:, D0] / objects[:, D0_ERR]) == pytest.approx(1, abs=0.06)


def test_response_charged_hadron():
    """Compatible: the track takes the tower's energy, or is a track with an excess; realistic: the track rules."""
    need_tools()
    from multiplet.simulation.jet_tracks import CHARGE, ENERGY, ETA, PX, PZ

    objects, _ = respond(211, 1, 10.0, 0.5, 4000)
    charged = objects[objects[:, CHARGE] != 0]
    sigma = np.sqrt((0.05 * 10) ** 2 + 1.5**2 * 10)
    rescaled = charged[abs(charged[:, ENERGY] - 10) > 1e-9]
    assert (rescaled[:, ENERGY] < 10 + 2.2 * sigma).all()
    assert (rescaled[:, ENERGY] > 1).all()
    surface_eta = charged[:, ETA]
    assert (surface_eta > 0.5).all()
    assert np.allclose(charged[:, PZ] / charged[:, PX], np.sinh(0.5), rtol=1e-2)
    soft, _ = respond(211, 1, 2.0, 0.5, 4000)
    assert len(soft) / 4000 < 0.8  # towers below threshold take their tracks along
    objects, _ = respond(211, 1, 10.0, 0.5, 4000, compatible=False)
    charged = objects[objects[:, CHARGE] != 0]
    assert np.std(charged[:, ENERGY]) < 0.3 * sigma
    assert np.median(charged[:, ENERGY]) == pytest.approx(10, rel=0.05)
    assert np.allclose(charged[:, ETA], 0.5)


def test_one_jet_a_collision():
    """A coin picks the partner, the harder jet wins, and unmatched jets are left out."""
    need_tools()
    from multiplet.simulation.jet_events import _one_each

    keys = np.array([0, 2**63, 0, 0], np.uint64)
    event = np.array([0, 0, 1, 1, 2, 3, 3])
    accepted = np.array([[0, 1], [1, 0], [1, 0], [0, 1], [0, 0], [0, 1], [0, 1]], bool)
    chosen, partner = _one_each(event, accepted, keys)
    assert chosen.tolist() == [1, 3, 5]
    assert partner.tolist() == [0, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Hbb", "Tbl"])
def test_veto_loses_next_to_nothing(name, monkeypatch):
    """Of jets accepted without the early veto, it would have dropped less than one in a hundred."""
    need_tools()
    from multiplet.simulation import jet_events, jet_processes

    verdicts: list[bool] = []

    def remember(self, place, event):
        if place < 5:
            verdicts.append(any(self._hope(event, *hope) for hope in self._hopes))
        return False

    monkeypatch.setattr(jet_processes.Veto, "doVetoPT", remember)
    jet_processes.generator(name).rndm.init(5)
    accepted, lost = 0, 0
    for number in range(3):
        verdicts.clear()
        batch = jet_processes.generate(name, 300)
        assert len(batch) == len(verdicts)
        jets = jet_events._select(name, batch, np.arange(len(batch)).astype(np.uint64) + number, True)
        pt = batch.candidates[:, :, 0].astype(np.float32)
        hit = np.isin(pt, jets.values["genpart_pt"]).any(axis=1)
        accepted, lost = accepted + len(jets), lost + int((hit & ~np.array(verdicts)).sum())
    assert accepted > 100
    assert lost / accepted < 0.01
