"""The reader of Kaggle's IceCube files: read as a loop reads them, whatever the chunks; what is wrong, refused."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multiplet.data.columns import Columns, concatenate
from multiplet.data.convert import convert
from multiplet.data.events import EventFiles
from multiplet.data.formats import FORMATS, find, kaggle_events
from multiplet.data.formats.kaggle_icecube import KaggleIceCube
from multiplet.errors import DataError

SENSORS = 5162  # as many as there may be ids: 0 to 5161
COUNTS = (3, 1, 6, 2, 8, 1, 4)
Arrays = dict[str, Any]


def events(counts: tuple[int, ...] = COUNTS, batch: int = 3, seed: int = 1) -> tuple[Arrays, Arrays]:
    """Columns of the pulses of some events, and of the table of events."""
    rng, pulses = np.random.default_rng(seed), sum(counts)
    ids = np.sort(rng.choice(2_147_483_627, len(counts), replace=False))
    last = np.cumsum(counts) - 1
    time = np.concatenate([np.sort(rng.integers(5_000, 121_768, n)) for n in counts])
    batch_of_pulses = {
        "sensor_id": rng.choice(SENSORS, pulses).astype(np.int16),
        "time": time,
        "charge": 0.025 + 0.05 * rng.integers(0, 60_000, pulses),
        "auxiliary": rng.random(pulses) < 0.6,
        "event_id": np.repeat(ids, counts),
    }
    meta = {
        "batch_id": np.full(len(counts), batch),
        "event_id": ids,
        "first_pulse_index": last - np.array(counts) + 1,
        "last_pulse_index": last,
        "azimuth": rng.uniform(0, 2 * np.pi, len(counts)).astype(np.float32).astype(np.float64),
        "zenith": rng.uniform(0, np.pi, len(counts)).astype(np.float32).astype(np.float64),
    }
    return batch_of_pulses, meta


def write(folder: Path, pulses: Arrays, meta: Arrays, batch: int = 3, split: str = "train", **options: Any) -> Path:
    """One batch in Kaggle's layout, between events of other batches in the table; gives its path."""
    (folder / split).mkdir(exist_ok=True, parents=True)
    path = folder / split / f"batch_{batch}.parquet"
    pq.write_table(pa.table(pulses), path, **options)
    parts = []
    for n in (batch - 1, batch + 1):
        other = events((2, 5), n, seed=9 + n)[1]
        parts.append(pa.table({name: other[name] for name in meta}))
    parts.insert(1, pa.table(meta))
    pq.write_table(
        pa.concat_tables(parts, promote_options="permissive"), folder / f"{split}_meta.parquet", row_group_size=4
    )
    return path


def geometry(folder: Path, sensors: int = SENSORS) -> np.ndarray:
    """A geometry file, its rows in no order; gives the positions."""
    positions = np.round(np.random.default_rng(7).uniform(-500, 500, (sensors, 3)), 2)
    order = np.random.default_rng(8).permutation(sensors)
    lines = [f"{n},{positions[n, 0]},{positions[n, 1]},{positions[n, 2]}" for n in order]
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "sensor_geometry.csv").write_text("\n".join(["sensor_id,x,y,z", *lines]) + "\n")
    return positions


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a geometry."""
    folder = tmp_path_factory.mktemp("kaggle")
    geometry(folder)
    return folder


def read(path: Path, pulses: int = 500_000) -> Columns:
    return concatenate([chunk.columns for chunk in KaggleIceCube(pulses).chunks(path)])


# What is right.


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
@pytest.mark.parametrize("options", [{}, {"row_group_size": 3}])
def test_is_read_as_a_loop_reads_it(home: Path, step: int, options: Arrays) -> None:
    """Every pulse of every event, the last one of the last event too: indices are inclusive at both ends."""
    positions = geometry(home)
    pulses, meta = events()
    columns = read(write(home, pulses, meta, **options), step)
    assert len(columns) == len(COUNTS)
    for event, (first, last) in enumerate(zip(meta["first_pulse_index"], meta["last_pulse_index"], strict=True)):
        low, high = columns.offsets[event], columns.offsets[event + 1]
        assert high - low == last - first + 1
        for at, row in zip(range(low, high), range(first, last + 1), strict=True):
            sensor = int(pulses["sensor_id"][row])
            assert columns.values["sensor_id"][at] == sensor
            assert columns.values["time"][at] == pulses["time"][row]
            assert columns.values["charge"][at] == pytest.approx(pulses["charge"][row], abs=1e-3)
            assert columns.values["auxiliary"][at] == pulses["auxiliary"][row]
            for n, axis in enumerate("xyz"):
                assert columns.values[axis][at] == np.float32(positions[sensor, n])
        for name in ("event_id", "azimuth", "zenith"):
            assert columns.values[name][event] == meta[name][event]
    types = {column.name: column.dtype for column in columns.schema}
    assert types == {
        "sensor_id": "int32",
        "auxiliary": "int8",
        "event_id": "int64",
        **dict.fromkeys(("time", "charge", "x", "y", "z", "azimuth", "zenith"), "float32"),
    }
    assert [column.name for column in columns.schema if column.truth] == ["azimuth", "zenith"]


def test_all_ids_and_times_survive(home: Path, tmp_path: Path) -> None:
    """Ids 0 to 5161 and times up to 2^24 ns, through event files to a cloud."""
    pulses, meta = events((SENSORS, 3))
    pulses["sensor_id"] = np.arange(SENSORS + 3, dtype=np.int16) % SENSORS
    pulses["time"][:SENSORS] = np.linspace(-(2**24), 2**24, SENSORS).astype(np.int64)
    path = write(home, pulses, meta)
    convert(find("kaggle_icecube"), [path], tmp_path / "out", (1.0, 0.0, 0.0))
    cloud = EventFiles(tmp_path / "out").read("train", np.arange(2))
    assert cloud.points["sensor_id"][0].tolist() == list(range(SENSORS))
    assert cloud.points["time"][0].long().tolist() == pulses["time"][:SENSORS].tolist()
    assert cloud.event["event_id"].tolist() == meta["event_id"].tolist()
    assert set(cloud.truth) >= {"azimuth", "zenith"}


@pytest.mark.parametrize("counts", [(1,), (2, 3), (5, 1, 1, 1)])
def test_any_number_of_events_in_a_batch(home: Path, counts: tuple[int, ...]) -> None:
    assert np.diff(read(write(home, *events(counts))).offsets).tolist() == list(counts)


def test_unsorted_pulses_are_sorted(home: Path) -> None:
    """By time, then sensor, then charge, inside each event; an event that lies so stays as it is."""
    pulses, meta = events()
    pulses["time"] = np.random.default_rng(2).integers(6_000, 6_004, sum(COUNTS))
    pulses["sensor_id"] = np.random.default_rng(3).integers(0, 2, sum(COUNTS)).astype(np.int16)
    columns = read(write(home, pulses, meta))
    for event, (low, high) in enumerate(zip(columns.offsets[:-1], columns.offsets[1:], strict=True)):
        rows = slice(meta["first_pulse_index"][event], meta["last_pulse_index"][event] + 1)
        names = ("time", "sensor_id", "charge", "auxiliary")
        expected = sorted(zip(*(pulses[name][rows].tolist() for name in names), strict=True))
        found = list(zip(*(columns.values[name][low:high].tolist() for name in names), strict=True))
        assert [each[:2] + each[3:] for each in found] == [each[:2] + each[3:] for each in expected]
        assert [each[2] for each in found] == pytest.approx([each[2] for each in expected])


def test_batches_without_labels_have_no_truth(home: Path) -> None:
    pulses, meta = events()
    columns = read(write(home, pulses, {k: v for k, v in meta.items() if k not in ("azimuth", "zenith")}, split="test"))
    assert [column.name for column in columns.schema if column.truth] == []
    assert columns.values["event_id"].tolist() == meta["event_id"].tolist()


def test_event_id_as_pandas_index_or_nullable_or_float64(home: Path) -> None:
    """An index of pandas is a column like any other; a nullable column may be float64 once it went through pandas."""
    pulses, meta = events()
    expected = read(write(home, pulses, meta))
    path = write(home, pulses, meta)
    about = json.dumps({"index_columns": ["event_id"], "columns": [], "column_indexes": []})
    table = pa.table({name: pulses[name] for name in ("sensor_id", "time", "charge", "auxiliary", "event_id")})
    pq.write_table(table.replace_schema_metadata({"pandas": about}), path)
    assert same(read(path), expected)
    nullable = meta | {"event_id": pa.array(meta["event_id"], pa.int64(), mask=np.zeros(len(COUNTS), bool))}
    assert same(read(write(home, pulses, nullable)), expected)
    assert same(read(write(home, pulses, meta | {"event_id": meta["event_id"].astype(float)})), expected)


def test_other_types_and_an_unordered_table(home: Path) -> None:
    pulses, meta = events()
    expected = read(write(home, pulses, meta))
    order = np.random.default_rng(4).permutation(len(COUNTS))
    types = {"sensor_id": np.uint32, "time": np.float64, "auxiliary": np.int64, "event_id": np.uint32}
    other = {name: value.astype(types.get(name, value.dtype)) for name, value in pulses.items()}
    assert same(read(write(home, other, {name: value[order] for name, value in meta.items()})), expected)


def test_azimuth_is_within_a_turn(home: Path) -> None:
    pulses, meta = events((1, 1, 1, 1))
    meta["azimuth"] = np.array([-0.5, 2 * np.pi, float(np.float32(2 * np.pi)), -1e-9])  # the last rounds to a turn
    meta["zenith"] = np.array([0, np.pi, float(np.float32(np.pi)), 1])
    columns = read(write(home, pulses, meta))
    assert columns.values["azimuth"].tolist() == pytest.approx([2 * np.pi - 0.5, 0, 0, 0], abs=1e-6)
    assert columns.values["zenith"].tolist() == pytest.approx([0, np.pi, np.pi, 1])


def same(a: Columns, b: Columns) -> bool:
    assert a.schema == b.schema
    return np.array_equal(a.offsets, b.offsets) and all(np.array_equal(a.values[k], b.values[k]) for k in a.values)


def test_several_batches_become_event_files(home: Path, tmp_path: Path) -> None:
    """The last one shorter; each event once, with the batch it is from."""
    counts = [(4,) * 30, (3,) * 30, (5,) * 2]
    paths, tables, ids = [], [], []
    for n, each in enumerate(counts):
        pulses, meta = events(each, batch=n + 659, seed=n)
        paths.append(write(tmp_path, pulses, meta, n + 659))
        tables.append(pa.table(meta))
        ids += meta["event_id"].tolist()
    pq.write_table(pa.concat_tables(tables), tmp_path / "train_meta.parquet")
    geometry(tmp_path)
    made = convert(FORMATS["kaggle_icecube"], paths, tmp_path / "out")
    assert made.cuts == {"read": 62}
    data, found = EventFiles(tmp_path / "out"), []
    for split in ("train", "validation", "test"):
        found += data.read(split, np.arange(data.size(split))).event["event_id"].tolist()
    assert sorted(found) == sorted(ids)


# What is wrong.


def refused(path: Path, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        list(KaggleIceCube(5).chunks(path))
    assert str(path.parent.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


def poke(array: np.ndarray, at: int, value: Any, dtype: str = "") -> np.ndarray:
    array = array.astype(dtype) if dtype else array.copy()
    array[at] = value
    return array


PULSE_FAULTS: dict[str, tuple[str, Callable[[np.ndarray], Any], str]] = {
    "an unknown sensor": ("sensor_id", lambda a: poke(a, 4, SENSORS), "sensor_id of event .* is none of the 5162 in"),
    "a negative sensor": (
        "sensor_id",
        lambda a: poke(a, 24, -1),
        r"is none of the 5162 in .*sensor_geometry.csv \(-1\)",
    ),
    "half a sensor": ("sensor_id", lambda a: poke(a, 4, 1.5, "f8"), "sensor_id is 1.5 somewhere, no whole number"),
    "a missing sensor": (
        "sensor_id",
        lambda a: pa.array(a, mask=np.arange(25) == 3),
        "sensor_id of entry 3 is missing",
    ),
    "a NaN charge": ("charge", lambda a: poke(a, 9, np.nan), r"charge of event \d+ is not finite \(nan\)"),
    "no charge": ("charge", lambda a: poke(a, 24, 0), r"charge of event \d+ is not above 0 \(0.0\)"),
    "a negative charge": ("charge", lambda a: poke(a, 0, -0.5), "is not above 0"),
    "a time beyond float32": ("time", lambda a: poke(a, 24, 2**24 + 1), "time of event .* float32 is no longer exact"),
    "a time of NaN": ("time", lambda a: poke(a, 1, np.nan, "f8"), "time of event .* is not finite"),
    "an auxiliary of 2": ("auxiliary", lambda a: poke(a, 1, 2, "i8"), "auxiliary of event .* is neither 0 nor 1"),
    "another event": ("event_id", lambda a: poke(a, 12, 7), "event_id of event .* is 7 in a pulse that its table"),
    "a later event": ("event_id", lambda a: poke(a, 12, 2**31), "event_id of event .* is 2147483648 in a pulse"),
    "ids in float16": ("sensor_id", lambda a: a.astype(np.float16), "sensor_id is float16, which cannot hold it"),
    "ids in float32": ("event_id", lambda a: a.astype(np.float32), "event_id is float32, which cannot hold it"),
    "times in float16": ("time", lambda a: (a / 10).astype(np.float16), "time is float16, which cannot hold it"),
    "text": ("charge", lambda a: a.astype(str), "charge is missing"),
    "one pulse less": ("", lambda a: a[:-1], "ends with pulse 24, but .* has only 24"),
    "one pulse more": ("", lambda a: a[[*range(25), 24]], "pulses 25 to 25 are of no event in"),
    "pulses of another order": ("", lambda a: a[::-1], "in a pulse that its table gives to it"),
    "no pulse": ("", lambda a: a[:0], "has only 0"),
}


@pytest.mark.parametrize("fault", PULSE_FAULTS)
def test_faults_of_pulses_are_refused(home: Path, fault: str) -> None:
    name, change, match = PULSE_FAULTS[fault]
    pulses, meta = events()
    changed = {key: change(value) if name in ("", key) else value for key, value in pulses.items()}
    refused(write(home, changed, meta), match)


EVENT_FAULTS: dict[str, tuple[str, Callable[[np.ndarray], Any], str]] = {
    "an empty event": ("last_pulse_index", lambda a: poke(a, 1, 2), "has no pulse .first 3, last 2, both inclusive"),
    "a gap": ("last_pulse_index", lambda a: poke(a, 2, 8), "pulses 9 to 9 are of no event"),
    "an overlap": ("first_pulse_index", lambda a: poke(a, 2, 3), "pulses 3 to 3 are of two events"),
    "a late start": ("first_pulse_index", lambda a: poke(a, 0, 1), "pulses 0 to 0 are of no event"),
    "exclusive ends": ("last_pulse_index", lambda a: a + 1, "ends with pulse 25, but .* has only 25"),
    "an event twice": ("event_id", lambda a: poke(a, 3, a[2]), "event_id .* is there 2 times"),
    "a missing id": (
        "event_id",
        lambda a: pa.array(a, mask=np.arange(7) == 3),
        "event_id of batch 3: values are missing",
    ),
    "a NaN id": ("event_id", lambda a: poke(a, 3, np.nan, "f8"), "event_id is nan somewhere, no whole number"),
    "a NaN azimuth": ("azimuth", lambda a: poke(a, 3, np.nan), "azimuth of event .* is not finite"),
    "degrees": ("azimuth", np.degrees, "azimuth of event .* is no angle in rad"),
    "zenith below": ("zenith", lambda a: poke(a, 5, -0.1), "zenith of event .* is no angle in rad"),
    "labels in float16": ("zenith", lambda a: a.astype(np.float16), "zenith is float16, which cannot hold it"),
    "an infinite id": ("event_id", lambda a: poke(a, 3, np.inf, "f8"), "event_id is inf somewhere, no whole number"),
    "another batch": ("batch_id", lambda a: a + 5, "has no event of batch 3"),
}


@pytest.mark.parametrize("fault", EVENT_FAULTS)
def test_faults_of_events_are_refused(home: Path, fault: str) -> None:
    name, change, match = EVENT_FAULTS[fault]
    pulses, meta = events()
    path = write(home, pulses, meta)
    table = pa.table(meta | {name: change(meta[name])})
    pq.write_table(table, home / "train_meta.parquet")
    refused(path, match)


def table_of(ids: np.ndarray, events_of_batch: int = 10, **options: Any) -> Arrays:
    """A table with these ids, so many in each batch from 1 on, of one pulse each."""
    place = np.arange(len(ids)) % events_of_batch
    return {
        "batch_id": np.arange(len(ids)) // events_of_batch + 1,
        "event_id": ids,
        "first_pulse_index": place,
        "last_pulse_index": place,
    } | options


@pytest.mark.parametrize("dtype", ["int64", "uint32", "float64"])
@pytest.mark.parametrize("rows", [3, 8, 1000])
@pytest.mark.parametrize("rising", [True, False])
def test_an_event_in_two_batches_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, rising: bool, rows: int, dtype: str
) -> None:
    """Wherever both stand, whatever is read at a time, and in whatever batch it is looked for: one id, both batches."""
    monkeypatch.setattr(kaggle_events, "_ROWS", rows)
    monkeypatch.setattr(kaggle_events, "_AT_ONCE", rows)
    geometry(home)
    ids = np.arange(100, 160, 2)
    ids = ids if rising else np.random.default_rng(5).permutation(ids)
    pulses = events((10,))[0] | {"event_id": ids[20:30]}
    path = write(home, pulses, table_of(ids), 3)
    meta = home / "train_meta.parquet"
    pq.write_table(pa.table(table_of(ids.astype(dtype))), meta)
    assert read(path).values["event_id"].tolist() == ids[20:30].tolist()
    for first, second in ((3, 4), (0, 12), (9, 10), (7, 18)):
        pq.write_table(pa.table(table_of(poke(ids, second, ids[first]).astype(dtype))), meta)
        where = "1" if second < 10 else "1 and batch 2"
        refused(path, f"train_meta.parquet: event_id {ids[first]}(.0)? is there 2 times, in batch {where}: name each")


def test_rows_without_an_id_hide_no_other_that_is_there_twice(home: Path) -> None:
    """A batch is not refused for what other batches lack, but for an event that is in two of them."""
    geometry(home)
    ids = np.arange(30)
    pulses = events((10,))[0] | {"event_id": ids[20:30]}
    path = write(home, pulses, table_of(ids), 3)
    for lacking in (pa.array(ids, mask=ids < 5), pa.array(np.where(ids < 5, np.nan, ids))):
        pq.write_table(pa.table(table_of(lacking)), home / "train_meta.parquet")
        assert len(read(path)) == 10
    pq.write_table(pa.table(table_of(pa.array(poke(ids, 6, 14), mask=ids < 5))), home / "train_meta.parquet")
    refused(path, "event_id 14 is there 2 times, in batch 1 and batch 2")


def test_all_events_are_looked_at_once_however_many_batches_are_read(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    geometry(home)
    ids = np.arange(30)
    pulses = events((10,))[0]
    paths = [
        write(home, pulses | {"event_id": ids[low : low + 10]}, table_of(ids), batch)
        for batch, low in ((1, 0), (2, 10), (3, 20))
    ]
    looks, real = [], kaggle_events._rise
    monkeypatch.setattr(kaggle_events, "_rise", lambda path: looks.append(path) or real(path))
    pq.write_table(pa.table(table_of(ids)), home / "train_meta.parquet")
    for path in (*paths, *paths):
        assert len(read(path)) == 10
    assert looks == [home / "train_meta.parquet"]
    pq.write_table(pa.table(table_of(poke(ids, 14, 4))), home / "train_meta.parquet")  # another table
    for path in paths:
        refused(path, "event_id 4 is there 2 times, in batch 1 and batch 2")


def test_missing_columns_and_files(tmp_path: Path) -> None:
    pulses, meta = events()
    path = write(tmp_path, pulses, meta)
    refused(path, "sensor_geometry.csv is missing, which .*batch_3.parquet needs")
    geometry(tmp_path)
    read(path)
    pq.write_table(pa.table({name: meta[name] for name in meta if name != "zenith"}), tmp_path / "train_meta.parquet")
    refused(path, "train_meta.parquet: zenith is missing")
    (tmp_path / "train_meta.parquet").unlink()
    refused(path, "train_meta.parquet is missing, which .*batch_3.parquet needs")
    write(tmp_path, {name: pulses[name] for name in pulses if name != "time"}, meta)
    refused(path, "batch_3.parquet: time is missing: is this another layout")
    refused(path.rename(path.with_name("pulses.parquet")), "batches are called batch_1.parquet")
    with pytest.raises(DataError, match="is a folder: name the files in it"):
        convert(KaggleIceCube(), [tmp_path / "train"], tmp_path / "out")


def test_half_a_file(tmp_path: Path) -> None:
    pulses, meta = events((40,) * 200)
    geometry(tmp_path)
    path = write(tmp_path, pulses, meta)
    for file in (path, tmp_path / "train_meta.parquet"):
        whole = file.read_bytes()
        for part in (0, 0.3, 0.5, 0.99):
            file.write_bytes(whole[: int(part * len(whole))])
            refused(path, f"{file.name}: .* cannot be read")
        file.write_bytes(whole)
    assert len(read(path)) == 200


GEOMETRY_FAULTS = {
    "no sensor": ("sensor_id,x,y,z\n", "names no sensor"),
    "an id twice": ("sensor_id,x,y,z\n0,1,2,3\n0,1,2,4\n", "sensor_id goes from 0 to 0 in 2 rows: 0 to 1"),
    "ids from 1 on": ("sensor_id,x,y,z\n1,1,2,3\n2,1,2,4\n", "sensor_id goes from 1 to 2 in 2 rows: 0 to 1"),
    "two at one place": ("sensor_id,x,y,z\n0,1,2,3\n1,1,2,4\n2,1,2,3\n", "sensor 2 is at the place of another one"),
    "a NaN": ("sensor_id,x,y,z\n0,1,2,3\n1,1,nan,4\n", "sensor in row 1 has a value that is not finite"),
    "an empty field": ("sensor_id,x,y,z\n0,1,2,3\n1,1,,4\n", "sensor in row 1 has a value that is not finite"),
    "text": ("sensor_id,x,y,z\n0,1,2,deep\n", "its columns sensor_id, x, y, z cannot be read"),
    "no z": ("sensor_id,x,y\n0,1,2\n", "lacks z"),
    "nothing": ("", "its sensors cannot be read"),
}


@pytest.mark.parametrize("fault", GEOMETRY_FAULTS)
def test_faults_of_the_geometry_are_refused(tmp_path: Path, fault: str) -> None:
    text, match = GEOMETRY_FAULTS[fault]
    path = write(tmp_path, *events())
    (tmp_path / "sensor_geometry.csv").write_text(text)
    refused(path, f"sensor_geometry.csv.*{match}")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Four times the pulses, about the same memory: only the table of events is read whole."""
    geometry(tmp_path)
    peaks = []
    for size in (500, 2000):
        path = write(tmp_path, *events((200,) * size), row_group_size=20_000)
        tracemalloc.start()
        pulses = sum(int(chunk.columns.offsets[-1]) for chunk in KaggleIceCube(20_000).chunks(path))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert pulses == size * 200
    assert peaks[1] < 1.3 * peaks[0]


# A file of other people.


def test_a_whole_batch_in_the_exact_layout(tmp_path: Path) -> None:
    folder = Path(os.environ.get("MULTIPLET_TEST_DATA", "")) / "telescope" / "kaggle_layout"
    if "MULTIPLET_TEST_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("MULTIPLET_TEST_DATA names no folder with telescope/kaggle_layout")
    columns = read(folder / "train" / "batch_1.parquet", 10_000)
    pulses = pq.read_table(folder / "train" / "batch_1.parquet")
    meta = pq.read_table(folder / "train_meta.parquet")
    assert len(columns) == 3000
    assert columns.values["event_id"].tolist() == meta["event_id"].to_pylist()
    assert np.diff(columns.offsets).tolist() == [
        last - first + 1
        for first, last in zip(*(meta[f"{w}_pulse_index"].to_pylist() for w in ("first", "last")), strict=True)
    ]
    assert columns.offsets[-1] == len(pulses) == 308_694
    held = {name: pulses[name].to_numpy() for name in ("event_id", "time", "sensor_id", "charge", "auxiliary")}
    order = np.lexsort([held[name] for name in ("charge", "sensor_id", "time", "event_id")])
    for name in ("time", "sensor_id", "auxiliary"):
        assert np.array_equal(columns.values[name], held[name][order])
    assert np.abs(columns.values["charge"] - held["charge"][order]).max() < 1e-3
    for name in ("azimuth", "zenith"):
        assert np.array_equal(columns.values[name], meta[name].to_numpy().astype(np.float32))
