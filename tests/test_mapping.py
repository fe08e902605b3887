"""Mappings and tables: somebody's own files beside slow loops, every kind of file alike, and every fault named."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import awkward
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from typer.testing import CliRunner

from multiplet.cli import app
from multiplet.data.columns import Columns, concatenate
from multiplet.data.convert import convert
from multiplet.data.formats import Format
from multiplet.data.formats.jetclass import JetClass, write_root
from multiplet.data.formats.jetclass_layout import LABELS
from multiplet.data.formats.mapping import read_mapping
from multiplet.data.formats.table import TableFormat, table
from multiplet.errors import DataError
from test_formats_root import simulated

COUNTS = [3, 0, 2, 4]
POINTS = 9
RNG = np.random.default_rng(3)
PT, ETA = RNG.uniform(1, 50, POINTS).astype(np.float32), RNG.uniform(-3, 3, POINTS).astype(np.float32)
PHI, MASS = RNG.uniform(-3.1, 3.1, POINTS).astype(np.float32), np.full(POINTS, 0.1396, np.float32)
OFFSETS = np.concatenate([[0], np.cumsum(COUNTS)])
FLAT = {
    "met": np.array([5.0, 50.0, 20.0, 80.0], np.float32),
    "kind": np.array([0, 1, 0, 2], np.int32),
    "run": np.array([7, 7, 8, 8], np.uint32),
    "event": np.array([2**53 + 1, 2, 3, 4], np.uint64),
    "w": np.array([1.0, -1.0, 0.5, 2.0]),
    "good": np.array([True, False, True, True]),
}
LISTS = {"p_pt": PT, "p_eta": ETA, "p_phi": PHI, "p_mass": MASS, "p_q": RNG.integers(-1, 2, POINTS).astype(np.int32)}
FOUR = "four_vector: {pt: p_pt, eta: p_eta, phi: p_phi, mass: p_mass}"
BASE = f"points:\n  {FOUR}\n"


def lists(values: np.ndarray, counts: Any = COUNTS) -> Any:
    return awkward.unflatten(values, counts)


def write_tree(path: Path, branches: dict[str, Any], name: str = "Events") -> Path:
    with uproot.recreate(path) as file:
        file.mktree(name, branches)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four events with points p and a few numbers each; the second has no points."""
    return write_tree(tmp_path / "mine.root", {**FLAT, **{name: lists(value) for name, value in LISTS.items()}})


@pytest.fixture
def say(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a mapping."""

    def write(text: str) -> Path:
        path = tmp_path / "mapping.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def read(mapping: Path, *sources: Path | str, step: int = 0) -> tuple[Columns, dict[str, int], np.ndarray]:
    """All events of the sources, their cut flow, and the places of the kept ones."""
    made, paths = table(mapping, [str(source) for source in sources])
    assert isinstance(made, Format)
    made = TableFormat(made.mapping, made.labels, step)
    parts, cuts, places = [], {}, []
    for path in paths:
        first = 0
        for chunk in made.chunks(path):
            assert chunk.entries is not None
            parts.append(chunk.columns)
            places.append(chunk.entries + first)
            first += chunk.cuts["read"]
            cuts = {name: cuts.get(name, 0) + left for name, left in chunk.cuts.items()}
    return concatenate(parts), cuts, np.concatenate(places)


def p4(pt: float, eta: float, phi: float, mass: float) -> tuple[float, float, float, float]:
    x, y, z = pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta)
    return x, y, z, math.sqrt(x * x + y * y + z * z + mass * mass)


def jets(mask: list[bool] | None = None) -> list[dict[str, Any]]:
    """The events above by a slow loop: points in descending pT around their sum."""
    found = []
    for low, high in pairwise(OFFSETS):
        of = [n for n in range(low, high) if mask is None or mask[n]]
        points = sorted(
            (p4(*map(float, (PT[n], ETA[n], PHI[n], MASS[n]))) for n in of), key=lambda p: -math.hypot(*p[:2])
        )
        x, y, z, e = (sum(p[k] for p in points) for k in range(4))
        pt = math.hypot(x, y)
        eta, phi = (math.asinh(z / pt), math.atan2(y, x)) if points else (0.0, 0.0)
        deta = [(math.asinh(p[2] / math.hypot(*p[:2])) - eta) * (1 if eta > 0 else -1) for p in points]
        dphi = [(math.atan2(p[1], p[0]) - phi + math.pi) % (2 * math.pi) - math.pi for p in points]
        found.append({"points": points, "deta": deta, "dphi": dphi, "jet": (pt, eta, phi, e), "n": len(points)})
    return found


def assert_jets(columns: Columns, expected: list[dict[str, Any]]) -> None:
    points = [p for jet in expected for p in jet["points"]]
    for k, name in enumerate(("px", "py", "pz", "energy")):
        np.testing.assert_allclose(columns.values[name], [p[k] for p in points], rtol=2e-6, atol=1e-5)
    for name in ("deta", "dphi"):
        np.testing.assert_allclose(columns.values[name], [d for jet in expected for d in jet[name]], atol=1e-5)
    for k, name in enumerate(("jet_pt", "jet_eta", "jet_phi", "jet_energy")):
        np.testing.assert_allclose(columns.values[name], [jet["jet"][k] for jet in expected], rtol=1e-5, atol=1e-6)
    assert columns.values["jet_nparticles"].tolist() == [jet["n"] for jet in expected]
    assert np.diff(columns.offsets).tolist() == [jet["n"] for jet in expected]


def test_points_around_their_sum(root: Path, say: Callable[[str], Path]) -> None:
    columns, cuts, places = read(say(BASE), root)
    assert_jets(columns, jets())
    assert cuts == {"read": 4}
    assert places.tolist() == [0, 1, 2, 3]
    assert [column.name for column in columns.schema][:6] == ["px", "py", "pz", "energy", "deta", "dphi"]


def test_mev_is_made_gev(root: Path, say: Callable[[str], Path]) -> None:
    mev = "{pt: 1000 * p_pt, eta: p_eta, phi: p_phi + 2 * pi, mass: 1000 * p_mass, unit: MeV}"
    assert_jets(read(say(f"points: {{four_vector: {mev}}}"), root)[0], jets())


def test_cartesian_and_energy(root: Path, say: Callable[[str], Path]) -> None:
    energy = "energy: sqrt((p_pt * cosh(p_eta)) ** 2 + p_mass ** 2)"
    x = "px: p_pt * cos(p_phi), py: p_pt * sin(p_phi), pz: p_pt * sinh(p_eta)"
    assert_jets(read(say(f"points: {{four_vector: {{{x}, {energy}}}}}"), root)[0], jets())
    polar = f"pt: p_pt, eta: p_eta, phi: p_phi, {energy}"
    assert_jets(read(say(f"points: {{four_vector: {{{polar}}}}}"), root)[0], jets())


def test_an_axis_keeps_its_direction_without_momentum(root: Path, say: Callable[[str], Path]) -> None:
    columns, _, _ = read(say(f"{BASE}event: {{axis: {{pt: 0 * met, eta: 1.25, phi: -1.5, mass: 2}}}}"), root)
    values = [columns.values[name].tolist() for name in ("jet_pt", "jet_eta", "jet_phi", "jet_energy")]
    assert values == [[0] * 4, [1.25] * 4, [-1.5] * 4, [2] * 4]


EVERYTHING = f"""
tree: Events
define: {{twice: 2 * met, hard: p_pt > 10}}
points:
  {FOUR}
  columns:
    charge: p_q
    d0: {{from: 10 * p_eta, unit: mm, about: a stand-in}}
    far: {{from: hard, type: int8}}
    of_event: met
    one: 1
event:
  axis: {{pt: met, eta: -1.5, phi: 3.5, mass: 0}}
  columns:
    jet_sdmass: twice
    lead: {{from: 'max(where(p_q != 0, p_pt, 0))', unit: GeV, truth: true}}
spectators: [run, event, w, good]
weight: abs(w)
label: {{a: kind == 0, b: kind >= 1}}
select: [good, "count(p_pt) > 0"]
"""


def test_every_key(root: Path, say: Callable[[str], Path]) -> None:
    columns, cuts, places = read(say(EVERYTHING), root)
    assert cuts == {"read": 4, "good": 3, "count(p_pt) > 0": 3}
    assert places.tolist() == [0, 2, 3]
    point = np.repeat(np.array(COUNTS) != 0, COUNTS)
    order = np.concatenate([low + np.argsort(-PT[low:high], kind="stable") for low, high in pairwise(OFFSETS)])
    value = columns.values
    np.testing.assert_allclose(value["px"], (PT * np.cos(PHI))[order][point], rtol=1e-5)
    np.testing.assert_array_equal(value["charge"], LISTS["p_q"][order])
    np.testing.assert_allclose(value["d0"], 10 * ETA[order], rtol=1e-6)
    np.testing.assert_array_equal(value["far"], (PT > 10)[order])
    np.testing.assert_array_equal(value["of_event"], np.repeat([5, 20, 80], [3, 2, 4]))
    np.testing.assert_array_equal(value["one"], np.ones(POINTS))
    np.testing.assert_allclose(value["deta"], -(ETA[order] + 1.5), rtol=1e-4, atol=1e-5)  # the axis is at η < 0
    np.testing.assert_allclose(value["dphi"], (PHI[order] - 3.5 + np.pi) % (2 * np.pi) - np.pi, atol=1e-5)
    np.testing.assert_allclose(value["jet_phi"], 3.5 - 2 * np.pi, rtol=1e-6)
    np.testing.assert_allclose(value["jet_energy"], np.array([5, 20, 80]) * math.cosh(1.5), rtol=1e-6)
    assert value["jet_sdmass"].tolist() == [10, 40, 160]
    lead = [max(PT[n] * (LISTS["p_q"][n] != 0) for n in range(OFFSETS[k], OFFSETS[k + 1])) for k in (0, 2, 3)]
    np.testing.assert_allclose(value["lead"], lead)
    assert value["event"].tolist() == [2**53 + 1, 3, 4]
    assert value["run"].tolist() == [7, 8, 8]
    assert value["weight"].tolist() == value["w"].tolist() == [1, 0.5, 2]
    assert value["label"].tolist() == [0, 0, 1]
    schema = {column.name: column for column in columns.schema}
    assert {name: schema[name].dtype for name in ("charge", "far", "run", "event", "w", "good", "weight", "label")} == {
        **{"charge": "int8", "far": "int8", "run": "int64", "event": "int64", "w": "float64", "good": "int8"},
        **{"weight": "float32", "label": "int16"},
    }
    assert (schema["d0"].unit, schema["d0"].about, schema["one"].about) == ("mm", "a stand-in", "= 1")
    assert schema["label"].classes == ("a", "b")
    assert [name for name, column in schema.items() if column.truth] == ["lead", "label"]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_the_number_of_rows_at_a_time_changes_nothing(root: Path, say: Callable[[str], Path], step: int) -> None:
    whole, part = read(say(EVERYTHING), root), read(say(EVERYTHING), root, step=step)
    assert whole[0].schema == part[0].schema
    assert whole[1:] == (part[1], pytest.approx(part[2]))
    for name, value in whole[0].values.items():
        np.testing.assert_array_equal(value, part[0].values[name])


def test_every_kind_of_file_gives_the_same(tmp_path: Path, root: Path, say: Callable[[str], Path]) -> None:
    """Lists in Parquet and RNTuple; slots of arrays, plain or with four numbers in each, in HDF5 and npz."""
    expected = read(say(EVERYTHING), root)[0]
    columns = {name: pa.array(value) for name, value in FLAT.items()}
    for name, value in LISTS.items():
        columns[name] = pa.ListArray.from_arrays(pa.array(OFFSETS, pa.int32()), pa.array(value))
    pq.write_table(pa.table(columns), tmp_path / "mine.parquet")
    padded = {}
    for name, value in LISTS.items():
        padded[name] = np.full((4, 6), 0 if name == "p_pt" else -9, value.dtype)
        for k, (low, high) in enumerate(pairwise(OFFSETS)):
            padded[name][k, : high - low] = value[low:high]
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        for name, value in (FLAT | padded).items():
            file[f"Events/{name}"] = value
    four = np.stack([padded.pop(name) for name in ("p_pt", "p_eta", "p_phi", "p_mass")], axis=-1)
    np.savez(tmp_path / "mine.npz", **FLAT, **padded, cloud=four)
    real = EVERYTHING.replace("points:\n", "points:\n  real: p_pt > 0\n")
    alone = real.replace("tree: Events\n", "")
    texts = {
        "mine.parquet": EVERYTHING.replace("tree: Events\n", ""),
        "mine.h5": real,
        "mine.npz": "arrays: {cloud: [p_pt, p_eta, p_phi, p_mass]}" + alone,
    }
    for name, text in texts.items():
        found = read(say(text), tmp_path / name)[0]
        assert found.schema == expected.schema, name
        for key, value in expected.values.items():
            np.testing.assert_array_equal(found.values[key], value, err_msg=f"{name} {key}")


def test_real_drops_points_before_selections(root: Path, say: Callable[[str], Path]) -> None:
    text = (
        f'define: {{n: count(p_q)}}\npoints:\n  real: p_pt > 10\n  {FOUR}\n  columns: {{q: p_q}}\nselect: ["n > 1"]\n'
    )
    columns, cuts, _ = read(say(text), root)
    expected = [jet for jet in jets(list(PT > 10)) if jet["n"] > 1]
    assert 0 < len(expected) < 4
    assert cuts == {"read": 4, "n > 1": len(expected)}
    assert_jets(columns, expected)
    full = BASE + "  columns: {q: p_q}\n"
    assert len(columns.values["q"]) < len(read(say(full), root)[0].values["q"])


def test_points_without_a_four_vector_stay_in_their_order(root: Path, say: Callable[[str], Path]) -> None:
    columns, _, _ = read(say("points: {columns: {x: p_phi, t: {from: p_q, type: int32}}}\nspectators: [event]"), root)
    assert [column.name for column in columns.schema] == ["x", "t", "event"]
    np.testing.assert_array_equal(columns.values["x"], PHI)


def test_pdg_ids_become_charge_and_flags(tmp_path: Path, say: Callable[[str], Path]) -> None:
    ids = np.array([211, -211, 22, 130, 11, -13, 1, -2212, 2112], np.int32)
    path = write_tree(
        tmp_path / "a.root", {"p_id": lists(ids), **{name: lists(value) for name, value in LISTS.items()}}
    )
    order = np.concatenate([low + np.argsort(-PT[low:high]) for low, high in pairwise(OFFSETS)])
    found = read(say(BASE + "  pdg_id: p_id\n"), path)[0].values
    assert found["charge"].tolist() == np.array([1, -1, 0, 0, -1, 1, 0, -1, 0])[order].tolist()
    assert found["is_charged_hadron"].tolist() == np.array([1, 1, 0, 0, 0, 0, 0, 1, 0])[order].tolist()
    assert found["is_neutral_hadron"].tolist() == np.array([0, 0, 0, 1, 0, 0, 0, 0, 1])[order].tolist()
    own = read(say(BASE + "  pdg_id: p_id\n  columns: {charge: p_q}\n"), path)[0]
    assert own.values["charge"].tolist() == LISTS["p_q"][order].tolist()
    assert "is_photon" in own.values


def test_columns_of_jets_mean_nothing_elsewhere(root: Path, say: Callable[[str], Path]) -> None:
    """Charge is in e and int8 where points are particles; without momenta, px and a true energy are free too."""
    own = "columns: {charge: {from: p_pt, unit: p.e.}, d0: {from: p_eta, unit: m}, px: p_phi}"
    columns, _, _ = read(say(f"points: {{{own}}}\nevent: {{columns: {{energy: {{from: -met, truth: true}}}}}}"), root)
    about = {column.name: (column.unit, column.dtype, column.level) for column in columns.schema}
    assert about["charge"] == ("p.e.", "float32", "point")
    assert about["d0"] == ("m", "float32", "point")
    assert about["energy"] == ("", "float32", "event")
    np.testing.assert_array_equal(columns.values["charge"], PT)
    np.testing.assert_array_equal(columns.values["energy"], -FLAT["met"])
    cells, _, _ = read(say("points: {columns: {energy: -p_pt}}"), root)  # of a calorimeter, less its pedestal
    np.testing.assert_array_equal(cells.values["energy"], -PT)
    for particles in (BASE, "points:\n  pdg_id: p_q\n"):
        with pytest.raises(DataError, match=r"charge.unit is 'p.e.', but this column is in 'e' of every jet"):
            read(say(f"{particles}  columns: {{charge: {{from: p_q, unit: p.e.}}}}"), root)


# --- labels and selections --------------------------------------------------------------------------------------------

LABELS_FAULTS = {
    "{a: kind == 0, b: kind == 1}": "the label of event 3 is none of a, b: write one that is, or unlabelled: keep",
    "{a: kind >= 0, b: kind == 1}": "the label of event 1 are a and b: write conditions that exclude one another",
}


@pytest.mark.parametrize("label", LABELS_FAULTS)
def test_exactly_one_label_is_true(root: Path, say: Callable[[str], Path], label: str) -> None:
    with pytest.raises(DataError, match=LABELS_FAULTS[label]) as caught:
        read(say(f"{BASE}label: {label}\nselect: [met < 1000]\n"), root, step=2)
    assert str(root) in str(caught.value)


def test_unlabelled_events_are_kept_where_the_mapping_says_so(root: Path, say: Callable[[str], Path]) -> None:
    text = BASE + "label: {a: kind == 0, b: kind == 1}\n"
    assert read(say(text + "unlabelled: keep\n"), root)[0].values["label"].tolist() == [0, 1, 0, -1]
    assert read(say(text + "select: [kind < 2]\n"), root)[0].values["label"].tolist() == [0, 1, 0]
    with pytest.raises(DataError, match="are a and b"):
        read(say(BASE + "label: {a: kind >= 0, b: kind == 1}\nunlabelled: keep"), root)


def test_sources_give_labels(tmp_path: Path, root: Path, say: Callable[[str], Path]) -> None:
    for name in ("s2", "s1", "q"):
        scale = 1 + len(name) + ord(name[-1])  # no two files alike
        write_tree(tmp_path / f"{name}.root", {"met": FLAT["met"] * scale, **{k: lists(v) for k, v in LISTS.items()}})
    mapping = say(BASE + "spectators: [met]")
    made, paths = table(mapping, [f"signal:{tmp_path}/s*.root", f"QCD:{tmp_path}/q.root"])
    assert made.classes == ("signal", "QCD")
    assert [path.name for path in paths] == ["q.root", "s1.root", "s2.root"]
    for path, code in zip(paths, (1, 0, 0), strict=True):
        (chunk,) = made.chunks(path)
        assert chunk.columns.values["label"].tolist() == [code] * 4
        assert chunk.columns.schema[-1].classes == ("signal", "QCD")
    assert json.loads(made.provenance()["labels"]) == {"q.root": "QCD", "s1.root": "signal", "s2.root": "signal"}
    assert json.loads(made.provenance()["mapping"])["spectators"] == ["met"]
    other, _ = table(mapping, [f"QCD:{tmp_path}/q.root", f"signal:{tmp_path}/s*.root"])
    assert other.provenance() != made.provenance()  # their codes are others: one cannot go on where the other stopped
    bare, _ = table(mapping, [f"signal:{tmp_path}/s*.root"], labelled=False)
    assert bare.classes == ()


SOURCES = {
    "nothing.root": "nothing.root: no file matches",
    "signal:{at}/no*.root": "/no.*: no file matches",
    "{at}/mine.root {at}/mine.root": "mine.root is given twice",
    "a:{at}/mine.root b:{at}/*.root": "mine.root is given twice",
    "a:{at}/mine.root {at}/other.root": "other.root has no label and .*mine.root has one",
    "{at}": "is a folder: name the files in it",
    "": "no source is given",
}


@pytest.mark.parametrize("sources", SOURCES)
def test_sources_that_cannot_be(tmp_path: Path, root: Path, say: Callable[[str], Path], sources: str) -> None:
    (tmp_path / "other.root").write_bytes(root.read_bytes())
    with pytest.raises(DataError, match=SOURCES[sources]):
        table(say(BASE), sources.format(at=tmp_path).split())


def test_labels_come_from_one_place(root: Path, say: Callable[[str], Path]) -> None:
    with pytest.raises(DataError, match=r"gives labels \(a\) and so do the sources"):
        table(say(BASE + "label: {a: kind >= 0}"), [f"b:{root}"])


def test_without_labels_only_what_measured_files_have_is_asked_for(tmp_path: Path, say: Callable[[str], Path]) -> None:
    lean = {name: value for name, value in FLAT.items() if name not in ("kind", "w")}
    path = write_tree(tmp_path / "data.root", lean | {name: lists(value) for name, value in LISTS.items()})
    text = EVERYTHING.replace("spectators: [run, event, w, good]", "spectators: {run: run, w: {from: w, truth: true}}")
    with pytest.raises(DataError, match=r"there is no column 'w'.*there is no column 'kind'"):
        read(say(text), path)
    mapping = read_mapping(say(text), labelled=False)
    (chunk,) = TableFormat(mapping).chunks(path)
    assert {"label", "weight", "w", "lead"}.isdisjoint(chunk.columns.values)
    assert {"run", "jet_sdmass", "charge"} <= chunk.columns.values.keys()
    assert chunk.cuts == {"read": 4, "good": 3, "count(p_pt) > 0": 3}


def test_a_selection_removes_what_would_be_refused(tmp_path: Path, say: Callable[[str], Path]) -> None:
    broken = LISTS["p_pt"].copy()
    broken[4] = np.nan  # of the third event
    values = LISTS | {"p_pt": broken}
    path = write_tree(tmp_path / "b.root", {**FLAT, **{name: lists(value) for name, value in values.items()}})
    with pytest.raises(DataError, match=rf"{path}: p_pt of event 2 is not finite \(nan\)"):
        read(say(BASE + "select: [met < 1000, kind == 0]"), path)
    columns, cuts, places = read(say(BASE + "select: [all(isfinite(p_pt))]"), path)
    assert (cuts, places.tolist()) == ({"read": 4, "all(isfinite(p_pt))": 3}, [0, 1, 3])
    assert_jets(columns, [jets()[k] for k in (0, 1, 3)])


def test_no_event_is_left(root: Path, say: Callable[[str], Path]) -> None:
    columns, cuts, places = read(say(EVERYTHING.replace("[good,", "[met < 0,")), root)
    assert (len(columns), len(places), cuts) == (0, 0, {"read": 4, "met < 0": 0, "count(p_pt) > 0": 0})


# --- objects with their points ----------------------------------------------------------------------------------------

OBJECTS = [2, 0, 1]
PAIRS = [6, 1, 3]
J_PT = np.array([100.0, 200.0, 300.0], np.float32)
P_COUNTS = [5, 2, 3]
P = {name: RNG.uniform(1, 2, 10).astype(np.float32) for name in ("Cand_pt", "Cand_eta", "Cand_phi")}
JET_OF = np.array([0, 1, 0, -1, 1, 1, -1, 0, 0, 0], np.int16)
POINT_OF = np.array([0, 4, 1, 2, 0, 3, 1, 2, 1, 1], np.int32)  # points may be in two jets, and twice in one
SIP = np.arange(10, dtype=np.float32)
EACH = """
each: Fat
points:
  link: {object: FatCand_jet, point: FatCand_cand}
  four_vector: {pt: Cand_pt, eta: Cand_eta, phi: Cand_phi, mass: 0}
  columns: {sip: FatCand_sip, share: Cand_pt / Fat_pt}
event:
  axis: {pt: Fat_pt, eta: 0, phi: 0, mass: 0}
  columns: {others: count(Mu_pt), sum_mu: sum(Mu_pt)}
spectators: [run]
"""


def write_objects(path: Path, **other: Any) -> Path:
    branches = {
        "run": np.array([11, 12, 13], np.int32),
        "Fat_pt": lists(J_PT, OBJECTS),
        "Mu_pt": lists(np.array([1, 2, 3, 4], np.float32), [1, 0, 3]),
        **{name: lists(value, P_COUNTS) for name, value in P.items()},
        "FatCand_jet": lists(JET_OF, PAIRS),
        "FatCand_cand": lists(POINT_OF, PAIRS),
        "FatCand_sip": lists(SIP, PAIRS),
    }
    return write_tree(path, branches | other)


def objects() -> list[dict[str, Any]]:
    """Every jet of every row with its points, by loops."""
    found, j, q, p = [], 0, 0, 0
    for row in range(3):
        for jet in range(OBJECTS[row]):
            pairs = [k for k in range(q, q + PAIRS[row]) if JET_OF[k] == jet]
            points = sorted(((P["Cand_pt"][p + POINT_OF[k]], SIP[k]) for k in pairs), key=lambda one: -one[0])
            found.append({"row": row, "jet": jet, "pt": J_PT[j], "points": points})
            j += 1
        q, p = q + PAIRS[row], p + P_COUNTS[row]
    return found


@pytest.mark.parametrize("step", [1, 2, 0])
def test_each_object_is_an_event_with_its_points(tmp_path: Path, say: Callable[[str], Path], step: int) -> None:
    columns, cuts, places = read(say(EACH), write_objects(tmp_path / "n.root"), step=step)
    value, expected = columns.values, objects()
    assert [len(jet["points"]) for jet in expected] == np.diff(columns.offsets).tolist() == [2, 3, 3]
    points = [one for jet in expected for one in jet["points"]]
    np.testing.assert_allclose(np.hypot(value["px"], value["py"]), [pt for pt, _ in points], rtol=1e-6)
    assert value["sip"].tolist() == [sip for _, sip in points]
    np.testing.assert_allclose(
        value["share"], [pt / jet["pt"] for jet in expected for pt, _ in jet["points"]], rtol=1e-6
    )
    assert value["jet_pt"].tolist() == [100, 200, 300]
    assert value["run"].tolist() == [11, 11, 13]
    assert value["file_entry"].tolist() == [0, 0, 2]
    assert value["Fat_index"].tolist() == [0, 1, 0]
    assert value["others"].tolist() == [1, 1, 3]
    assert value["sum_mu"].tolist() == [1, 1, 9]
    assert (cuts, places.tolist()) == ({"read": 3}, [0, 1, 2])


def test_selections_are_of_objects_and_of_their_own_points(tmp_path: Path, say: Callable[[str], Path]) -> None:
    text = EACH + 'select: ["count(Cand_pt) > 2", "Fat_pt > 250", "count(Mu_pt) == 3"]'
    columns, cuts, places = read(say(text), write_objects(tmp_path / "n.root"))
    assert cuts == {"read": 3, "count(Cand_pt) > 2": 2, "Fat_pt > 250": 1, "count(Mu_pt) == 3": 1}
    assert places.tolist() == [2]
    assert columns.values["file_entry"].tolist() == [2]


def test_points_may_name_their_object_themselves(tmp_path: Path, say: Callable[[str], Path]) -> None:
    of = np.array([0, 1, -1, 1, 0, -1, -1, 0, 0, -1], np.int8)
    path = write_objects(tmp_path / "n.root", Cand_jet=lists(of, P_COUNTS))
    text = EACH.replace("{object: FatCand_jet, point: FatCand_cand}", "{object: Cand_jet}").replace("FatCand_sip", "1")
    columns, _, _ = read(say(text), path)
    expected = [
        *sorted(P["Cand_pt"][[0, 4]])[::-1],
        *sorted(P["Cand_pt"][[1, 3]])[::-1],
        *sorted(P["Cand_pt"][[7, 8]])[::-1],
    ]
    np.testing.assert_allclose(np.hypot(columns.values["px"], columns.values["py"]), expected, rtol=1e-6)


def bad(values: np.ndarray, place: int, value: int, counts: Any = PAIRS) -> Any:
    values = values.copy()
    values[place] = value
    return lists(values, counts)


LINK_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "object": ({"FatCand_jet": bad(JET_OF, 9, 1)}, r"FatCand_jet of entry 2 is no Fat: there are not so many \(1\)"),
    "empty": ({"FatCand_jet": bad(JET_OF, 6, 0)}, r"FatCand_jet of entry 1 is no Fat"),
    "point": ({"FatCand_cand": bad(POINT_OF, 8, 3)}, r"FatCand_cand of entry 2 is no place in Cand_pt.*\(3\)"),
    "negative": ({"FatCand_cand": bad(POINT_OF, 2, -1)}, r"FatCand_cand of entry 0 is no place in Cand_pt"),
    "length": ({"FatCand_sip": lists(SIP, [6, 2, 2])}, "FatCand_sip of entry 1 has not as many values as FatCand_jet"),
    "whole": ({"FatCand_jet": lists(SIP, PAIRS)}, "FatCand_jet is float32 where a list of whole numbers is needed"),
    "flat": ({"FatCand_jet": np.array([1, 2, 3])}, "FatCand_jet is one number an entry"),
}


@pytest.mark.parametrize("fault", LINK_FAULTS)
def test_links_that_lead_nowhere(tmp_path: Path, say: Callable[[str], Path], fault: str) -> None:
    other, message = LINK_FAULTS[fault]
    path = write_objects(tmp_path / "n.root", **other)
    for step in (0, 1):
        with pytest.raises(DataError, match=message) as caught:
            read(say(EACH), path, step=step)
        assert str(path) in str(caught.value)


def test_a_collection_has_one_length(tmp_path: Path, say: Callable[[str], Path]) -> None:
    path = write_objects(tmp_path / "n.root", Fat_eta=lists(J_PT, [2, 1, 0]))
    with pytest.raises(DataError, match="Fat_eta of entry 1 has not as many values as Fat_pt"):
        read(say(EACH.replace("eta: 0, phi: 0, mass", "eta: Fat_eta, phi: 0, mass")), path)


def test_real_is_of_its_own_collection(tmp_path: Path, say: Callable[[str], Path]) -> None:
    four = "four_vector: {pt: Cand_pt, eta: Cand_eta, phi: Cand_phi, mass: 0}"
    text = f"points:\n  real: Cand_pt > 1.5\n  {four}\n  columns: {{mu: sum(Mu_pt)}}\n"
    columns, _, _ = read(say(text), write_objects(tmp_path / "n.root"))
    real = [int((part > 1.5).sum()) for part in np.split(P["Cand_pt"], [5, 7])]
    assert np.diff(columns.offsets).tolist() == real
    assert columns.values["mu"].tolist() == np.repeat([1, 0, 9], real).tolist()


def test_no_column_of_the_collection(tmp_path: Path, say: Callable[[str], Path]) -> None:
    with pytest.raises(DataError, match="no list that begins with Fatter_ is used"):
        read(say(EACH.replace("each: Fat\n", "each: Fatter\n")), write_objects(tmp_path / "n.root"))


# --- faults -----------------------------------------------------------------------------------------------------------

FAULTS = {
    "point: {}": "there is no key point: did you mean 'points'.*; points is missing",
    "points: []": r"points is \[\] where `name: value` pairs are needed",
    "points: {}": "points.four_vector is missing",
    BASE + "  colums: {}": "there is no key points.colums: did you mean 'columns'",
    BASE + "  columns: {d0: {from: p_pt, unti: mm}}": "no key points.columns.d0.unti: did you mean 'unit'",
    BASE + "  columns: {d0: {from: p_pt, unit: cm}}": "points.columns.d0.unit is 'cm', but .* in 'mm' of every jet",
    BASE + "  columns: {x: {from: p_pt, unit: [mm]}}": "points.columns.x.unit is .* but a text",
    "points: {four_vector: {pt: a, eta: b, phi: c, mass: d, unit: [1]}}": "unit is .* where a text is needed",
    BASE + "  columns: {x: {from: p_pt, type: int}}": "points.columns.x.type is 'int': did you mean 'int8'|allowed",
    BASE + "  columns: {x: {from: p_pt, truth: 2}}": "points.columns.x.truth is 2: true or false",
    BASE + "  columns: {px: p_pt}": "px: named twice, or always there",
    BASE + "  columns: {x: p_pt}\nspectators: [x]": "x: named twice",
    BASE + "  columns: {x: }": "points.columns.x.from is None where a text is needed",
    BASE + "  columns: {x: 2020-01-01}": "points.columns.x.from is datetime.* where a text is needed",
    BASE + "  columns: {1: p_pt}": "points.columns has the key 1, which is no text",
    BASE + "event: {axis: {pt: met}}": "event.axis has pt: it needs px py pz energy, or pt eta phi mass",
    BASE + "event: {axis: [1]}": r"event.axis is \[1\] where",
    "points: {four_vector: {pt: a, eta: b, phi: c, mass: d, unit: Gev}}": "unit is 'Gev': did you mean 'GeV'",
    "points: {columns: {x: p_pt}}\nevent: {axis: sum}": "points.four_vector is missing",
    BASE + "select: met > 3": "select is 'met > 3' where a list",
    BASE + "select: ['met >']": r"select\[0\]: expression: it cannot be read",
    BASE + "select: [lambda x]": r"select\[0\]: expression: it cannot be read",
    BASE + "label: {a: x.__class__ == 1}": "label.a: expression: a dot is not part",
    BASE + "label: {yes: kind}": "label has the key True, which is no text: put it in quotes",
    BASE + "unlabelled: drop": "unlabelled is 'drop': refuse or keep",
    BASE + "each: Jet": "each and points.link.object belong together",
    BASE + "  link: {object: x}": "each and points.link.object belong together",
    BASE + "  link: {point: x}": "points.link.object is missing",
    BASE + "  link: {object: x}\neach: Jet\ngroup: run": "group and each exclude one another",
    BASE + "group: 3": "group is 3 where a list",
    BASE + "group: []": r"group is \[\]: names of columns are needed, each of them once",
    BASE + "group: [run, run]": "names of columns are needed, each of them once",
    BASE + "group: [run, [event]]": "group is .* where a text is needed",
    BASE + "define: {both: run + event}\ngroup: [both]": "group names both, which is defined",
    BASE + "define: {a: b + 1, b: 2}": "define.a uses b: a name is defined before it is used",
    BASE + "define: {a: a + 1}": "define.a uses a",
    BASE + "tree: Events\ntree: Other": "line 4: the key 'tree' stands there twice",
    BASE + "event: {columns: {a: met, a: kind}}": "the key 'a' stands there twice",
    BASE + "weight: !!python/object/apply:os.system [true]": "line 3: tags",
    BASE + "weight: !thing w": "line 3: tags",
    "points: &a {x: 1}\nevent: *a": "line 1: tags .* anchors",
    "arrays: {a: [x, y], b: [y]}\n" + BASE: "arrays: y is named twice",
    "[" * 100_000: "line 1: it is nested too deeply",
    "points: {": "it is no YAML",
    "- a": "it is no mapping",
    "\x00": "it is no YAML",
    "": "it is no mapping",
    "# " + "x" * (1 << 20): "has 1048578 bytes",
}


@pytest.mark.parametrize("text", FAULTS, ids=range(len(FAULTS)))
def test_a_mapping_that_cannot_be(say: Callable[[str], Path], text: str) -> None:
    path = say(text)
    with pytest.raises(DataError, match=FAULTS[text]) as caught:
        read_mapping(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 1500


def test_a_mapping_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^{tmp_path}/none.yaml is not a file"):
        read_mapping(tmp_path / "none.yaml")


FILE_FAULTS = {
    BASE.replace("p_pt", "p_pT"): "there is no column 'p_pT'.*: did you mean 'p_pt'",
    BASE.replace("p_pt", "met").replace("p_eta", "1").replace("p_phi", "1").replace("p_mass", "w"): "is a list",
    BASE + "select: [p_pt > 3]": "select: p_pt > 3 is a list for each event: write any",
    BASE + "select: [met]": "select: met is a number: compare it",
    BASE + "event: {columns: {x: p_pt}}": "x: p_pt is a list for each event: write first",
    BASE + "spectators: [p_pt]": "p_pt: p_pt is a list for each event: write first",
    BASE + "event: {columns: {x: sum(met)}}": "x: expression: sum goes over points",
    BASE + "  real: met > 3": "points.real: met > 3 is one value an event",
    BASE + "  columns: {x: {from: p_pt, type: int8}}": "p_pt of event 0 is not a whole number",
    BASE + "event: {axis: {pt: -met, eta: 0, phi: 0, mass: 0}}": "-met of event 0 is negative",
    BASE + "event: {columns: {x: 1 / kind}}": "1 / kind of event 0 is not finite",
    BASE.replace("pt: p_pt", "pt: p_pt - 60"): "p_pt - 60 of event 0 is negative",
    BASE.replace("pt: p_pt", "pt: 0 * p_pt"): "of event 0 and its py are both 0",
    "arrays: {met: [a, b]}\n"
    + BASE
    + "spectators: [a]": "arrays.met names 2, and there are no numbers on its last axis",
    "tree: Event\n" + BASE: "no table 'Event'.*did you mean 'Events'",
}


@pytest.mark.parametrize("text", FILE_FAULTS, ids=range(len(FILE_FAULTS)))
def test_what_a_file_cannot_give(root: Path, say: Callable[[str], Path], text: str) -> None:
    with pytest.raises(DataError, match=FILE_FAULTS[text]) as caught:
        read(say(text), root)
    assert str(root) in str(caught.value)


def test_collections_are_not_mixed(tmp_path: Path, say: Callable[[str], Path]) -> None:
    path = write_objects(tmp_path / "n.root")
    text = "points: {four_vector: {pt: Cand_pt, eta: Cand_eta, phi: Cand_phi, mass: 0}, columns: {x: Mu_pt}}"
    with pytest.raises(DataError, match="Mu_pt and Cand_pt of event 0 differ in length"):
        read(say(text), path)


def test_arrays_need_names_for_their_last_axis(tmp_path: Path, say: Callable[[str], Path]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["jets"] = np.ones((3, 5, 4), np.float32)
    text = "points: {four_vector: {px: %s, py: y, pz: z, energy: e}}"
    with pytest.raises(DataError, match=r"jets is 5 × 4 an entry: name what lies on its last axis with arrays.jets"):
        read(say("arrays: {other: [y, z, e]}\n" + text % "jets"), tmp_path / "a.h5")
    with pytest.raises(DataError, match=r"arrays.jets names 3, and there are 4 numbers on its last axis"):
        read(say("arrays: {jets: [y, z, e]}\n" + text % "y"), tmp_path / "a.h5")
    found = read(say("arrays: {jets: [x, y, z, e]}\n" + text % "x"), tmp_path / "a.h5")[0]
    assert len(found.values["px"]) == 15


# --- weaver -----------------------------------------------------------------------------------------------------------

WEAVER = """
treename: tree
selection: >-
  (jet_pt > 0)
  & (jet_nparticles >= 0)
test_time_selection: jet_pt > 10
new_variables:
  alive: ak.ones_like(part_energy)
  log_pt: np.log(np.hypot(part_px, part_py))
  squeezed_d0: np.tanh(part_d0val)
  never_used: no_such_branch + 1
preprocess: {method: manual, data_fraction: 0.1}
inputs:
  pf_points: {length: 128, pad_mode: wrap, vars: [[part_deta, null], [part_dphi, null]]}
  pf_features:
    length: 128
    vars:
      - [log_pt, 1.7, 0.7]
      - squeezed_d0
      - [part_d0err, 0, 1, 0, 1]
      - [part_charge, null]
  pf_vectors: {length: 128, vars: [[part_px, null], [part_py, null], [part_pz, null], part_energy]}
  pf_mask: {length: 128, vars: [[alive, null]]}
labels:
  type: simple
  value: [CLASSES]
observers: [jet_pt, jet_eta, jet_phi, jet_energy, jet_sdmass, aux_genpart_pid]
weights: {use_precomputed_weights: false}
""".replace("CLASSES", ", ".join(f"label_{name}" for name in LABELS))


def test_a_weaver_config_gives_the_jets_of_the_format(tmp_path: Path, say: Callable[[str], Path]) -> None:
    events = simulated(40)
    write_root(tmp_path / "jets.root", events)
    (expected,) = (chunk.columns for chunk in JetClass().chunks(tmp_path / "jets.root"))
    with pytest.raises(DataError, match="no column 'no_such_branch'"):
        read(say(WEAVER.replace("squeezed_d0\n", "never_used\n")), tmp_path / "jets.root")
    columns, cuts, _ = read(say(WEAVER), tmp_path / "jets.root")
    assert cuts == {"read": 40, "(jet_pt > 0) & (jet_nparticles >= 0)": 40}
    np.testing.assert_array_equal(columns.offsets, expected.offsets)
    for name in ("px", "py", "pz", "energy", "d0", "d0_err", "charge", "label", "jet_eta", "jet_nparticles"):
        np.testing.assert_array_equal(columns.values[name], expected.values[name], err_msg=name)
    for name in ("jet_pt", "jet_phi", "jet_energy", "jet_sdmass"):
        np.testing.assert_allclose(columns.values[name], expected.values[name], rtol=1e-6, err_msg=name)
    assert next(column for column in columns.schema if column.name == "label").classes == LABELS
    np.testing.assert_allclose(columns.values["squeezed_d0"], np.tanh(expected.values["d0"]), rtol=1e-6)
    pt = np.hypot(expected.values["px"], expected.values["py"])
    np.testing.assert_allclose(columns.values["log_pt"], np.log(pt), rtol=1e-4, atol=1e-6)  # neither shifted nor scaled
    notes, real = read_mapping(say(WEAVER)).notes, read_mapping(say(WEAVER)).real
    assert real is not None
    assert real.text == "(alive > 0)"
    assert [note.split(" ")[0] for note in notes] == ["preprocess", "weights", "test_time_selection", "variables"]


WEAVER_FAULTS = {
    "treename": ("treenames", "there is no key treenames: did you mean 'treename'"),
    "pf_points": ("sv_points", "points of two kinds"),
    "pf_mask": ("pf_tables", "inputs.pf_tables: groups are"),
    "pad_mode": ("padding", "no key inputs.pf_points.padding: allowed: length"),
    ", part_energy]": ("]", "needs px, py, pz, energy in this order"),
    "type: simple": ("type: complex", "labels.type is 'complex': simple or custom"),
    "[log_pt, 1.7, 0.7]": ("[log_pt, 1, 2, 3, 4, 5, 6]", "is no name and no"),
    "np.tanh(part_d0val)": ("np.tanhh(part_d0val)", "there is no function 'tanhh'"),
    "(jet_pt > 0)": ("[x for x in y]", "is not part of an expression"),
    "inputs:": ("input:", "no key input: did you mean 'inputs'"),
}


@pytest.mark.parametrize("part", WEAVER_FAULTS)
def test_what_a_weaver_config_says_and_a_mapping_cannot(say: Callable[[str], Path], part: str) -> None:
    other, message = WEAVER_FAULTS[part]
    with pytest.raises(DataError, match=message):
        read_mapping(say(WEAVER.replace(part, other, 1)))


def test_custom_labels_are_truth(tmp_path: Path, say: Callable[[str], Path]) -> None:
    write_root(tmp_path / "jets.root", simulated(10))
    head, _, tail = WEAVER.partition("labels:")
    text = head + "labels: {type: custom, value: {target: aux_genpart_pt * 2}}\n" + tail[tail.index("observers") :]
    columns = read(say(text), tmp_path / "jets.root")[0]
    column = next(column for column in columns.schema if column.name == "target")
    assert (column.truth, column.level, "label" in columns.values) == (True, "event", False)


# --- from end to end, and other people's files ------------------------------------------------------------------------


def test_convert_and_the_command_line(tmp_path: Path, root: Path, say: Callable[[str], Path]) -> None:
    mapping = say(EVERYTHING)
    made, paths = table(mapping, [str(root)])
    counts = convert(made, paths, tmp_path / "one")
    assert sum(counts.events.values()) == 3
    told = CliRunner().invoke(app, ["convert", "table", str(mapping), str(root), "--out", str(tmp_path / "two")])
    assert told.exit_code == 0, told.output
    assert "count(p_pt) > 0" in told.output
    assert "table" in json.loads((tmp_path / "two" / "convert.json").read_text(encoding="utf-8"))["format"]["format"]
    for path in (tmp_path / "one").rglob("*.arrow"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_what_weaver_says_more_is_told(tmp_path: Path, say: Callable[[str], Path]) -> None:
    write_root(tmp_path / "jets.root", simulated(10))
    command = ["convert", "table", str(say(WEAVER)), str(tmp_path / "jets.root"), "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 0, told.output
    assert "mapping.yaml: weights is left out: events are not reweighted" in told.output.replace("\n", "")


def other_people_s(name: str) -> Path:
    path = Path(os.environ.get("MULTIPLET_TEST_DATA", "")) / "jets" / name
    if "MULTIPLET_TEST_DATA" not in os.environ or not path.is_file():
        pytest.skip(f"MULTIPLET_TEST_DATA names no folder with jets/{name}")
    return path


def nano(candidates: str, link: str, index: str) -> str:
    return f"""
tree: Events
each: FatJet
points:
  link: {{object: {link}_jetIdx, point: {link}_{index}}}
  four_vector: {{pt: {candidates}_pt, eta: {candidates}_eta, phi: {candidates}_phi, mass: {candidates}_mass}}
  pdg_id: {candidates}_pdgId
event:
  axis: {{pt: FatJet_pt, eta: FatJet_eta, phi: FatJet_phi, mass: FatJet_mass}}
  columns: {{jet_sdmass: FatJet_msoftdrop}}
spectators: [run, luminosityBlock, event]
weight: genWeight
label: {{light: FatJet_hadronFlavour < 4, c: FatJet_hadronFlavour == 4, b: FatJet_hadronFlavour == 5}}
select: ["FatJet_pt > 250", "abs(FatJet_eta) < 2.4"]
"""


@pytest.mark.parametrize(
    "name, candidates, link, index, jets",
    [
        pytest.param(
            *("coffea_nano_tt_v15.root", "PFCand", "FatJetPFCand", "pfCandIdx", 64), marks=pytest.mark.slow
        ),  # its 2,656 branches take seconds to list
        ("coffea_pfnano.root", "PFCands", "FatJetPFCands", "pFCandsIdx", 24),
    ],
)
def test_nanoaod(say: Callable[[str], Path], name: str, candidates: str, link: str, index: str, jets: int) -> None:
    """Each AK8 jet of CMS's files beside a loop over the arrays as uproot gives them."""
    path = other_people_s(name)
    with uproot.open(path) as file:
        keys = (
            "FatJet_pt",
            "FatJet_eta",
            "FatJet_phi",
            "FatJet_msoftdrop",
            "FatJet_hadronFlavour",
            "event",
            "genWeight",
        )
        keys += (f"{candidates}_pt", f"{candidates}_phi", f"{candidates}_eta", f"{candidates}_pdgId")
        rows = file["Events"].arrays([*keys, f"{link}_jetIdx", f"{link}_{index}"], library="np")
    columns, cuts, _ = read(say(nano(candidates, link, index)), path, step=7)
    value, n = columns.values, 0
    for row, pts in enumerate(rows["FatJet_pt"]):
        for jet, pt in enumerate(pts):
            eta, phi = rows["FatJet_eta"][row][jet], rows["FatJet_phi"][row][jet]
            if not (pt > 250 and abs(eta) < 2.4):
                continue
            which = rows[f"{link}_{index}"][row][rows[f"{link}_jetIdx"][row] == jet]
            momenta, phis = (rows[f"{candidates}_{of}"][row][which].astype(float) for of in ("pt", "phi"))
            x, y = (momenta * np.cos(phis)).astype(np.float32), (momenta * np.sin(phis)).astype(np.float32)
            which = which[np.argsort(-np.hypot(x.astype(float), y), kind="stable")]
            low, high = columns.offsets[n : n + 2]
            np.testing.assert_allclose(
                np.hypot(value["px"], value["py"])[low:high], rows[f"{candidates}_pt"][row][which], rtol=1e-5
            )
            sign = 1 if eta > 0 else -1
            np.testing.assert_allclose(
                value["deta"][low:high] * sign, rows[f"{candidates}_eta"][row][which] - eta, atol=1e-4
            )
            away = (rows[f"{candidates}_phi"][row][which] - phi + np.pi) % (2 * np.pi) - np.pi
            np.testing.assert_allclose(value["dphi"][low:high], away, atol=1e-4)
            photons = rows[f"{candidates}_pdgId"][row][which] == 22
            assert sorted(value["is_photon"][low:high]) == sorted(photons)
            assert (value["file_entry"][n], value["FatJet_index"][n]) == (row, jet)
            assert value["event"][n] == rows["event"][row]
            assert value["weight"][n] == pytest.approx(rows["genWeight"][row])
            assert value["jet_sdmass"][n] == rows["FatJet_msoftdrop"][row][jet]
            assert value["label"][n] == {0: 0, 4: 1, 5: 2}[rows["FatJet_hadronFlavour"][row][jet]]
            n += 1
    assert n == len(columns) == cuts["abs(FatJet_eta) < 2.4"] > 0
    assert cuts["read"] == jets


def test_muons_of_a_flat_tree(say: Callable[[str], Path]) -> None:
    path = other_people_s("uproot-HZZ.root")
    with uproot.open(path) as file:
        rows = file["events"].arrays(library="np")
    text = (
        "points:\n  four_vector: {px: Muon_Px, py: Muon_Py, pz: Muon_Pz, energy: Muon_E}\n"
        "  columns: {charge: Muon_Charge, iso: {from: Muon_Iso, unit: GeV}}\n"
        "event: {columns: {m: {from: 'mass(sum(Muon_Px), sum(Muon_Py), sum(Muon_Pz), sum(Muon_E))', unit: GeV}}}\n"
        "weight: EventWeight\nselect: [triggerIsoMu24, NMuon == 2, sum(Muon_Charge) == 0]\n"
    )
    columns, cuts, places = read(say(text), path)
    kept = [k for k in range(len(rows["NMuon"])) if rows["NMuon"][k] == 2 and sum(rows["Muon_Charge"][k]) == 0]
    assert places.tolist() == [k for k in kept if rows["triggerIsoMu24"][k]]
    assert cuts["read"] == 2421
    mass = []
    for k in places:
        x, y, z, e = (sum(map(float, rows[f"Muon_{name}"][k])) for name in ("Px", "Py", "Pz", "E"))
        mass.append(math.sqrt(e * e - x * x - y * y - z * z))
    np.testing.assert_allclose(columns.values["m"], mass, rtol=1e-4)
    assert 85 < np.median(mass) < 95  # Z bosons
    np.testing.assert_array_equal(columns.values["weight"], rows["EventWeight"][places])


def test_a_parquet_file_of_jets(say: Callable[[str], Path]) -> None:
    path = other_people_s("JetClassII_example.parquet")
    rows = pq.read_table(path)
    text = (
        "points:\n  four_vector: {px: part_px, py: part_py, pz: part_pz, energy: part_energy}\n"
        "  columns: {d0: part_d0val, is_photon: part_isPhoton}\n"
        "event: {axis: {pt: jet_pt, eta: jet_eta, phi: jet_phi, energy: jet_energy}}\n"
        "spectators: [jet_label, genjet_pt]\nselect: [jet_nparticles > 40]\n"
    )
    columns, cuts, places = read(say(text), path)
    kept = [k for k, n in enumerate(rows["jet_nparticles"].to_pylist()) if n > 40]
    assert places.tolist() == kept
    assert cuts == {"read": 100, "jet_nparticles > 40": len(kept)}
    for name, branch in {"px": "part_px", "d0": "part_d0val", "deta": "part_deta", "dphi": "part_dphi"}.items():
        px, given = rows["part_px"].to_pylist(), rows[branch].to_pylist()
        order = [np.argsort(-np.hypot(px[k], rows["part_py"][k].as_py()), kind="stable") for k in kept]
        expected = np.concatenate([np.array(given[k])[at] for k, at in zip(kept, order, strict=True)])
        np.testing.assert_allclose(columns.values[name], expected, atol=2e-5, err_msg=name)
    assert columns.values["jet_label"].tolist() == [rows["jet_label"][k].as_py() for k in kept]
