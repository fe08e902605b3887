"""Rows that are points, grouped into events: beside a slow loop, in every kind of file, at every border of chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from multiplet.data.columns import Columns
from multiplet.data.formats.fields import Jagged
from multiplet.data.formats.grouping import grouped
from multiplet.errors import DataError
from test_mapping import read, say

__all__ = ["say"]  # the fixture

SIZES = [3, 1, 5, 2, 1, 4]
RUN = [7, 7, 8, 8, 2, 2]  # neither rises, and neighbours differ in one of the two alone
EVENT = [9, 4, 4, 5, 5, 1]
ENERGY = [1.5, 2.5, np.nan, 4.5, 5.5, 6.5]
ROWS = sum(SIZES)
RNG = np.random.default_rng(5)
HITS = {
    "run": np.repeat(np.array(RUN, np.uint32), SIZES),
    "event": np.repeat(np.array(EVENT, np.int64), SIZES),
    "sensor": RNG.integers(0, 90, ROWS).astype(np.int16),
    "time": RNG.uniform(0, 1e4, ROWS),
    "charge": RNG.uniform(0.1, 5, ROWS).astype(np.float32),
    "energy": np.repeat(ENERGY, SIZES),
}
MAPPING = """
group: [run, event]
define: {big: charge > 1}
points:
  columns:
    sensor_id: {from: sensor, type: int32}
    time: {from: time - min(time), unit: ns}
    charge: {from: charge, unit: p.e.}
    share: charge / sum(charge)
    of_run: run
event:
  columns:
    energy: {from: energy, unit: GeV, truth: true}
    total: sum(charge)
    n_big: {from: count(big), type: int16}
spectators: [run, event]
label: {low: energy < 4, high: energy >= 4}
select: [energy > 0]
"""


def write(path: Path, table: dict[str, np.ndarray]) -> Path:
    """The rows as what the suffix says."""
    if path.suffix == ".h5":
        rows = np.empty(len(next(iter(table.values()))), [(name, value.dtype) for name, value in table.items()])
        for name, value in table.items():
            rows[name] = value
        with h5py.File(path, "w") as file:
            file.create_dataset("hits", data=rows)
    elif path.suffix == ".parquet":
        pq.write_table(pa.table(table), path, row_group_size=4)
    elif path.suffix == ".npz":
        np.savez(path, **table)
    else:
        with uproot.recreate(path) as file:
            file.mktree("hits", {name: value.dtype for name, value in table.items()}).extend(table)
    return path


@pytest.fixture
def hits(tmp_path: Path) -> Path:
    return write(tmp_path / "hits.parquet", HITS)


def events() -> list[dict[str, list[float]]]:
    """The events by a slow loop over rows."""
    rows = [dict(zip(HITS, row, strict=True)) for row in zip(*(value.tolist() for value in HITS.values()), strict=True)]
    found = [list(few) for _, few in groupby(rows, key=lambda row: (row["run"], row["event"]))]
    return [{name: [row[name] for row in few] for name in HITS} for few in found]


def assert_events(columns: Columns, kept: list[int]) -> None:
    value, expected = columns.values, [events()[k] for k in kept]
    assert np.diff(columns.offsets).tolist() == [SIZES[k] for k in kept]
    for name, own in {"sensor_id": "sensor", "charge": "charge", "of_run": "run"}.items():
        assert value[name].tolist() == [x for one in expected for x in one[own]]
    times = [t - min(one["time"]) for one in expected for t in one["time"]]
    np.testing.assert_allclose(value["time"], times, rtol=1e-6)
    shares = [q / sum(one["charge"]) for one in expected for q in one["charge"]]
    np.testing.assert_allclose(value["share"], shares, rtol=1e-6)
    assert value["energy"].tolist() == [one["energy"][0] for one in expected]
    np.testing.assert_allclose(value["total"], [sum(one["charge"]) for one in expected], rtol=1e-6)
    assert value["n_big"].tolist() == [sum(q > 1 for q in one["charge"]) for one in expected]
    assert value["run"].tolist() == [RUN[k] for k in kept]
    assert value["event"].tolist() == [EVENT[k] for k in kept]
    assert value["label"].tolist() == [int(one["energy"][0] >= 4) for one in expected]


@pytest.mark.parametrize("step", [1, 2, 3, 4, 7, ROWS - 1, ROWS, 0])
def test_borders_of_chunks_cut_no_event(hits: Path, say: Callable[[str], Path], step: int) -> None:
    columns, cuts, places = read(say(MAPPING), hits, step=step)
    assert_events(columns, [0, 1, 3, 4, 5])  # the third has no energy
    assert cuts == {"read": 6, "energy > 0": 5}
    assert places.tolist() == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".root"])
def test_every_kind_of_file_gives_the_same(tmp_path: Path, say: Callable[[str], Path], suffix: str) -> None:
    columns, _, _ = read(say(MAPPING), write(tmp_path / f"hits{suffix}", HITS), step=5)
    assert_events(columns, [0, 1, 3, 4, 5])


def test_rows_of_arrays_and_one_column(tmp_path: Path, say: Callable[[str], Path]) -> None:
    """Numbers on the last axis have names as ever; a group of one column needs no list."""
    np.savez(tmp_path / "a.npz", xyz=np.arange(15, dtype=np.float32).reshape(5, 3), id=np.array([3, 3, 1, 1, 1]))
    text = "arrays: {xyz: [x, y, z]}\ngroup: id\npoints: {columns: {y: y}}\nspectators: [id]\n"
    columns, _, _ = read(say(text), tmp_path / "a.npz", step=3)
    assert (columns.offsets.tolist(), columns.values["id"].tolist()) == ([0, 2, 5], [3, 1])
    assert columns.values["y"].tolist() == [1, 4, 7, 10, 13]


def test_particles_of_rows_have_their_axis(tmp_path: Path, say: Callable[[str], Path]) -> None:
    p4 = {name: RNG.normal(0, 5, 6) for name in ("px", "py", "pz")}
    table = p4 | {"e": np.sqrt(sum(value**2 for value in p4.values())) + 1, "jet": np.array([0, 0, 0, 1, 1, 1])}
    text = "group: [jet]\npoints: {four_vector: {px: px, py: py, pz: pz, energy: e}}\n"
    columns, _, _ = read(say(text), write(tmp_path / "jets.h5", table), step=2)
    pt = [np.hypot(p4["px"][rows].sum(), p4["py"][rows].sum()) for rows in (slice(0, 3), slice(3, 6))]
    np.testing.assert_allclose(columns.values["jet_pt"], pt, rtol=1e-5)


def test_no_rows_are_no_events(tmp_path: Path, say: Callable[[str], Path]) -> None:
    empty = write(tmp_path / "none.parquet", {name: value[:0] for name, value in HITS.items()})
    columns, cuts, _ = read(say(MAPPING), empty)
    assert (len(columns), cuts) == (0, {"read": 0, "energy > 0": 0})
    assert columns.schema == read(say(MAPPING), write(tmp_path / "some.parquet", HITS))[0].schema


def test_events_without_real_points_are_kept(hits: Path, say: Callable[[str], Path]) -> None:
    """Which columns of events are left alone by what drops points: those that are of no point."""
    cut = float(HITS["charge"][3])  # that of the only row of the second event
    text = "group: [run, event]\npoints: {real: charge > %s, columns: {q: charge}}\nspectators: [run, %s]"
    found, _, _ = read(say(text % (cut, "event")), hits, step=4)
    sizes = [sum(q > cut for q in one["charge"]) for one in events()]
    assert 0 in sizes
    assert np.diff(found.offsets).tolist() == sizes
    assert found.values["run"].tolist() == RUN
    lone = f"run {RUN[sizes.index(0)]}, event {EVENT[sizes.index(0)]}"
    with pytest.raises(DataError, match=rf"charge: charge has no real row in the event with {lone}: write first"):
        read(say(text % (cut, "charge")), hits)


@pytest.mark.parametrize("step", [1, 4, 0])
def test_what_differs_between_rows_is_no_column_of_events(hits: Path, say: Callable[[str], Path], step: int) -> None:
    with pytest.raises(DataError) as caught:
        read(say(MAPPING.replace("spectators: [run, event]", "spectators: [run, sensor]")), hits, step=step)
    text = f"{hits}: sensor: sensor differs between the rows of the event with run 7, event 9: write first(…), max(…) …"
    assert str(caught.value) == text
    with pytest.raises(DataError, match="select: charge > 2 differs between the rows of"):
        read(say(MAPPING.replace("energy > 0", "charge > 2")), hits, step=step)


def test_nan_in_every_row_is_one_value(hits: Path, say: Callable[[str], Path]) -> None:
    with pytest.raises(DataError, match=r"energy of event 2 is not finite \(nan\)"):
        read(say("group: [run, event]\npoints: {columns: {t: time}}\nevent: {columns: {e: energy}}"), hits)


@pytest.mark.parametrize("step", [1, 2, 5, 0])
@pytest.mark.parametrize("between", [1, 2, 50])
def test_an_event_that_comes_again_is_refused(
    tmp_path: Path, say: Callable[[str], Path], between: int, step: int
) -> None:
    """As where the rows are not sorted, or where a column is missing in group; the first such rows are named."""
    number = np.repeat([5, 90, *range(100, 100 + between), 90, 5], 2)
    path = write(tmp_path / "twice.parquet", {"id": number, "t": np.arange(len(number))})
    with pytest.raises(DataError) as caught:
        read(say("group: [id]\npoints: {columns: {t: t}}"), path, step=step)
    rows = f"rows 2 and {4 + 2 * between} both begin an event with id 90: sort the file"
    assert str(caught.value).startswith(f"{path}: {rows}")


def test_an_unsorted_file_is_not_read_to_its_end() -> None:
    def chunks() -> Iterator[dict[str, Jagged]]:
        yield {"k": Jagged(np.array([1, 2, 1, 2, 1]))}
        pytest.fail("one chunk is enough to see it")

    with pytest.raises(DataError, match="rows 0 and 2 both begin"):
        list(grouped(Path("any"), chunks(), ["k"]))


FAULTS = {
    "group: [run, evnt]": "there is no column 'evnt': did you mean 'event'",
    "group: [energy]": "energy of row 4 is not finite: which event is it of",
    "group: [run, event, many]": "many is a list in each row: with group, a row is one point",
    "spectators: [run]": r"points: none of time is a list for each event; if each row is a point, group says which",
}


@pytest.mark.parametrize("text", FAULTS)
def test_what_cannot_be_grouped(tmp_path: Path, say: Callable[[str], Path], text: str) -> None:
    many = pa.array([[1, 2]] * ROWS)
    pq.write_table(pa.table({**HITS, "many": many}), tmp_path / "hits.parquet")
    with pytest.raises(DataError, match=FAULTS[text]) as caught:
        read(say(f"{text}\npoints: {{columns: {{t: time}}}}"), tmp_path / "hits.parquet", step=3)
    assert str(tmp_path / "hits.parquet") in str(caught.value)


def test_any_rows_in_any_chunks() -> None:
    """Numbers of any type, events of any length, borders anywhere."""
    rng = np.random.default_rng(11)
    for _ in range(100):
        sizes = rng.integers(1, 9, rng.integers(1, 20))
        key = rng.permutation(len(sizes)).astype(rng.choice(["int8", "uint64", "float64"]))
        rows = {"k": np.repeat(key, sizes), "x": rng.random(sizes.sum())}
        borders = np.sort(rng.integers(0, sizes.sum() + 1, 5))
        chunks = [
            {n: Jagged(v) for n, v in zip(rows, few, strict=True)}
            for few in zip(*(np.split(value, borders) for value in rows.values()), strict=True)
        ]
        found = list(grouped(Path("any"), chunks, ["k"]))
        assert np.concatenate([one["k"].values for one in found]).tolist() == key.tolist()
        assert np.concatenate([np.diff(one["x"].offsets) for one in found]).tolist() == sizes.tolist()
        assert np.concatenate([one["x"].values for one in found]).tolist() == rows["x"].tolist()
