"""The other published jet formats: small files in each layout, read as a slow loop over events reads them."""

from __future__ import annotations

import math
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multiplet.data.columns import Columns, concatenate
from multiplet.data.formats import FORMATS, Format, jetclass2, jetnet, top
from multiplet.data.formats.hdf5 import dataset, open_hdf5
from multiplet.data.formats.jetclass2 import JetClass2
from multiplet.data.formats.jetnet import JetNet
from multiplet.data.formats.omnilearned import OmniLearned
from multiplet.data.formats.quark_gluon import QuarkGluon
from multiplet.data.formats.top import Top
from multiplet.errors import DataError, MissingExtraError

JETS, SLOTS = 17, 6
Arrays = dict[str, Any]


def mask_and_pt(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which slots are real (jet 3 has none), and their falling pT."""
    rng = np.random.default_rng(seed)
    real = np.arange(SLOTS) < rng.integers(1, SLOTS + 1, JETS)[:, None]
    real[3] = False
    return real, np.where(real, -np.sort(-rng.uniform(1, 90, (JETS, SLOTS))), 0)


def jetnet_arrays() -> Arrays:
    rng = np.random.default_rng(1)
    real, pt = mask_and_pt(1)
    pt[5, 0] = pt[5, 1]
    pt[6, real[6].sum() - 1] = 0  # a real particle without pT
    points = np.stack([rng.normal(0, 0.2, pt.shape), rng.normal(0, 0.2, pt.shape), pt / 1000, real], 2)
    jets = np.stack([rng.uniform(800, 1200, JETS), rng.uniform(-2, 2, JETS), rng.uniform(5, 99, JETS)], 1)
    count = real.sum(1) + 40 * (np.arange(JETS) == 7)  # more than there are slots
    points[~real, :3] = 0
    points[4, -1, :3] = (np.nan, 1e9, -999) if not real[4, -1] else points[4, -1, :3]
    return {"particle_features": points.astype("f4"), "jet_features": np.column_stack([jets, count]).astype("f4")}


def quark_gluon_arrays() -> Arrays:
    rng = np.random.default_rng(2)
    real, pt = mask_and_pt(2)
    pid = rng.choice([22, 211, -211, 321, -321, 130, 2112, -2112, 2212, -2212, 11, -11, 13, -13], pt.shape)
    centre = rng.uniform(-1.7, 1.7, JETS)[:, None]
    x = (
        np.stack([pt, centre + rng.normal(0, 0.2, pt.shape), rng.uniform(0, 2 * np.pi, pt.shape), pid], 2)
        * real[..., None]
    )
    x[8] = x[8, ::-1]  # in rising order, after the padding
    return {"X": x, "y": np.arange(JETS) % 2.0}


def omnilearned_arrays() -> Arrays:
    rng = np.random.default_rng(3)
    real, pt = mask_and_pt(3)
    pt[real & (np.arange(SLOTS) == real.sum(1)[:, None] - 1)] = 1.0  # the softest of each: ln pT = 0
    log_pt = np.log(np.where(real, pt, 1))
    columns = [rng.normal(0, 0.3, pt.shape), rng.normal(0, 0.3, pt.shape), log_pt, log_pt + rng.random(pt.shape)]
    columns += [rng.integers(1, 9, pt.shape), *np.tanh(rng.normal(size=(4, *pt.shape)))]
    data = np.stack(columns, 2) * real[..., None]
    jets = np.column_stack([rng.normal(size=(JETS, 3)), real.sum(1) / 100])
    return {
        "data": data.astype("f4"),
        "pid": 2 + np.arange(JETS) % 10,
        "global": jets.astype("f4"),
        "data_pid": np.where(real, 5, -1),
    }


def top_arrays() -> Arrays:
    rng = np.random.default_rng(4)
    _, pt = mask_and_pt(4)
    eta, phi = rng.normal(0, 0.3, pt.shape) + rng.uniform(-2, 2, JETS)[:, None], rng.uniform(-3.2, 3.2, JETS)[:, None]
    phi = phi + rng.normal(0, 0.3, pt.shape)
    p4 = {"E": pt * np.cosh(eta), "PX": pt * np.cos(phi), "PY": pt * np.sin(phi), "PZ": pt * np.sinh(eta)}
    out = {f"{k}_{n}": p4[k][:, n].astype("f4") for n in range(SLOTS) for k in p4}
    out |= {f"truth{k}": rng.normal(size=JETS).astype("f4") for k in p4}
    return out | {"ttv": np.arange(JETS) % 3, "is_signal_new": np.arange(JETS) // 2 % 2}


def jetclass2_arrays() -> Arrays:
    rng = np.random.default_rng(5)
    real, pt = mask_and_pt(5)
    lists, out = real.sum(1), {}
    for name, source in jetclass2._SOURCE.items():
        if not source.startswith("part_"):
            out[source] = pa.array(rng.uniform(1, 2, JETS).astype("f4"))
        else:
            kind = bool if name.startswith("is_") else np.int32 if name == "charge" else np.float32
            flat = pt[real] if name in ("px", "energy") else rng.integers(0, 2, lists.sum())
            offsets = np.concatenate([[0], np.cumsum(lists)]).astype(np.int32)
            out[source] = pa.ListArray.from_arrays(offsets, pa.array(flat.astype(kind)))
    out["jet_nparticles"] = pa.array(lists.astype(np.int32))
    out["genjet_nparticles"] = pa.array(lists.astype(np.int32))
    out["jet_label"] = pa.array(np.linspace(0, 187, JETS).astype(np.int32))
    return out


def write_hdf5(path: Path, arrays: Arrays) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            stored = {"chunks": (4, *value.shape[1:]), "compression": "gzip"} if len(value) else {}
            file.create_dataset(name, data=value, **stored)
    return path


def write_npz(path: Path, arrays: Arrays) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def write_top(path: Path, arrays: Arrays) -> Path:
    """As pandas does with format="table": blocks of equal type in a compound, their names pickled in attributes."""
    blocks = {"values_block_0": [k for k in arrays if k not in top._EVENT.values() or k.startswith("truth")]}
    blocks |= {"values_block_1": ["ttv", "is_signal_new"]} if "ttv" in arrays else {}
    wide = {k: np.stack([arrays[name] for name in names if name in arrays], 1) for k, names in blocks.items()}
    fields = [("index", "<i8"), *((k, v.dtype, v.shape[1:]) for k, v in wide.items())]
    table = np.zeros(len(wide["values_block_0"]), fields)
    for name, value in wide.items():
        table[name] = value
    with h5py.File(path, "w") as file:
        node = file.create_dataset("table/table", data=table, chunks=(5,) if len(table) else None)
        file["table"].attrs["pandas_type"] = np.bytes_(b"frame_table")
        for name, held in blocks.items():
            node.attrs[f"{name}_kind"] = np.bytes_(pickle.dumps([k for k in held if k in arrays], 0))
    return path


def write_top_fixed(path: Path, arrays: Arrays) -> Path:
    """As pandas does with format="fixed": each block a dataset, its names beside it."""
    ints = [name for name in ("ttv", "is_signal_new") if name in arrays]
    with h5py.File(path, "w") as file:
        for n, names in enumerate(filter(None, ([k for k in arrays if k not in ints], ints))):
            file[f"table/block{n}_values"] = np.stack([arrays[name] for name in names], 1)
            file[f"table/block{n}_items"] = np.array(names, "S")
        file["table"].attrs["pandas_type"] = np.bytes_(b"frame")
    return path


def write_parquet(path: Path, arrays: Arrays) -> Path:
    pq.write_table(pa.table(arrays), path, row_group_size=10)
    return path


OMNI = OmniLearned(extras=True, shift=2, classes=tuple("abcdefghij"), point_targets=1, step=5)
CASES: dict[str, tuple[Format, str, Callable[[], Arrays], Callable[[Path, Arrays], Path]]] = {
    "jetnet": (JetNet(step=5), "t.hdf5", jetnet_arrays, write_hdf5),
    "quark_gluon": (QuarkGluon(step=5), "jets.npz", quark_gluon_arrays, write_npz),
    "omnilearned": (OMNI, "jets.h5", omnilearned_arrays, write_hdf5),
    "top": (Top(step=5), "test.h5", top_arrays, write_top),
    "top_fixed": (Top(step=5), "test.h5", top_arrays, write_top_fixed),
    "jetclass2": (JetClass2(step=5), "jets.parquet", jetclass2_arrays, write_parquet),
}


def read(format: Format, path: Path) -> Columns:
    return concatenate([chunk.columns for chunk in format.chunks(path)])


def case(name: str, folder: Path, change: Callable[[Arrays], object] = lambda arrays: None) -> tuple[Arrays, Columns]:
    format, file, make, write = CASES[name]
    arrays = make()
    change(arrays)
    return arrays, read(format, write(folder / file, arrays))


def events(columns: Columns) -> list[dict[str, Any]]:
    """Each event as a map of plain lists and numbers."""
    out = []
    for n in range(len(columns)):
        low, high = columns.offsets[n], columns.offsets[n + 1]
        at = {"point": slice(low, high), "event": n}
        out.append({c.name: columns.values[c.name][at[c.level]].tolist() for c in columns.schema})
    return out


def wrapped(angle: float) -> float:
    return math.atan2(math.sin(angle), math.cos(angle))


def check_axis(event: dict[str, Any], p4: list[tuple[float, float, float, float]]) -> None:
    """Angles and axis of an event against loops over its constituents' (px, py, pz, E), hardest first."""
    px, py, pz, energy = (sum(part[n] for part in p4) for n in range(4))
    pt = math.hypot(px, py)
    eta, phi = (math.asinh(pz / pt), math.atan2(py, px)) if p4 else (0.0, 0.0)
    assert event["jet_nparticles"] == len(event["px"]) == len(p4)
    got = [event[name] for name in ("jet_pt", "jet_eta", "jet_phi", "jet_energy")]
    assert got == pytest.approx([pt, eta, phi, energy], rel=1e-5, abs=1e-5)
    for n, part in enumerate(p4):
        assert [event[name][n] for name in ("px", "py", "pz", "energy")] == pytest.approx(part, rel=1e-5, abs=1e-5)
        deta = (math.asinh(part[2] / math.hypot(part[0], part[1])) - eta) * (1 if eta > 0 else -1)
        assert event["deta"][n] == pytest.approx(deta, abs=1e-5)
        assert event["dphi"][n] == pytest.approx(wrapped(math.atan2(part[1], part[0]) - phi), abs=1e-5)


def test_jetnet_is_read_as_a_loop_reads_it(tmp_path: Path) -> None:
    arrays, columns = case("jetnet", tmp_path)
    for jet, slots, event in zip(arrays["jet_features"], arrays["particle_features"], events(columns), strict=True):
        pt, eta, mass, count = map(float, jet)
        real = [slot for slot in slots.tolist() if slot[3] == 1]
        sign = 1 if eta > 0 else -1
        assert event["pt_rel"] == [slot[2] for slot in real]
        assert event["deta"] == [sign * slot[0] for slot in real]
        assert event["dphi"] == pytest.approx([slot[1] for slot in real], abs=1e-7)
        assert (event["jet_pt"], event["jet_eta"], event["jet_mass"]) == (pt, eta, mass)
        assert event["jet_energy"] == pytest.approx(math.sqrt((pt * math.cosh(eta)) ** 2 + mass**2), rel=1e-6)
        assert event["jet_nparticles"] == min(count, SLOTS)
        assert jetnet.LABELS[event["label"]] == "t"
        for n, (eta_rel, phi_rel, share, _) in enumerate(real):
            absolute = share * pt
            assert event["px"][n] == pytest.approx(absolute * math.cos(phi_rel), rel=1e-5)
            assert event["py"][n] == pytest.approx(absolute * math.sin(phi_rel), rel=1e-5)
            assert event["pz"][n] == pytest.approx(absolute * math.sinh(eta + eta_rel), rel=1e-5)
            assert event["energy"][n] == pytest.approx(absolute * math.cosh(eta + eta_rel), rel=1e-5)
    assert 0 in columns.values["pt_rel"]  # the real particle without pT is kept


@pytest.mark.parametrize("name, label", [("g.hdf5", "g"), ("q30.hdf5", "q"), ("w150.h5", "w")])
def test_the_class_of_jetnet_is_in_the_name(tmp_path: Path, name: str, label: str) -> None:
    columns = read(JetNet(), write_hdf5(tmp_path / name, jetnet_arrays()))
    assert {jetnet.LABELS[code] for code in columns.values["label"]} == {label}
    other = write_hdf5(tmp_path / "jets.hdf5", jetnet_arrays())
    assert set(read(JetNet(label="z"), other).values["label"]) == {jetnet.LABELS.index("z")}
    with pytest.raises(DataError, match="no class is in its name"):
        read(JetNet(), other)
    with pytest.raises(DataError, match="no class 'b'; it has g, t, q, w, z"):
        JetNet(label="b")


def test_quark_gluon_is_read_as_a_loop_reads_it(tmp_path: Path) -> None:
    arrays, columns = case("quark_gluon", tmp_path)
    charge = {211: 1, 321: 1, 2212: 1, -11: 1, -13: 1, -211: -1, -321: -1, -2212: -1, 11: -1, 13: -1}
    kinds = {22: "photon", 11: "electron", 13: "muon", 130: "neutral_hadron", 2112: "neutral_hadron"}
    for x, y, event in zip(arrays["X"].tolist(), arrays["y"], events(columns), strict=True):
        real = sorted((slot for slot in x if slot[0] > 0), key=lambda slot: -slot[0])
        p4 = [(t * math.cos(f), t * math.sin(f), t * math.sinh(r), t * math.cosh(r)) for t, r, f, _ in real]
        check_axis(event, p4)
        assert event["label"] == y
        assert event["pid"] == [slot[3] for slot in real]
        assert event["charge"] == [charge.get(pid, 0) for pid in event["pid"]]
        for flag in ("charged_hadron", "neutral_hadron", "photon", "electron", "muon"):
            assert event[f"is_{flag}"] == [kinds.get(abs(pid), "charged_hadron") == flag for pid in event["pid"]]
    np.savez(tmp_path / "plain.npz", **arrays)  # without compression
    again = read(QuarkGluon(), tmp_path / "plain.npz")
    assert all(np.array_equal(again.values[name], columns.values[name]) for name in columns.values)


@pytest.mark.parametrize("layout", ["top", "top_fixed"])
def test_top_is_read_as_a_loop_reads_it(tmp_path: Path, layout: str) -> None:
    arrays, columns = case(layout, tmp_path)
    for row, event in enumerate(events(columns)):
        p4 = [tuple(float(arrays[f"{k}_{n}"][row]) for k in ("PX", "PY", "PZ", "E")) for n in range(SLOTS)]
        check_axis(event, [part for part in p4 if part[3] > 0])  # type: ignore[misc]
        assert top.LABELS[event["label"]] == ("top" if arrays["is_signal_new"][row] else "QCD")
        assert event["ttv"] == arrays["ttv"][row]
        for name, key in (("px", "PX"), ("py", "PY"), ("pz", "PZ"), ("energy", "E")):
            assert event[f"truth_{name}"] == arrays[f"truth{key}"][row]


def test_omnilearned_is_read_as_a_loop_reads_it(tmp_path: Path) -> None:
    arrays, columns = case("omnilearned", tmp_path)
    pdg = {1: -211, 2: -13, 3: -11, 4: 11, 5: 13, 6: 22, 7: 130, 8: 211}
    for row, event in enumerate(events(columns)):
        real = [slot for slot in arrays["data"][row].tolist() if any(slot)]
        assert event["deta"] == [slot[0] for slot in real]
        assert event["dphi"] == [slot[1] for slot in real]
        assert event["pt"] == pytest.approx([math.exp(slot[2]) for slot in real], rel=1e-6)
        assert event["energy"] == pytest.approx([math.exp(slot[3]) for slot in real], rel=1e-6)
        assert event["pid_code"] == [slot[4] for slot in real]
        assert event["is_photon"] == [pdg[slot[4]] == 22 for slot in real]
        assert event["is_muon"] == [abs(pdg[slot[4]]) == 13 for slot in real]
        sign = {-211: -1, -13: 1, -11: 1, 11: -1, 13: -1, 211: 1}
        assert event["charge"] == [sign.get(pdg[slot[4]], 0) for slot in real]
        assert event["d0_err"] == [slot[6] for slot in real]
        assert event["tanh_dz"] == [slot[7] for slot in real]
        assert event["point_target_0"] == [5] * len(real)
        assert event["jet_nparticles"] == round(100 * event["global_3"]) == len(real)
        assert event["unit_pt"] == bool(real)  # pT = 1 GeV exactly is no padding
        assert event["label"] == row % 10
    assert "-211 -13 -11 11 13 22 130 211" in OMNI.provenance().values()


def test_omnilearned_reads_numbers_to_regress(tmp_path: Path) -> None:
    arrays = omnilearned_arrays()
    arrays = {"data": arrays["data"][:, :, :4], "pid": np.linspace(0, 1, 2 * JETS).reshape(JETS, 2)}
    columns = read(OmniLearned(pid_column=None, targets=2), write_hdf5(tmp_path / "jets.h5", arrays))
    np.testing.assert_array_equal(columns.values["target_1"], arrays["pid"][:, 1].astype("f4"))
    assert "label" not in columns.values
    with pytest.raises(DataError, match=r"data has shape \(17, 6, 4\) where \(jets, slots, 5\) is needed"):
        read(OmniLearned(), tmp_path / "jets.h5")
    with pytest.raises(DataError, match=r"pid has shape \(17, 2\) where \(17,\) is needed"):
        read(OmniLearned(pid_column=None), tmp_path / "jets.h5")


def test_jetclass2_is_read_as_a_loop_reads_it(tmp_path: Path) -> None:
    arrays, columns = case("jetclass2", tmp_path)
    rows = pa.table(arrays).to_pylist()
    for row, event in zip(rows, events(columns), strict=True):
        for name, source in jetclass2._SOURCE.items():
            assert event[name] == row[source], name
    assert len(jetclass2.LABELS) == len(set(jetclass2.LABELS)) == 188
    # From the published data configuration: groups of codes by their decay products.
    assert [jetclass2.LABELS[n] for n in (9, 14, 77, 87, 161, 187)] == [
        "X_gg", "X_tauhtauh", "X_YY_gggg", "X_YY_ggg", "QCD_bbccss", "QCD_light"
    ]  # fmt: skip
    letters = [name.split("X_YY_")[-1] * ("X_YY_" in name) for name in jetclass2.LABELS]
    assert [n for n, name in enumerate(letters) if name.endswith("ee") and len(name) == 4] == [20, 36, 51, 65, 78]
    assert [n for n, name in enumerate(letters) if name.endswith("mm") and len(name) == 3] == [95, 96, 97, 98, 99]
    assert [n for n, name in enumerate(letters) if name.endswith("v")] == list(range(131, 161))


def test_the_published_example_of_jetclass2() -> None:
    folder = os.environ.get("MULTIPLET_TEST_DATA")
    if folder is None or not (path := Path(folder) / "jets" / "JetClassII_example.parquet").is_file():
        pytest.skip("MULTIPLET_TEST_DATA names no folder with jets/JetClassII_example.parquet")
    columns = read(JetClass2(step=33), path)
    table = pq.read_table(path, use_threads=False)
    assert len(columns) == 100
    assert columns.offsets[-1] == 4529
    for event, jet_eta, px, py, pz in zip(
        events(columns),
        *(table[name].to_pylist() for name in ("jet_eta", "part_px", "part_py", "part_pz")),
        strict=True,
    ):
        assert event["px"] == px
        assert event["jet_nparticles"] == len(px)
        true = [math.asinh(z / math.hypot(x, y)) - jet_eta for x, y, z in zip(px, py, pz, strict=True)]
        assert event["deta"] == pytest.approx([(1 if jet_eta > 0 else -1) * value for value in true], abs=1e-5)


def put(name: str, where: Any, value: float) -> Callable[[Arrays], object]:
    return lambda arrays: arrays[name].__setitem__(where, value)


def replaced(name: str, make: Callable[[Any], Any]) -> Callable[[Arrays], object]:
    return lambda arrays: arrays.update({name: make(arrays[name])})


def with_null(array: pa.Array) -> pa.Array:
    return pa.array([None if n == 4 else value for n, value in enumerate(array.to_pylist())], array.type)


FAULTS: dict[str, tuple[str, Callable[[Arrays], object], str]] = {
    "jetnet nan": ("jetnet", put("particle_features", (9, 0, 0), np.nan), r"\(ηrel\) of event 9 is not finite"),
    "jetnet mask": ("jetnet", put("particle_features", (8, 0, 3), 0.5), r"\(mask\) of event 8 is neither 0 nor 1"),
    "jetnet pT": ("jetnet", put("jet_features", (6, 0), -3), r"\(pT\) of event 6 is negative"),
    "jetnet count": ("jetnet", put("jet_features", (6, 3), 0.5), "of event 6 is not a whole number"),
    "jetnet missing": ("jetnet", lambda a: a.pop("jet_features"), "no dataset jet_features"),
    "jetnet shape": ("jetnet", replaced("jet_features", lambda x: x[:-1]), r"jet_features \(16, 4\)"),
    "qg nan": ("quark_gluon", put("X", (6, 0, 2), np.nan), "φ in X of event 6 is not finite"),
    "qg pT": ("quark_gluon", put("X", (6, 0, 0), -1), "pT in X of event 6 is negative"),
    "qg pid": ("quark_gluon", put("X", (11, 0, 3), 15), r"PDG id in X of event 11 is the PDG id of no kind .*\(15.0\)"),
    "qg label": ("quark_gluon", put("y", 12, 2), "y of event 12 is neither 0"),
    "qg missing": ("quark_gluon", lambda a: a.pop("y"), "y is no array; it holds X"),
    "qg shape": ("quark_gluon", replaced("y", lambda y: y[:3]), r"y has shape \(3,\)"),
    "qg objects": ("quark_gluon", replaced("y", lambda y: y.astype(object)), "never unpickled"),
    "qg text": ("quark_gluon", replaced("y", lambda y: y.astype(str)), "where numbers are needed"),
    "omni nan": ("omnilearned", put("data", (7, 0, 1), np.nan), "dphi of event 7 is not finite"),
    "omni huge": ("omnilearned", put("data", (7, 0, 3), 1e3), "ln E in data of event 7 is not finite"),
    "omni code": ("omnilearned", put("data", (7, 0, 4), 9), "pid_code of event 7 is none of the codes 0 to 8"),
    "omni label": ("omnilearned", put("pid", 5, 1), "pid of event 5 less the shift of 2 is no class"),
    "omni rows": ("omnilearned", replaced("global", lambda x: x[1:]), r"global has shape \(16, 4\)"),
    "top nan": ("top", put("PZ_0", 9, np.nan), r"PZ_\* of event 9 is not finite"),
    "top energy": ("top", put("E_0", 9, -1), r"E_\* of event 9 is negative"),
    "top still": ("top", lambda a: [put("PX_0", 9, 0)(a), put("PY_0", 9, 0)(a)], r"PX_\* of event 9 and its py"),
    "top label": ("top", put("is_signal_new", 4, 2), "is_signal_new of event 4 is neither 0"),
    "top missing": ("top", lambda a: a.pop("PX_2"), "lacks PX_2"),
    "jetclass2 label": ("jetclass2", replaced("jet_label", lambda x: pa.array([188] * JETS)), "event 0 is none"),
    "jetclass2 null": ("jetclass2", replaced("jet_pt", with_null), "jet_pt of event 4 is not finite"),
    "jetclass2 list": ("jetclass2", replaced("part_dphi", with_null), r"part_dphi of entry 4 is missing \(null\)"),
    "jetclass2 text": ("jetclass2", replaced("jet_pt", lambda x: pa.array(["a"] * JETS)), "'jet_pt' is string"),
    "jetclass2 missing": ("jetclass2", lambda a: a.pop("jet_tau3"), "lacks jet_tau3"),
    "jetclass2 flat": ("jetclass2", replaced("part_d0val", lambda x: pa.array([1.0] * JETS)), "part_d0val is float64"),
}  # fmt: skip


@pytest.mark.parametrize("name, change, message", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named(tmp_path: Path, name: str, change: Callable[[Arrays], object], message: str) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}.*{message}"):
        case(name, tmp_path, change)


@pytest.mark.parametrize("name", CASES)
def test_a_truncated_file_is_refused(tmp_path: Path, name: str) -> None:
    format, file, make, write = CASES[name]
    data = write(tmp_path / file, make()).read_bytes()
    for length in np.linspace(0, len(data) - 1, 40).astype(int):
        (tmp_path / file).write_bytes(data[:length])
        with pytest.raises(DataError, match=file):
            read(format, tmp_path / file)
    (tmp_path / file).unlink()
    with pytest.raises(DataError, match="is not a file"):
        read(format, tmp_path / file)


@pytest.mark.parametrize("name", CASES)
def test_no_event_at_all_is_no_fault(tmp_path: Path, name: str) -> None:
    def none(arrays: Arrays) -> None:
        arrays.update({key: value[:0] for key, value in arrays.items()})

    assert len(case(name, tmp_path, none)[1]) == 0


TRUTH = {  # what each layout says of the truth
    "quark_gluon": ("y",),
    "omnilearned": ("pid", "data_pid"),
    "top": ("is_signal_new", "ttv", "truthE", "truthPX", "truthPY", "truthPZ"),
    "top_fixed": ("is_signal_new", "ttv", "truthE", "truthPX", "truthPY", "truthPZ"),
    "jetclass2": ("jet_label", *(c.name for c in jetclass2._GENERATED)),
}


@pytest.mark.parametrize("name", TRUTH)
def test_truth_that_a_file_lacks_is_left_out_where_none_is_needed(tmp_path: Path, name: str) -> None:
    format, file, make, write = CASES[name]
    lenient = replace(format, labelled=False)
    whole = read(format, write(tmp_path / file, make()))
    again = read(lenient, tmp_path / file)
    assert again.schema == whole.schema  # what is there is read
    arrays = make()
    for branch in TRUTH[name]:
        del arrays[branch]
    bare = read(lenient, write(tmp_path / file, arrays))
    assert bare.schema == tuple(column for column in whole.schema if not column.truth)
    assert all(np.array_equal(value, whole.values[column]) for column, value in bare.values.items())
    with pytest.raises(DataError, match=f"{file}.*{TRUTH[name][0]}"):
        read(format, tmp_path / file)


def test_jetnet_without_a_class_in_its_name(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "new.hdf5", jetnet_arrays())
    assert "label" not in {column.name for column in read(JetNet(labelled=False), path).schema}
    assert "label" in {column.name for column in read(JetNet("t", labelled=False), path).schema}


class Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch trapped",)


def test_pickles_are_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_top(tmp_path / "test.h5", top_arrays())
    with h5py.File(path, "a") as file:
        file["table/table"].attrs["values_block_1_kind"] = np.bytes_(pickle.dumps([Trap()], 0))
    with pytest.raises(DataError, match=r"values_block_1_kind is not a plain list of names .*pickles are not executed"):
        read(Top(), path)
    with zipfile.ZipFile(tmp_path / "jets.npz", "w") as archive:
        archive.writestr("../X.npy", b"")
        for name in ("X", "y"):
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.array([Trap()], object), allow_pickle=True)
    with pytest.raises(DataError, match="never unpickled"):
        read(QuarkGluon(), tmp_path / "jets.npz")
    assert not (tmp_path / "trapped").exists()


def external_link(file: Any, other: Path) -> None:
    file["jet_features"] = h5py.ExternalLink(str(other), "jet_features")


def soft_link(file: Any, other: Path) -> None:
    file["jet_features"] = h5py.SoftLink("/particle_features")


def external_storage(file: Any, other: Path) -> None:
    file.create_dataset("jet_features", (JETS, 4), "f4", external=[(str(other), 0, JETS * 16)])


def virtual(file: Any, other: Path) -> None:
    layout = h5py.VirtualLayout((JETS, 4), "f4")
    layout[:] = h5py.VirtualSource(str(other), "jet_features", (JETS, 4))
    file.create_virtual_dataset("jet_features", layout)


def references(file: Any, other: Path) -> None:
    file.create_dataset("jet_features", (JETS, 4), h5py.ref_dtype)


def unwritten(file: Any, other: Path) -> None:
    file.create_dataset("jet_features", (2**40, 4), "f4", chunks=(1000, 4))


def never_allocated(file: Any, other: Path) -> None:
    file.create_dataset("jet_features", (2**40, 4), "f4")


def wide(file: Any, other: Path) -> None:
    file.create_dataset("jet_features", (JETS, 2**30), "f4", chunks=(1, 10))


HOSTILE = {
    external_link: "is a link .ExternalLink., and links are not followed",
    soft_link: "is a link .SoftLink.",
    external_storage: "keeps its values in other files",
    virtual: "keeps its values in other files",
    references: "holds objects, strings or references",
    unwritten: "declares 1099511628 chunks and stores 0",
    never_allocated: "declares 17592186044416 bytes and stores 0",
    wide: "too much for one read",
}


@pytest.mark.parametrize("attack, message", HOSTILE.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_hdf5_that_leads_elsewhere_is_refused(
    tmp_path: Path, attack: Callable[[Any, Path], None], message: str
) -> None:
    arrays = jetnet_arrays()
    other = write_hdf5(tmp_path / "other.h5", arrays)
    path = write_hdf5(tmp_path / "g.hdf5", {"particle_features": arrays["particle_features"]})
    with h5py.File(path, "a") as file:
        attack(file, other)
    with pytest.raises(DataError, match=rf"g\.hdf5: jet_features .*{message}"):
        read(JetNet(), path)
    with open_hdf5(path) as file, pytest.raises(DataError, match=r"no dataset a/b \(/ holds jet_features, particle_f"):
        dataset(path, file, "a/b")


def test_a_shape_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "jets.npz", "w") as archive:
        for name, shape in (("X", (2**40, 139, 4)), ("y", (2**40,))):
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with pytest.raises(DataError, match=r"declared with shape .1099511627776, 139, 4., which its"):
        read(QuarkGluon(), tmp_path / "jets.npz")


def test_the_extra_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_hdf5(tmp_path / "t.hdf5", jetnet_arrays())
    with monkeypatch.context() as patched:
        patched.setattr(h5py.h5z, "filter_avail", lambda code: False)
        patched.setitem(sys.modules, "hdf5plugin", None)
        with pytest.raises(MissingExtraError, match=r"is compressed by deflate \(1\), .* pip install hdf5plugin"):
            read(JetNet(), path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r'pip install "multiplet\[hdf5\]"'):
        read(JetNet(), path)


def test_every_format_has_a_name() -> None:
    assert set(FORMATS) >= {"events", "jetclass", "jetclass2", "jetnet", "omnilearned", "quark_gluon", "top"}
