"""JetClass's ROOT files: written and read back exactly, labels by name, every fault named with file, branch, event."""

from __future__ import annotations

import math
import os
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward
import numpy as np
import pytest
import uproot

from multiplet.data.columns import Columns, concatenate
from multiplet.data.formats import jetclass_layout
from multiplet.data.formats.jetclass import JetClass, write_root
from multiplet.data.formats.tables import open_table
from multiplet.errors import CorruptError, DataError, MissingExtraError
from multiplet.simulation import jets
from toys import toy_jets

JETCLASS_TYPES = {  # the 41 branches, as the data set has them
    **{f"part_{n}": "var * float32" for n in ("px", "py", "pz", "energy", "deta", "dphi", "charge")},
    **{f"part_{n}": "var * float32" for n in ("d0val", "d0err", "dzval", "dzerr")},
    **{f"part_is{n}": "var * int32" for n in ("ChargedHadron", "NeutralHadron", "Photon", "Electron", "Muon")},
    "label_QCD": "float32",
    **{f"label_{n}": "bool" for n in ("Hbb", "Hcc", "Hgg", "H4q", "Hqql")},
    **{f"label_{n}": "int32" for n in ("Zqq", "Wqq", "Tbqq", "Tbl")},
    **{f"jet_{n}": "float32" for n in ("pt", "eta", "phi", "energy", "nparticles", "sdmass")},
    **{f"jet_tau{n}": "float32" for n in (1, 2, 3, 4)},
    **{f"aux_genpart_{n}": "float32" for n in ("eta", "phi", "pid", "pt")},
    "aux_truth_match": "float32",
}


def simulated(events: int = 23, seed: int = 1) -> Columns:
    """Toy jets in all columns of the simulation; the third has no constituents."""
    toys, rng = toy_jets(events, seed, least=1, most=9), np.random.default_rng(seed)
    jet = np.repeat(np.arange(events), np.diff(toys.offsets))
    values = {name: value[jet != 2] if len(value) == len(jet) else value for name, value in toys.values.items()}
    counts = np.diff(toys.offsets) * (np.arange(events) != 2)
    sign = np.where(values["jet_eta"] > 0, 1, -1)[jet[jet != 2]]
    values |= {"deta": values["deta"] * sign, "label": np.arange(events) % 10, "jet_nparticles": counts}
    values |= {"genpart_pid": rng.choice([-24, 6, 21, 25], events), "truth_match": np.arange(events) + 11}
    for name in ("jet_sdmass", *(f"jet_tau{n}" for n in (1, 2, 3, 4)), *(f"genpart_{n}" for n in ("eta", "phi", "pt"))):
        values[name] = rng.normal(size=events)
    kept = {c.name: np.ascontiguousarray(values[c.name], c.dtype) for c in jets.SCHEMA}
    pt, at = np.hypot(kept["px"].astype(float), kept["py"]), np.repeat(np.arange(events), counts)
    order = np.lexsort((-pt, at))
    points = {c.name: kept[c.name][order] for c in jets.SCHEMA if c.level == "point"}
    return Columns(jets.SCHEMA, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), kept | points)


def arrays(columns: Columns) -> dict[str, Any]:
    """What a JetClass file of these jets holds, made without the writer: one list an event."""
    cut = columns.offsets[1:-1]
    parts = {
        branch: awkward.Array([list(part) for part in np.split(columns.values[name], cut)])
        for name, branch in jetclass_layout.PART.items()
    }
    out = {k: awkward.values_astype(v, np.int32 if "_is" in k else np.float32) for k, v in parts.items()}
    for name, branch in jetclass_layout.BRANCH.items():
        if name not in jetclass_layout.PART:
            out[branch] = columns.values[name].astype(np.float32)
    for code, name in enumerate(jets.LABELS):
        out[f"label_{name}"] = (columns.values["label"] == code).astype(jetclass_layout.LABEL_TYPES[name])
    return out


def write_tree(path: Path, branches: dict[str, Any], ntuple: bool = False) -> Path:
    with uproot.recreate(path) as file:
        if ntuple:
            file.mkrntuple("tree", branches)
        else:
            file.mktree("tree", branches)
    return path


def read(path: Path, format: JetClass | None = None) -> Columns:
    return concatenate([chunk.columns for chunk in (format or JetClass(step=7)).chunks(path)])


def same(one: Columns, other: Columns) -> None:
    assert one.schema == other.schema
    np.testing.assert_array_equal(one.offsets, other.offsets)
    for column in one.schema:
        assert one.values[column.name].dtype == other.values[column.name].dtype
        np.testing.assert_array_equal(one.values[column.name], other.values[column.name], column.name)


def test_the_columns_are_those_of_the_simulation() -> None:
    assert jetclass_layout.SCHEMA == jets.SCHEMA
    assert jetclass_layout.LABELS == jets.LABELS


def test_what_is_written_is_read_exactly(tmp_path: Path) -> None:
    columns = simulated()
    assert write_root(tmp_path / "jets.root", columns, step=5) == 23
    same(read(tmp_path / "jets.root"), columns)
    assert write_root(tmp_path / "parts.root", [columns, columns.take(np.arange(3))]) == 26
    same(read(tmp_path / "parts.root"), concatenate([columns, columns.take(np.arange(3))]))
    with uproot.open(tmp_path / "jets.root") as file:
        assert file.classnames() == {"tree;1": "TTree"}
        held = {b.name: str(b.array().type.content) for b in file["tree"].branches}
    assert held.pop("npart") == "int32"
    assert held == JETCLASS_TYPES
    assert len(held) == 41


@pytest.mark.parametrize("ntuple", [False, True])
def test_trees_and_ntuples_of_others_are_read_exactly(tmp_path: Path, ntuple: bool) -> None:
    columns = simulated()
    same(read(write_tree(tmp_path / "jets.root", arrays(columns), ntuple)), columns)


def test_vectors_are_read_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uproot writes no std::vector: here are its bytes as ROOT lays them, 10 of header before each event's numbers."""
    columns = simulated()
    branches, kinds = arrays(columns), {}
    for name in [name for name in branches if name.startswith("part_")]:
        kind = np.dtype(">i4" if "_is" in name else ">f4")
        kinds[name] = uproot.AsJagged(uproot.AsDtype(kind), header_bytes=10)
        values = [np.asarray(event, kind) for event in branches[name].to_list()]
        headers = [struct.pack(">IHI", 0x40000000 | (6 + v.nbytes), 9, len(v)) for v in values]
        entries = [np.frombuffer(h + v.tobytes(), np.uint8) for h, v in zip(headers, values, strict=True)]
        branches[name] = awkward.unflatten(np.concatenate(entries), [len(entry) for entry in entries])
    path, real = write_tree(tmp_path / "jets.root", branches), uproot.TBranch.interpretation
    vectors = property(lambda branch: kinds.get(branch.name) or real.fget(branch))
    monkeypatch.setattr(uproot.TBranch, "interpretation", vectors)
    same(read(path), columns)


OTHERS = {  # file, tree, branches of lists, branches of one number
    "tree": ("uproot-HZZ.root", "events", ("Jet_Px", "Jet_ID", "Muon_Charge"), ("NJet", "MET_px")),
    "wide tree": ("coffea_pfnano.root", "Events", ("PFCands_pt", "PFCands_charge", "FatJet_pt"), ("run", "event")),
    "ntuple": (
        "cmsopendata2015_ttbar_19980_NANOAOD_RNTupleImporter_rntuple_v1-0-0-1.root",
        "Events",
        ("Jet_pt", "Muon_charge", "FatJet_pt"),
        ("run", "event"),
    ),
}


@pytest.mark.parametrize("name, tree, lists, numbers", OTHERS.values(), ids=OTHERS)
def test_files_of_other_people_become_flat(
    name: str, tree: str, lists: tuple[str, ...], numbers: tuple[str, ...]
) -> None:
    path = Path(os.environ.get("MULTIPLET_TEST_DATA", "")) / "jets" / name
    if not path.is_file():
        pytest.skip(f"MULTIPLET_TEST_DATA names no folder with jets/{name}")
    with uproot.open(path) as file:
        truth = {branch: file[tree][branch].array().to_list() for branch in (*lists, *numbers)}
    got: dict[str, list[Any]] = {branch: [] for branch in truth}
    with open_table(path, tree) as table:
        for chunk in table.iterate(list(truth), 4):
            for branch, one in chunk.items():
                assert (one.offsets is None) == (branch in numbers)
                parts = one.values if one.offsets is None else np.split(one.values, one.offsets[1:-1])
                got[branch] += [part.tolist() for part in parts]
    assert got == truth


@pytest.mark.parametrize("label", jets.LABELS)
def test_each_label_is_found_by_name(tmp_path: Path, label: str) -> None:
    branches = arrays(simulated(4))
    for name, kind in jetclass_layout.LABEL_TYPES.items():
        branches[f"label_{name}"] = np.full(4, name == label, kind)
    columns = read(write_tree(tmp_path / "jets.root", dict(sorted(branches.items()))))
    column = next(c for c in columns.schema if c.name == "label")
    assert [column.classes[code] for code in columns.values["label"]] == [label] * 4


def test_deta_carries_the_sign_of_the_jet(tmp_path: Path) -> None:
    write_root(tmp_path / "jets.root", simulated(40))
    columns = read(tmp_path / "jets.root")
    signs = set()
    for event in range(40):
        jet_eta = float(columns.values["jet_eta"][event])
        sign = 1.0 if jet_eta > 0 else -1.0
        signs.add(sign)
        for n in range(columns.offsets[event], columns.offsets[event + 1]):
            px, py, pz, deta = (float(columns.values[name][n]) for name in ("px", "py", "pz", "deta"))
            assert sign * deta + jet_eta == pytest.approx(math.asinh(pz / math.hypot(px, py)), abs=1e-5)
    assert signs == {1.0, -1.0}


def test_constituents_come_in_descending_pt_and_nothing_else_moves(tmp_path: Path) -> None:
    columns, rng = simulated(), np.random.default_rng(0)
    at = np.repeat(np.arange(23), np.diff(columns.offsets))
    order = np.lexsort((rng.random(len(at)), at))
    points = {c.name: columns.values[c.name][order] for c in columns.schema if c.level == "point"}
    shuffled = replace(columns, values=columns.values | points)
    assert not np.array_equal(shuffled.values["px"], columns.values["px"])
    same(read(write_tree(tmp_path / "jets.root", arrays(shuffled))), columns)


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    branches = arrays(simulated())
    few = {k: v for k, v in branches.items() if k in ("part_px", "part_py", "part_pz", "part_energy", "jet_pt")}
    labels = {k: v for k, v in branches.items() if k.startswith("label_")}
    path = write_tree(tmp_path / "jets.root", few | labels | {"text_of_mine": branches["part_px"]})
    columns = read(path, JetClass(columns=("jet_pt",)))
    assert [c.name for c in columns.schema] == ["px", "py", "pz", "energy", "jet_pt", "label"]
    with pytest.raises(DataError, match="lacks aux_genpart_eta, "):
        read(path)
    with pytest.raises(DataError, match="no column pt; it has px"):
        JetClass(columns=("pt",))


@pytest.mark.parametrize("lacking", [("label_Hbb",), ("aux_truth_match",), ()])
def test_labels_are_not_needed_everywhere(tmp_path: Path, lacking: tuple[str, ...]) -> None:
    columns, branches = simulated(), arrays(simulated())
    gone = lacking or [name for name in branches if name.startswith(("label_", "aux_"))]
    for name in gone:
        del branches[name]
    path = write_tree(tmp_path / "new.root", branches)
    with pytest.raises(DataError, match=f"tree tree lacks .*{gone[0]}"):
        read(path)
    if lacking == ("label_Hbb",):  # some of the labels are rather a fault
        with pytest.raises(DataError, match="tree tree lacks label_Hbb"):
            read(path, JetClass(labelled=False))
        return
    bare = read(path, JetClass(labelled=False))
    left = [c for c in columns.schema if not c.truth or (lacking and c.name != "truth_match")]
    assert list(bare.schema) == left
    assert all(np.array_equal(bare.values[c.name], columns.values[c.name]) for c in left)


def nan(branches: dict[str, Any]) -> None:
    branches["part_d0val"] = awkward.Array(
        [[*part[:-1], np.nan] if n == 5 else part for n, part in listed(branches, "part_d0val")]
    )


def listed(branches: dict[str, Any], name: str) -> list[tuple[int, list[float]]]:
    return list(enumerate(branches[name].to_list()))


def negative(branches: dict[str, Any]) -> None:
    branches["part_energy"] = awkward.Array(
        [[-1.5, *part[1:]] if n == 8 else part for n, part in listed(branches, "part_energy")]
    )


def still(branches: dict[str, Any]) -> None:
    for name in ("part_px", "part_py"):
        branches[name] = awkward.Array([[0.0, *part[1:]] if n == 9 else part for n, part in listed(branches, name)])


def short(branches: dict[str, Any]) -> None:
    branches["part_dphi"] = awkward.Array([part[:-1] if n == 11 else part for n, part in listed(branches, "part_dphi")])


def half(branches: dict[str, Any]) -> None:
    branches["part_charge"] = awkward.Array(
        [[0.5, *part[1:]] if n == 4 else part for n, part in listed(branches, "part_charge")]
    )


def set_flat(name: str, event: int, value: float) -> Callable[[dict[str, Any]], None]:
    def change(branches: dict[str, Any]) -> None:
        branches[name] = np.where(np.arange(23) == event, value, branches[name]).astype(branches[name].dtype)

    return change


def flattened(branches: dict[str, Any]) -> None:
    branches["part_pz"] = branches["jet_pt"]


def text(branches: dict[str, Any]) -> None:
    branches["jet_pt"] = awkward.Array(["much"] * 23)


FAULTS = {
    "nan": (nan, "part_d0val of event 5 is not finite"),
    "infinite": (set_flat("jet_tau2", 13, np.inf), "jet_tau2 of event 13 is not finite"),
    "negative energy": (negative, r"part_energy of event 8 is negative \(-1.5\)"),
    "no direction": (still, "part_px of event 9 and its py are both 0"),
    "lists that differ": (short, "part_dphi of event 11 has not as many values as part_px"),
    "half a charge": (half, r"part_charge of event 4 is not a whole number in the range of int8 \(0.5\)"),
    "no label": (set_flat("label_Tbl", 19, 0), "the label of event 19 is not exactly one of label_QCD, label_Hbb"),
    "two labels": (set_flat("label_QCD", 7, 1), "the label of event 7 is not exactly one"),
    "a label of 2": (set_flat("label_Zqq", 6, 2), "the label of event 6 is not exactly one"),
    "one value an event": (flattened, "part_pz is .* not one number for each point"),
    "text": (text, "jet_pt"),
    "a branch missing": (lambda branches: branches.pop("part_dzerr"), "tree tree lacks part_dzerr"),
}


@pytest.mark.parametrize("change, message", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_with_file_branch_and_event(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    branches = arrays(simulated())
    change(branches)
    path = write_tree(tmp_path / "bad.root", branches)
    with pytest.raises(DataError, match=rf"bad\.root.*{message}"):
        read(path)


def test_what_is_no_jetclass_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tree(tmp_path / "jets.root", arrays(simulated()))
    with pytest.raises(DataError, match=r"has no table 'Events'; it holds tree \(TTree, 23 entries\)"):
        read(path, JetClass(tree="Events"))
    with pytest.raises(DataError, match="is not a file"):
        read(tmp_path / "none.root")
    (tmp_path / "text.root").write_text("some text, and not a ROOT file at all")
    with pytest.raises(DataError, match="is not a ROOT file"):
        read(tmp_path / "text.root")
    (tmp_path / "half.root").write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptError, match="bytes where its header says"):
        read(tmp_path / "half.root")
    monkeypatch.setitem(sys.modules, "uproot", None)
    with pytest.raises(MissingExtraError, match=r'pip install "multiplet\[root\]"'):
        read(path)
    with pytest.raises(MissingExtraError, match="uproot"):
        write_root(tmp_path / "new.root", simulated())


def test_damage_raises_nothing_but_data_errors(tmp_path: Path) -> None:
    write_root(tmp_path / "jets.root", simulated())
    data, rng = (tmp_path / "jets.root").read_bytes(), np.random.default_rng(3)
    for place in rng.integers(100, len(data), 12):
        (tmp_path / "bad.root").write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
        with suppress(DataError):
            assert isinstance(read(tmp_path / "bad.root"), Columns)
        (tmp_path / "bad.root").write_bytes(data[:place])
        with pytest.raises(CorruptError):
            read(tmp_path / "bad.root")


def test_jets_that_do_not_fit_are_not_written(tmp_path: Path) -> None:
    columns = simulated()
    with pytest.raises(DataError, match="jet_nparticles is missing; jet_sdmass is missing"):
        write_root(tmp_path / "toys.root", toy_jets(3))
    huge = replace(columns, values=columns.values | {"genpart_pid": np.full(23, 2**24 + 1, np.int32)})
    with pytest.raises(DataError, match="genpart_pid is 16777217, which float32 cannot hold"):
        write_root(tmp_path / "huge.root", huge)
    other = tuple(replace(c, classes=("QCD", "Zbb")) if c.name == "label" else c for c in columns.schema)
    with pytest.raises(DataError, match="classes that JetClass has not: Zbb"):
        write_root(tmp_path / "other.root", replace(columns, schema=other))
    assert list(tmp_path.iterdir()) == []
