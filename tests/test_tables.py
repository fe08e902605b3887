"""Tables: files of every kind as flat arrays, exactly; what is no table of numbers is refused by name."""

from __future__ import annotations

import io
import os
import random
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import awkward
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from numpy.lib import format as npy

from multiplet.data.formats.tables import Field, Held, Jagged, Table, kind_of, open_table, table_names
from multiplet.errors import DataError, MultipletError
from toys import toy_jets, write_toys

DATA = os.environ.get("MULTIPLET_TEST_DATA")
LISTS = [[1.5, 2.5], [], [3.5], [4.5, 5.5, 6.5], []]
WHOLE = np.array([7, -8, 9, 10, 11], np.int32)


def read(path: Path, name: str | None = None, step: int = 2) -> dict[str, Any]:
    """All readable columns of a table as lists, read `step` entries at a time."""
    with open_table(path, name) as table:
        chunks = list(table.iterate(list(table.fields), step))
        assert all(one.entries <= step for chunk in chunks for one in chunk.values())
        for chunk in chunks:
            for key, one in chunk.items():
                assert one.values.dtype == table.fields[key].dtype
                assert one.values.shape[1:] == table.fields[key].width
                assert (one.offsets is not None) == bool(table.fields[key].depth)
        return {key: [entry for chunk in chunks for entry in listed(chunk[key])] for key in table.fields}


def listed(one: Jagged) -> list[Any]:
    """Entry by entry, the slow way."""
    if one.offsets is None:
        return one.values.tolist()
    assert one.offsets[0] == 0
    assert one.offsets[-1] == len(one.values)
    return [one.values[a:b].tolist() for a, b in zip(one.offsets[:-1], one.offsets[1:], strict=True)]


def fails(path: Path, name: str | None = None, columns: list[str] | None = None) -> str:
    with pytest.raises(DataError) as caught, open_table(path, name) as table:
        list(table.iterate(columns or list(table.fields), 2))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("step", [1, 2, 5, 100])
def test_trees_are_read_in_steps(tmp_path: Path, step: int) -> None:
    wide = np.arange(30, dtype=np.float32).reshape(5, 2, 3)
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("t", {"n": WHOLE, "x": awkward.Array(LISTS), "wide": wide, "flag": WHOLE > 8})
    found = read(tmp_path / "a.root", step=step)
    assert found["n"] == WHOLE.tolist()
    assert found["x"] == LISTS
    assert found["wide"] == wide.tolist()
    assert found["flag"] == (WHOLE > 8).tolist()
    with open_table(tmp_path / "a.root") as table:
        assert (table.entries, table.kind, table.name) == (5, "TTree", "t")
        assert table.fields["x"] == Field("x", "float64", 1)
        assert table.fields["wide"] == Field("wide", "float32", 0, (2, 3))


@pytest.mark.parametrize("step", [1, 3, 100])
def test_ntuples_with_records_have_dotted_names(tmp_path: Path, step: int) -> None:
    muons = awkward.zip({"pt": awkward.Array(LISTS), "q": awkward.values_astype(awkward.Array(LISTS), np.int32)})
    one = awkward.zip({"a": WHOLE, "b": WHOLE * 0.5})
    deep = awkward.Array([[[1.0]], [], [[2.0], []], [], []])
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mkrntuple("t", {"mu": muons, "one": one, "deep": deep, "text": awkward.Array(list("abcde"))})
    found = read(tmp_path / "a.root", step=step)
    assert found["mu.pt"] == LISTS
    assert found["mu.q"] == [[int(x) for x in few] for few in LISTS]
    assert found["one.b"] == (WHOLE * 0.5).tolist()
    with open_table(tmp_path / "a.root") as table:
        assert set(table.unreadable) == {"deep", "text"}
        assert "string" in table.unreadable["text"]
    assert "'deep' in t is var * var * float64: numbers" in fails(tmp_path / "a.root", columns=["deep"])


def test_of_several_trees_one_is_named(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("dir/events", {"n": WHOLE})
        file.mktree("runs", {"r": WHOLE[:2]})
    assert table_names(tmp_path / "a.root") == [Held("dir/events", "TTree", 5), Held("runs", "TTree", 2)]
    assert read(tmp_path / "a.root", "dir/events")["n"] == WHOLE.tolist()
    message = fails(tmp_path / "a.root")
    assert "dir/events (TTree, 5 entries), runs (TTree, 2 entries)" in message
    assert "did you mean 'runs'?" in fails(tmp_path / "a.root", "run")
    assert "did you mean 'n'?" in fails(tmp_path / "a.root", "dir/events", ["nn"])


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=3)
    return path


def test_parquet_lists_records_and_both(tmp_path: Path) -> None:
    points = [[{"pt": x, "q": int(x)} for x in few] for few in LISTS]
    records = [{"k": int(n), "x": few} for n, few in zip(WHOLE, LISTS, strict=True)]
    pairs = pa.array([[[1, 2], [3, 4]], [], [[5, 6]], [], []], pa.list_(pa.list_(pa.int16(), 2)))
    path = parquet(
        tmp_path / "a.parquet",
        n=pa.array(WHOLE),
        x=pa.array(LISTS, pa.large_list(pa.float32())),
        points=pa.array(points),
        records=pa.array(records),
        pairs=pairs,
        deep=pa.array([[[1.0]]] * 5),
        text=pa.array(list("abcde")),
        code=pa.array(list("aabbc")).dictionary_encode(),
        when=pa.array([0] * 5, pa.timestamp("s")),
        b=pa.array([True, False, True, False, True]),
    )
    found = read(path)
    assert set(found) == {"n", "x", "points.pt", "points.q", "records.k", "records.x", "pairs", "b"}
    assert found["x"] == LISTS
    assert found["points.pt"] == LISTS
    assert found["points.q"] == [[int(x) for x in few] for few in LISTS]
    assert found["records.x"] == LISTS
    assert found["records.k"] == WHOLE.tolist()
    assert found["pairs"] == pairs.to_pylist()
    with open_table(path) as table:
        assert set(table.unreadable) == {"deep", "text", "code", "when"}
        assert table.fields["pairs"] == Field("pairs", "int16", 1, (2,))


def test_what_misses_in_parquet_is_nan_or_refused(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "a.parquet",
        x=pa.array([1.0, None, 3.0, 4.0, 5.0]),
        n=pa.array([1, 2, 3, None, 5]),
        lists=pa.array([[1], [2], [], [3, None], [4]]),
        none=pa.array([[1.0], [2.0], [3.0], [4.0], None]),
    )
    with open_table(path) as table:
        values = np.concatenate([chunk["x"].values for chunk in table.iterate(["x"], 2)])
    assert np.isnan(values).tolist() == [False, True, False, False, False]
    for column, entry in (("n", 3), ("lists", 3), ("none", 4)):
        assert f"{column} of entry {entry} is missing (null)" in fails(path, columns=[column])
    assert "leave the name out" in fails(path, "Events")


def test_arrays_of_one_length_are_a_table(tmp_path: Path) -> None:
    jets = np.zeros(5, [("pt", ">f4"), ("n", "i2"), ("v", "f8", (2,))])
    jets["pt"] = WHOLE
    tracks = np.zeros((5, 3), [("d0", "f4"), ("in", [("a", "i4")])])
    tracks["d0"] = np.arange(15).reshape(5, 3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["jets"], file["tracks"] = jets, tracks
        file["more/y"] = WHOLE[:2]
        file["more/sub/z"] = np.ones((2, 4), np.float16)
        file["names"] = np.array([b"one", b"two"])
        file["more/soft"] = h5py.SoftLink("/jets")
        file["scalar"] = 3.0
    assert [(one.name, one.entries) for one in table_names(tmp_path / "a.h5")] == [("jets", 5), ("more", 2)]
    found = read(tmp_path / "a.h5", "jets")
    assert found["jets.pt"] == WHOLE.tolist()
    assert found["tracks.d0"] == tracks["d0"].tolist()
    with open_table(tmp_path / "a.h5", "/jets/") as table:
        assert table.fields["tracks.in.a"] == Field("tracks.in.a", "int32", 0, (3,))
        assert table.fields["jets.v"] == Field("jets.v", "float64", 0, (2,))
        assert table.fields["jets.pt"].dtype == "float32"
        assert table.unreadable["scalar"] == "a single value"
        assert "link" in table.unreadable["more/soft"]
    assert read(tmp_path / "a.h5", "more") == {"y": [7, -8], "sub/z": [[1.0] * 4] * 2}
    assert read(tmp_path / "a.h5", "more/sub") == {"z": [[1.0] * 4] * 2}
    assert "jets (arrays, 5 entries), more (arrays, 2 entries): name one" in fails(tmp_path / "a.h5")
    assert "did you mean 'jets'?" in fails(tmp_path / "a.h5", "jet")


def test_a_compound_array_alone_needs_no_prefix(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["hits"] = np.array([(1, 2.0), (3, 4.0)], [("n", "i4"), ("x", "f8")])
        file["group/loop"] = file["/"]  # a circle of hard links ends
    assert read(tmp_path / "a.h5", "hits") == {"n": [1, 3], "x": [2.0, 4.0]}


@pytest.mark.parametrize("name", ["df", "run/2024/df"])
def test_pandas_tables(tmp_path: Path, name: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group(name)
        group.attrs["pandas_type"] = np.bytes_(b"frame")
        group["block0_items"] = np.array([b"px", b"py"])
        group["block0_values"] = np.arange(10.0).reshape(5, 2)
    assert table_names(tmp_path / "a.h5") == [Held(name, "pandas", 5)]
    assert read(tmp_path / "a.h5") == {"px": [0.0, 2.0, 4.0, 6.0, 8.0], "py": [1.0, 3.0, 5.0, 7.0, 9.0]}


def test_npz_of_every_order(tmp_path: Path) -> None:
    square = np.arange(15.0).reshape(5, 3)
    np.savez_compressed(
        tmp_path / "a.npz", c=square, f=np.asfortranarray(square), big=WHOLE.astype(">i4"), other=WHOLE[:2]
    )
    assert [(one.name, one.entries) for one in table_names(tmp_path / "a.npz")] == [("c", 5), ("other", 2)]
    assert read(tmp_path / "a.npz", "big") == {"c": square.tolist(), "f": square.tolist(), "big": WHOLE.tolist()}
    assert read(tmp_path / "a.npz", "other") == {"other": [7, -8]}


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=WHOLE, bad=np.array([{"a": 1}] * 5, object))
    with open_table(tmp_path / "a.npz") as table:
        assert "pickle" in table.unreadable["bad"]
    assert "pickle" in fails(tmp_path / "a.npz", columns=["bad"])


def test_absurd_shapes_cost_nothing(tmp_path: Path) -> None:
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("x.npy", header.getvalue() + b"\0" * 80)
    assert "holds no table of numbers" in fails(tmp_path / "a.npz")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (10**15,), "f8", chunks=(1000,))
        file.create_dataset("y", (10**15, 10**6), "f4", chunks=(1, 10**6))
    assert table_names(tmp_path / "a.h5")[0].entries == 10**15
    assert "never written whole" in fails(tmp_path / "a.h5", columns=["x"])
    assert "never written whole" in fails(tmp_path / "a.h5", columns=["y"])


def test_event_files_are_tables_too(tmp_path: Path) -> None:
    path = next(write_toys(tmp_path).glob("train/*.arrow"))
    jets = toy_jets(300, 1)
    with open_table(path) as table:
        found = read(path, step=7)
        assert table.entries == len(found["label"])
        assert {name for name, one in table.fields.items() if one.depth} == {
            one.name for one in jets.schema if one.level == "point"
        }


@pytest.mark.parametrize("lengths", [{"x": [2, 1]}, {"x": [2, 4]}, {"x": [3, 2], "y": [3, 1]}])
def test_a_reader_that_gives_too_few_or_too_many_is_not_believed(lengths: dict[str, list[int]]) -> None:
    def chunks(names: Sequence[str], step: int) -> Iterator[dict[str, Jagged]]:
        for number in range(2):
            yield {name: Jagged(np.zeros(lengths[name][number])) for name in names}

    fields = {name: Field(name, "float64") for name in lengths}
    lying = Table(Path("a"), "t", "TTree", 5, fields, {}, chunks)
    with pytest.raises(DataError, match="it is damaged"):
        list(lying.iterate(list(lengths), 3))


@pytest.mark.parametrize("kind", ["root", "parquet", "h5", "npz"])
def test_no_entries_are_one_empty_chunk(tmp_path: Path, kind: str) -> None:
    path, none = tmp_path / f"a.{kind}", np.empty(0, np.float32)
    if kind == "root":
        with uproot.recreate(path) as file:
            file.mktree("t", {"x": np.float32})
    elif kind == "parquet":
        parquet(path, x=none)
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["x"] = none
    else:
        np.savez(path, x=none)
    with open_table(path) as table:
        (chunk,) = table.iterate(["x"], 10)
    assert chunk["x"].values.shape == (0,)
    assert chunk["x"].values.dtype == np.float32


def test_what_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    assert "neither ROOT, Parquet" in fails(tmp_path / "a.txt")
    (tmp_path / "a.root").write_text("hello")
    assert "not a ROOT file" in fails(tmp_path / "a.root")
    assert "correct the path" in fails(tmp_path / "nowhere.root")
    with h5py.File(tmp_path / "odd", "w") as file:
        file["x"] = WHOLE
    assert kind_of(tmp_path / "odd") == "HDF5"
    with open_table(tmp_path / "odd") as table, pytest.raises(DataError, match="0 columns in steps of 2"):
        next(table.iterate([], 2))


def small(tmp_path: Path) -> dict[str, Callable[[Path], None]]:
    def root(path: Path) -> None:
        with uproot.recreate(path) as file:
            file.mktree("t", {"n": WHOLE, "x": awkward.Array(LISTS)})

    def ntuple(path: Path) -> None:
        with uproot.recreate(path) as file:
            file.mkrntuple("t", {"n": WHOLE, "x": awkward.Array(LISTS)})

    def hdf5(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=WHOLE, chunks=(2,), compression="gzip")

    return {
        "a.root": root,
        "b.root": ntuple,
        "a.parquet": lambda path: parquet(path, n=WHOLE, x=pa.array(LISTS)) and None,
        "a.h5": hdf5,
        "a.npz": lambda path: np.savez_compressed(path, x=WHOLE),
    }


@pytest.mark.parametrize("name", ["a.root", "b.root", "a.parquet", "a.h5", "a.npz"])
@pytest.mark.filterwarnings("ignore")
def test_damage_raises_nothing_but_our_errors(tmp_path: Path, name: str) -> None:
    path, draws = tmp_path / name, random.Random(1)
    small(tmp_path)[name](path)
    whole, raised = path.read_bytes(), 0
    for number in range(60):
        bad = bytearray(whole)
        if number % 3:
            bad[draws.randrange(len(bad))] ^= 1 << draws.randrange(8)
        else:
            del bad[draws.randrange(len(bad)) :]
        path.write_bytes(bad)
        try:
            read(path)
        except MultipletError:
            raised += 1
    assert raised >= 20


@pytest.mark.skipif(not DATA, reason="MULTIPLET_TEST_DATA is not set")
class TestFilesOfOthers:
    def test_a_tree(self) -> None:
        path = Path(str(DATA)) / "jets/uproot-HZZ.root"
        tree = uproot.open(path)["events"]
        found = read(path, step=1000)
        assert len(found) == 51
        for name in ("Muon_Px", "NJet", "Jet_ID", "MET_px"):
            assert found[name] == tree[name].array(library="ak").tolist()

    def test_a_parquet_file(self) -> None:
        path = Path(str(DATA)) / "jets/JetClassII_example.parquet"
        table, found = pq.read_table(path), read(path, step=33)
        assert set(found) == set(table.column_names)
        for name in table.column_names:
            assert found[name] == table[name].to_pylist()

    def test_records_in_parquet(self) -> None:
        path = Path(str(DATA)) / "telescope/icecube_mc/oscnext_5_events.parquet"
        rows = pq.read_table(path)["SRTInIcePulses"].to_pylist()
        assert read(path)["SRTInIcePulses.dom_time"] == [row["dom_time"] for row in rows]

    def test_compound_hdf5(self) -> None:
        path = Path(str(DATA)) / "telescope/km3net/antares.h5"
        found = read(path, "CalibratedPulses", 1000)
        with h5py.File(path) as file:
            assert found["charge"] == file["CalibratedPulses"]["charge"].tolist()

    @pytest.mark.slow
    def test_an_ntuple_of_root(self) -> None:
        path = next((Path(str(DATA)) / "jets").glob("*rntuple*.root"))
        found, ntuple = read(path, step=4), uproot.open(path)["Events"]
        assert len(found) == 947
        for name in ("run", "Jet_pt", "GenPart_pdgId"):
            assert found[name] == ntuple[name].array().tolist()
