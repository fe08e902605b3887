"""Inspection: what is said of a file is so, what is guessed is marked, and which damage its reader would notice."""

from __future__ import annotations

import io
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
from rich.console import Console
from typer.testing import CliRunner

from multiplet import cli
from multiplet.data.columns import Columns, concatenate
from multiplet.data.drafting import draft
from multiplet.data.formats.table import table
from multiplet.data.formats.tables import open_table
from multiplet.data.guesses import Summary, four_vectors, member, split, unit
from multiplet.data.inspection import FileLook, Inspection, inspect
from multiplet.data.inspection_text import inspection_text
from multiplet.data.protection import protection
from multiplet.errors import CorruptError, DataError, MultipletError
from toys import toy_jets, write_toys

DATA = os.environ.get("MULTIPLET_TEST_DATA")
EVENTS = 400


def jets(scale: float = 1.0, seed: int = 1) -> dict[str, Any]:
    """Branches of jets with constituents, a label of two flags, and what people put into files beside it."""
    toys, rng = toy_jets(EVENTS, seed), np.random.default_rng(seed)
    counts = np.diff(toys.offsets)
    px, py, pz, energy = (toys.values[name].astype(np.float64) for name in ("px", "py", "pz", "energy"))
    points = {
        "part_pt": np.hypot(px, py) * scale,
        "part_eta": np.arcsinh(pz / np.hypot(px, py)),
        "part_phi": np.arctan2(py, px),
        "part_E": energy * scale,
        "part_pdgId": np.where(toys.values["charge"] == 0, 22, 211 * toys.values["charge"].astype(np.int32)),
        "part_dz": np.where(toys.values["charge"] == 0, -999.0, toys.values["dz"]),
    }
    return {
        "run": np.full(EVENTS, 3, np.int32),
        "eventNumber": np.arange(EVENTS, dtype=np.int64),
        "npart": counts.astype(np.int32),
        "jet_pt": toys.values["jet_pt"] * scale,
        "jet_eta": toys.values["jet_eta"],
        "jet_phi": np.degrees(toys.values["jet_phi"]),
        "genWeight": rng.normal(1, 0.1, EVENTS),
        "label_one": (toys.values["label"] == 0).astype(np.int32),
        "label_more": (toys.values["label"] > 0).astype(np.int32),
        "score": np.where(np.arange(EVENTS) < 100, np.nan, 0.5 + rng.random(EVENTS)),
        **{name: awkward.unflatten(values, counts) for name, values in points.items()},
    }


def write(path: Path, branches: dict[str, Any]) -> Path:
    with uproot.recreate(path) as file:
        file.mktree("tree", {name: branches[name] for name in branches})
    return path


def looked(path: Path, **settings: Any) -> FileLook:
    ((first, _),) = inspect([path], **settings).files
    return first


def shown(inspection: Inspection, everything: bool = False, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    for part in inspection_text(inspection, everything):
        console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_numbers_units_and_roles(tmp_path: Path) -> None:
    branches = jets(1000.0)
    found = looked(write(tmp_path / "a.root", branches))
    columns = found.table.columns
    flat = awkward.to_numpy(awkward.flatten(branches["part_pt"]))
    one = columns["part_pt"]
    assert (one.low, one.median, one.high) == pytest.approx((flat.min(), np.median(flat), flat.max()))
    assert {name: columns[name].unit for name in ("part_pt", "part_E", "jet_pt", "part_phi", "jet_phi")} == {
        "part_pt": "MeV", "part_E": "MeV", "jet_pt": "MeV", "part_phi": "rad", "jet_phi": "degrees",
    }  # fmt: skip
    assert columns["score"].nonfinite == 0.25
    neutral = float((awkward.flatten(branches["part_dz"]) == -999).to_numpy().mean())
    assert columns["part_dz"].repeated == (-999.0, pytest.approx(neutral))
    assert columns["npart"].role == "number of part"
    assert [columns[name].role for name in ("run", "eventNumber", "genWeight")] == [
        "identifier",
        "identifier",
        "weight",
    ]
    assert columns["label_one"].role == columns["label_more"].role == "label? one of 2"
    (collection,) = found.table.collections
    assert collection.name == "part"
    assert len(collection.columns) == 6
    assert collection.mean == pytest.approx(np.mean(branches["npart"]))
    assert collection.most == branches["npart"].max()


def test_gev_stay_gev_and_flags_that_are_no_label_are_none(tmp_path: Path) -> None:
    branches = jets(1.0)
    branches["label_more"][7] = 1 - branches["label_more"][7]
    columns = looked(write(tmp_path / "a.root", branches)).table.columns
    assert columns["part_pt"].unit == columns["part_E"].unit == columns["jet_pt"].unit == "GeV"
    assert columns["label_more"].role == "label? 0 or 1"


def test_only_the_first_entries_are_looked_at(tmp_path: Path) -> None:
    branches = {"x": np.arange(5000.0), "l": awkward.unflatten(np.arange(10000.0), 2)}
    found = looked(write(tmp_path / "a.root", branches), events=1234).table
    assert found.sampled == 1234
    assert found.columns["x"].high == 1233
    assert found.columns["l"].high == 2467
    assert "5,000 entries, 1,234 of them looked at" in shown(inspect([tmp_path / "a.root"], events=1234))


def test_lists_of_one_length_are_a_collection(tmp_path: Path) -> None:
    lists = {name: awkward.unflatten(np.arange(n * 4.0), np.full(4, n)) for name, n in (("a_x", 2), ("b_x", 3))}
    few = np.array([1, 0, 2, 1])
    lists |= {name: awkward.unflatten(np.ones(4), few) for name in ("c_x", "c_y", "d_z")}
    lists["d_w"] = awkward.unflatten(np.ones(4), few[::-1])
    pq.write_table(pa.table({n: awkward.to_arrow(v, extensionarray=False) for n, v in lists.items()}), tmp_path / "p")
    os.rename(tmp_path / "p", tmp_path / "a.parquet")
    found = {one.name: one for one in looked(tmp_path / "a.parquet").table.collections}
    assert set(found) == {"a", "b", "c", "d_z", "d_w"}
    assert found["c"].columns == ("c_x", "c_y")
    assert found["c"].like == ("d_z",)
    assert found["a"].like == ()


@pytest.mark.parametrize(
    ("name", "parts"),
    [("Jet_pt", ("Jet", "pt")), ("Jet.PT", ("Jet", "PT")), ("px1", ("1", "px")), ("fjet_clus_E", ("fjet_clus", "E"))],
)
def test_names_are_taken_apart(name: str, parts: tuple[str, str]) -> None:
    assert split(name) == parts
    assert member(name) in ("pt", "px", "energy")


def test_four_vectors_by_name() -> None:
    names = ["Jet.PT", "Jet.Eta", "Jet.Phi", "Jet.Mass", "px1", "py1", "pz1", "E1", "MET_px", "MET_py", "x_y"]
    assert four_vectors(names) == {
        "Jet": {"pt": "Jet.PT", "eta": "Jet.Eta", "phi": "Jet.Phi", "mass": "Jet.Mass"},
        "1": {"px": "px1", "py": "py1", "pz": "pz1", "energy": "E1"},
    }


def test_no_unit_is_guessed_where_values_do_not_decide() -> None:
    assert unit("x_pt", Summary(300, 900, 9000, False, 9)) == ""
    assert unit("x_phi", Summary(0, 0, 0, True, 1)) == ""
    assert unit("x_z", Summary(-20, 0, 20, False, 9)) == ""


def test_hostile_names_are_shown_escaped(tmp_path: Path) -> None:
    hostile = "\x1b[31mred\x07[bold]x[/nope]\u202e"
    pq.write_table(pa.table({hostile: np.arange(3), "text\n": list("abc")}), tmp_path / "a.parquet")
    text = shown(inspect([tmp_path / "a.parquet"]), width=200)
    assert r"\x1b[31mred\x07[bold]x[/nope]\u202e" in text
    assert r"text\n (string)" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_files_of_one_layout_are_told_once(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.root", jets(seed=n)) for n in range(2)]
    other = {k: v for k, v in jets(seed=3).items() if k != "score"} | {
        "run": np.full(EVENTS, 3.0),
        "new": np.ones(EVENTS),
    }
    paths += [write(tmp_path / "2.root", other), write(tmp_path / "3.root", {"y": np.ones(3)})]
    groups = inspect(paths).files
    assert [(first.source.name, len(others)) for first, others in groups] == [("0.root", 2), ("3.root", 0)]
    same, changed = groups[0][1]
    assert same.differences == ()
    assert changed.differences == ("lacks score", "also has new", "run is float64, not int32")


def test_a_column_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["good"] = np.arange(1000)
        file.create_dataset("never", (1000,), "f8", chunks=(10,))
    columns = looked(tmp_path / "a.h5").table.columns
    assert columns["good"].high == 999
    assert "never written whole" in columns["never"].fault
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("huge", (10**15, 1000), "f8", chunks=(1, 1000))
    assert "never written whole" in looked(tmp_path / "a.h5").table.columns["huge"].fault


def test_event_files_are_checked_and_tell_their_units(tmp_path: Path) -> None:
    path = write_toys(tmp_path) / "test/00000.arrow"
    found = looked(path)
    assert found.provenance == {"source": "toys"}
    assert found.table.columns["px"].unit == "GeV"
    assert found.table.columns["label"].role == "truth: one, two, three"
    assert found.protection.noticed == 1
    assert "?" not in shown(inspect([path]))
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CorruptError, match="not what was written"):
        inspect([path])


COLUMNS = {"x": np.round(np.random.default_rng(1).normal(50, 20, 1500), 1).astype(np.float32)}
ROOT = {
    "zlib": uproot.ZLIB(4),
    "LZMA": uproot.LZMA(4),
    "LZ4": uproot.LZ4(4),
    "zstd": uproot.ZSTD(4),
    "uncompressed": None,
}
PARQUET = {
    f"{codec}{crc}": (codec, bool(crc)) for codec in ("none", "snappy", "gzip", "zstd") for crc in ("", ", pages")
}
HDF5: dict[str, dict[str, Any]] = {
    "uncompressed": {},
    "Fletcher-32": {"chunks": (500,), "fletcher32": True},
    "gzip": {"chunks": (500,), "compression": "gzip"},
    "LZF": {"chunks": (500,), "compression": "lzf"},
}


def stored(path: Path, kind: str, how: str) -> list[range]:
    """Write COLUMNS and give where their values lie."""
    if kind in ("TTree", "RNTuple"):
        with uproot.recreate(path, compression=ROOT[how]) as file:
            file.mktree("t", COLUMNS) if kind == "TTree" else file.mkrntuple("t", COLUMNS)
        with uproot.open(path) as file:
            if kind == "TTree":
                keys = [file["t"]["x"].basket_key(n) for n in range(file["t"]["x"].num_baskets)]
                return [range(k.fSeekKey + k.fKeylen, k.fSeekKey + k.fNbytes) for k in keys]
            found = [page.locator for column in file["t"].page_link_list[0] for page in column.pages]
            return [range(page.offset, page.offset + page.num_bytes) for page in found]
    if kind == "Parquet":
        codec, crc = PARQUET[how]
        pq.write_table(pa.table(COLUMNS), path, compression=codec, write_page_checksum=crc, use_dictionary=False)
        column = pq.ParquetFile(path).metadata.row_group(0).column(0)
        start = column.data_page_offset + 60  # past the header of the page
        return [range(start, column.data_page_offset + column.total_compressed_size)]
    if kind == "HDF5":
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=COLUMNS["x"], **HDF5[how])
        with h5py.File(path) as file:
            if not HDF5[how]:
                start = file["x"].id.get_offset()
                return [range(start, start + file["x"].nbytes)]
            chunks = [file["x"].id.get_chunk_info(n) for n in range(file["x"].id.get_num_chunks())]
            return [range(one.byte_offset, one.byte_offset + one.size) for one in chunks]
    (np.savez_compressed if how == "compressed" else np.savez)(path, **COLUMNS)
    return [range(300, path.stat().st_size - 150)]


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        *((kind, how) for kind in ("TTree", "RNTuple") for how in ROOT),
        *(("Parquet", how) for how in PARQUET),
        *(("HDF5", how) for how in HDF5),
        ("npz", "stored"),
        ("npz", "compressed"),
    ],
)
def test_a_flipped_bit_is_noticed_exactly_where_it_is_said_to_be(tmp_path: Path, kind: str, how: str) -> None:
    suffix = {"TTree": "root", "RNTuple": "root"}.get(kind, kind.lower())
    path, draws = tmp_path / f"a.{suffix}", random.Random(how)
    places = [place for one in stored(path, kind, how) for place in one]
    found = protection(path)
    assert found.noticed in (0, 1)
    (storage,) = found.stored
    assert how in ("stored", "compressed") or how.split(",")[0].replace("none", "uncompressed") in storage.how
    whole, noticed, silent = path.read_bytes(), 0, 0
    for _ in range(25):
        bad = bytearray(whole)
        bad[draws.choice(places)] ^= 1 << draws.randrange(8)
        path.write_bytes(bad)
        try:
            with open_table(path) as opened:
                values = np.concatenate([chunk["x"].values for chunk in opened.iterate(["x"], 400)])
        except DataError:
            noticed += 1
        else:
            silent += not np.array_equal(values, COLUMNS["x"])
    assert (silent == 0 and noticed == 25) if found.noticed else silent >= 5


def test_no_bit_at_the_end_of_an_npz_file_goes_unnoticed(tmp_path: Path) -> None:
    path, x = tmp_path / "a.npz", np.round(np.random.default_rng(2).normal(50, 20, 3000), 1)
    np.savez_compressed(path, x=x)
    whole = path.read_bytes()
    end = whole.index(b"PK\x01\x02")
    for place in range(end - 12, end):
        for bit in range(8):
            bad = bytearray(whole)
            bad[place] ^= 1 << bit
            path.write_bytes(bad)
            try:
                with open_table(path) as opened:
                    values = np.concatenate([chunk["x"].values for chunk in opened.iterate(["x"], 700)])
            except DataError:
                continue
            assert np.array_equal(values, x), (place - end, bit)


def mapped(path: Path, mapping: Path) -> Columns:
    made, files = table(mapping, [str(path)])
    return concatenate([chunk.columns for one in files for chunk in made.chunks(one)])


def test_a_draft_loads_and_converts(tmp_path: Path) -> None:
    branches = jets(1000.0)
    branches["jet_phi"], branches["jet_E"] = np.radians(branches["jet_phi"]), 2 * branches["jet_pt"]
    path, mapping = write(tmp_path / "a.root", branches), tmp_path / "mapping.yaml"
    draft(looked(path), mapping)
    text = mapping.read_text()
    assert "label:  # guessed" in text
    assert "# dz: {from: part_dz}  # -999 stands for something else in " in text
    assert "is in mm everywhere" in text
    made = mapped(path, mapping)
    assert len(made) == EVENTS
    assert np.array_equal(np.diff(made.offsets), branches["npart"])
    assert made.values["jet_pt"] == pytest.approx(branches["jet_pt"] / 1000)
    assert np.array_equal(made.values["label"], branches["label_more"])
    assert next(one for one in made.schema if one.name == "label").classes == ("one", "more")
    assert np.array_equal(made.values["eventNumber"], np.arange(EVENTS))
    with pytest.raises(DataError, match="writes over nothing"):
        draft(looked(path), mapping)
    assert mapping.read_text() == text


def test_a_draft_of_padded_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    tracks = np.zeros((20, 6), [("pt", "f4"), ("eta", "f4"), ("phi", "f4"), ("mass", "f4"), ("has odd: name", "i4")])
    for name in ("pt", "eta", "phi", "mass"):
        tracks[name] = rng.random((20, 6))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["tracks"], file["jets"] = tracks, np.zeros(20, [("y", "i4")])
    draft(looked(tmp_path / "a.h5"), tmp_path / "m.yaml")
    made = mapped(tmp_path / "a.h5", tmp_path / "m.yaml")
    assert np.diff(made.offsets).tolist() == [6] * 20
    assert "has_odd__name" in made.values
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data"] = rng.random((20, 6, 3))
    draft(looked(tmp_path / "b.h5"), tmp_path / "n.yaml")
    assert set(mapped(tmp_path / "b.h5", tmp_path / "n.yaml").values) >= {"data_0", "data_1", "data_2"}


def test_what_has_no_points_gets_no_draft(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", time=np.arange(5), event=np.arange(5))
    with pytest.raises(DataError, match="neither lists nor slots"):
        draft(looked(tmp_path / "a.npz"), tmp_path / "m.yaml")
    path = write_toys(tmp_path) / "test/00000.arrow"
    with pytest.raises(DataError, match="event file already"):
        draft(looked(path), tmp_path / "m.yaml")
    assert not (tmp_path / "m.yaml").exists()


def test_on_the_command_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.root", jets())
    result = CliRunner().invoke(
        cli.app, ["inspect", str(path), "--draft", str(tmp_path / "m.yaml")], env={"COLUMNS": "100"}
    )
    assert result.exit_code == 0
    assert "part: 6 columns of lists" in result.output
    assert "four-momenta from pt, eta, phi, energy" in result.output
    assert "-999 in" in result.output
    assert (tmp_path / "m.yaml").exists()
    for arguments, message in (
        (["inspect", str(path), "--tree", "tre"], "did you mean 'tree'?"),
        (["inspect", str(path), "--events", "0"], "at least one"),
    ):
        with pytest.raises(MultipletError, match=message.replace("?", r"\?")):
            CliRunner().invoke(cli.app, arguments, catch_exceptions=False)


def test_many_columns_are_cut_and_all_shows_them(tmp_path: Path) -> None:
    write(tmp_path / "a.root", {f"c{n:03d}": np.arange(3.0) for n in range(50)} | {"odd": np.array([1, np.nan, 3])})
    found = inspect([tmp_path / "a.root"])
    assert "odd" in shown(found)
    assert "c049" not in shown(found)
    assert "35 more: --all" in shown(found)
    everything = shown(found, True)
    assert all(f"c{n:03d}" in everything for n in range(50))


@pytest.mark.skipif(not DATA, reason="MULTIPLET_TEST_DATA is not set")
class TestFilesOfOthers:
    @pytest.mark.parametrize(
        "name",
        ["jets/uproot-HZZ.root", "jets/JetClassII_example.parquet", "telescope/icecube_mc/oscnext_5_events.parquet",
         pytest.param("jets/coffea_pfnano.root", marks=pytest.mark.slow),
         pytest.param("jets/coffea_nano_tt_v15.root", marks=pytest.mark.slow)],
    )  # fmt: skip
    def test_drafts_convert(self, tmp_path: Path, name: str) -> None:
        path = Path(str(DATA)) / name
        draft(looked(path), tmp_path / "m.yaml")
        assert len(mapped(path, tmp_path / "m.yaml")) > 4

    def test_whatever_there_is_can_be_looked_at(self) -> None:
        paths = [*Path(str(DATA)).rglob("telescope/**/*.parquet"), *Path(str(DATA)).rglob("*.h5")]
        paths += [*Path(str(DATA)).rglob("*.npz"), Path(str(DATA)) / "jets/uproot-Zmumu.root"]
        found = inspect(paths)
        text = shown(found)
        assert "azimuth" in text
        assert "CalibratedPulses" in text
        columns = {name for first, _ in found.files for name in first.table.columns}
        assert {"sensor_pos_x", "charge", "Z", "px1"} <= columns

    @pytest.mark.slow
    def test_page_checksums_of_an_ntuple_are_compared(self, tmp_path: Path) -> None:
        source = next((Path(str(DATA)) / "jets").glob("*rntuple*.root"))
        found = protection(source)
        assert (found.compared, found.faults) == (940, ())
        with uproot.open(source) as file:
            ntuple = file["Events"]
            pages = [page.locator for column in ntuple.page_link_list[0] for page in column.pages]
            raw = source.read_bytes()
            run = next(page for page in pages if raw[page.offset : page.offset + 2] not in (b"ZS", b"ZL"))
        bad = bytearray(raw)
        bad[run.offset] ^= 1
        path = tmp_path / "bad.root"
        path.write_bytes(bad)
        (fault,) = protection(path).faults
        assert f"bytes {run.offset} to {run.offset + run.num_bytes}" in fault
        assert "damaged" in shown(inspect([path], events=1))
        assert replace(protection(path), faults=()) == found
