"""A folder of event files as a dataset: what is read is what was written, wherever it lies; what is wrong is named."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multiplet.cloud import Cloud
from multiplet.data import arrow
from multiplet.data.arrow import sums_path, write_events
from multiplet.data.columns import DTYPES, Column, Columns, concatenate
from multiplet.data.events import SPLITS, EventFiles, Events
from multiplet.errors import CorruptError, DataError
from toys import SCHEMA, toy_jets, write_toys

TRAIN = ((7, 0), (1, 1), (0, 2), (9, 3))  # events and seed of each file of the training split


def jets(events: int, seed: int) -> Columns:
    """Toy jets of which every third is empty."""
    made = toy_jets(events, seed)
    empty = np.arange(events) % 3 == 1
    counts = np.where(empty, 0, np.diff(made.offsets))
    kept = {"point": ~np.repeat(empty, np.diff(made.offsets)), "event": np.full(events, True)}
    values = {column.name: made.values[column.name][kept[column.level]] for column in SCHEMA}
    return Columns(SCHEMA, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training files in record batches of four events, one file of test events, no validation split."""
    folder = tmp_path_factory.mktemp("events")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrow, "_BATCH_EVENTS", 4)
        for number, (events, seed) in enumerate(TRAIN):
            write_events(folder / "train" / f"{number:05d}.arrow", jets(events, seed), {"source": "toys"})
        write_events(folder / "test" / "00000.arrow", jets(5, 9), {"source": "toys"})
    return folder


@pytest.fixture(scope="module")
def written() -> Columns:
    """The training split as it was written."""
    return concatenate([jets(events, seed) for events, seed in TRAIN])


def agrees(cloud: Cloud, written: Columns, places: Sequence[int]) -> None:
    """Compare a cloud with flat columns, value by value, and its padding with zero."""
    lengths = [int(np.diff(written.offsets)[place]) for place in places]
    width = max(lengths, default=0)
    assert cloud.mask.tolist() == [[slot < n for slot in range(width)] for n in lengths]
    for column in written.schema:
        kind = cloud.truth if column.truth else cloud.points if column.level == "point" else cloud.event
        value = kind[column.name].numpy()
        assert value.dtype == column.dtype
        if column.level == "event":
            assert value.tolist() == written.values[column.name][list(places)].tolist()
            continue
        assert value.shape == (len(places), width)
        for row, (place, n) in enumerate(zip(places, lengths, strict=True)):
            low = written.offsets[place]
            assert value[row].tolist() == [*written.values[column.name][low : low + n].tolist(), *[0] * (width - n)]
    assert sum(len(part) for part in (cloud.points, cloud.event, cloud.truth)) == len(written.schema)


# --- reading ----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(places=st.lists(st.integers(0, 16), max_size=20))
def test_events_are_read_in_any_order_and_more_than_once(folder: Path, written: Columns, places: list[int]) -> None:
    cloud = EventFiles(folder).read("train", np.array(places, np.int64))
    agrees(cloud, written, places)
    assert cloud.index.tolist() == places


def test_the_whole_split_is_its_files_in_a_row(folder: Path, written: Columns) -> None:
    dataset = Events(str(folder)).open()
    assert dataset.schema == SCHEMA
    assert [dataset.size(split) for split in SPLITS] == [17, 0, 5]
    assert dataset.lengths("train").tolist() == np.diff(written.offsets).tolist()
    agrees(dataset.read("train", np.arange(17)), written, range(17))
    agrees(dataset.read("test", np.arange(5)), jets(5, 9), range(5))


def test_what_is_read_may_be_changed_without_changing_the_data(folder: Path, written: Columns) -> None:
    dataset, places = EventFiles(folder), np.array([3, 0])
    cloud = dataset.read("train", places)
    for tensor in (*cloud.points.values(), *cloud.event.values(), *cloud.truth.values(), cloud.mask, cloud.index):
        tensor.zero_()
    assert places.tolist() == [3, 0]
    agrees(dataset.read("train", places), written, [3, 0])


def test_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, seed in (("b", 2), ("a", 1), ("c", 3)):
        write_events(tmp_path / "train" / f"{name}.arrow", jets(3, seed), {})
    (tmp_path / "train" / ".d.arrow.123.tmp").write_bytes(b"being written")
    whole = EventFiles(tmp_path).read("train", np.arange(9))
    agrees(whole, concatenate([jets(3, seed) for seed in (1, 2, 3)]), range(9))


@pytest.mark.parametrize("level", ["point", "event"])
def test_every_type_becomes_the_same_type_of_tensor(tmp_path: Path, level: Any) -> None:
    schema = tuple(Column(dtype, level=level, dtype=dtype) for dtype in DTYPES)
    values = {dtype: np.array([1, 0, 100]).astype(dtype) for dtype in DTYPES}
    columns = Columns(schema, np.array([0, 1, 3] if level == "point" else [0, 0, 0, 0]), values)
    write_events(tmp_path / "train" / "0.arrow", columns, {})
    cloud = EventFiles(tmp_path).read("train", np.array([1]))
    for dtype in DTYPES:
        value = (cloud.points if level == "point" else cloud.event)[dtype]
        assert value.dtype == getattr(torch, dtype)
        assert value.double().flatten().tolist() == ([0, 100] if level == "point" else [0])


def test_points_without_columns_are_still_counted(tmp_path: Path) -> None:
    columns = Columns((Column("met", level="event"),), np.array([0, 2, 5]), {"met": np.ones(2, np.float32)})
    write_events(tmp_path / "train" / "0.arrow", columns, {})
    cloud = EventFiles(tmp_path).read("train", np.array([1, 0]))
    assert cloud.mask.tolist() == [[True, True, True], [True, True, False]]


def test_truth_of_points_is_apart_from_what_was_measured(tmp_path: Path) -> None:
    schema = (Column("x"), Column("vertex", truth=True, dtype="int32"), Column("label", level="event", truth=True))
    values = {"x": np.zeros(3, np.float32), "vertex": np.arange(3, dtype=np.int32), "label": np.zeros(2, np.float32)}
    write_events(tmp_path / "train" / "0.arrow", Columns(schema, np.array([0, 1, 3]), values), {})
    cloud = EventFiles(tmp_path).read("train", np.array([0, 1]))
    assert (list(cloud.points), list(cloud.event), sorted(cloud.truth)) == (["x"], [], ["label", "vertex"])
    assert cloud.truth["vertex"].tolist() == [[0, 0], [1, 2]]


# --- windows ----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(skip=st.integers(0, 17), data=st.data())
def test_a_window_shows_so_many_training_events_from_its_start_on(
    folder: Path, written: Columns, skip: int, data: st.DataObject
) -> None:
    take = data.draw(st.none() | st.integers(0, 17 - skip))
    dataset = Events(str(folder), skip, take).open()
    places = list(range(skip, 17 if take is None else skip + take))
    assert dataset.size("train") == len(places) == len(dataset.lengths("train"))
    cloud = dataset.read("train", np.arange(len(places)))
    agrees(cloud, written, places)
    assert cloud.index.tolist() == list(range(len(places)))
    assert dataset.size("test") == 5
    for outside in (-1, len(places)):
        with pytest.raises(DataError, match=rf"events {outside} to {outside} asked for; .* has {len(places)} in its"):
            dataset.read("train", np.array([outside]))
        with pytest.raises(DataError, match="asked for"):
            dataset.locate("train", outside)


@pytest.mark.parametrize(
    ("skip", "take", "asked"), [(0, 18, "0 to 18"), (10, 8, "10 to 18"), (18, None, "18 to 17"), (-1, 3, "-1 to 2")]
)
def test_a_window_beyond_the_events_is_refused(folder: Path, skip: int, take: int | None, asked: str) -> None:
    with pytest.raises(DataError, match=rf"events {asked} asked for, but .*/train has 17"):
        EventFiles(folder, skip, take)


@pytest.mark.parametrize("skip", [0, 3])
def test_an_event_is_located_by_file_and_row(folder: Path, skip: int) -> None:
    dataset = EventFiles(folder, skip)
    wanted = [f"{folder}/train/{n:05d}.arrow row {row}" for n, (events, _) in enumerate(TRAIN) for row in range(events)]
    assert [dataset.locate("train", index) for index in range(17 - skip)] == wanted[skip:]
    assert dataset.locate("test", 4) == f"{folder}/test/00000.arrow row 4"


# --- what is wrong ----------------------------------------------------------------------------------------------------


def test_a_split_that_is_not_there_is_named(folder: Path) -> None:
    dataset = EventFiles(folder)
    assert dataset.size("validation") == 0
    for ask in (
        lambda: dataset.lengths("validation"),
        lambda: dataset.read("validation", np.arange(1)),
        lambda: dataset.locate("validation", 0),
    ):
        with pytest.raises(DataError, match=r"has no validation split: there is no .*validation/00000\.arrow"):
            ask()


def test_a_folder_without_event_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no event files .*`multiplet simulate`.* or correct the path"):
        Events(str(tmp_path / "nothing")).open()


def test_a_folder_without_training_events_can_be_read(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "test", tmp_path / "test")
    dataset = EventFiles(tmp_path)
    assert [dataset.size(split) for split in SPLITS] == [0, 0, 5]


@pytest.mark.parametrize(
    ("other", "names"),
    [
        (Column("x", "GeV"), "x"),
        (Column("x", truth=True), "x"),
        (Column("x", dtype="float64"), "x"),
        (Column("y"), "x, y"),
    ],
)
@pytest.mark.parametrize("place", ["train/1.arrow", "test/0.arrow"])
def test_files_of_other_columns_are_named(tmp_path: Path, other: Column, names: str, place: str) -> None:
    for path, column in (("train/0.arrow", Column("x")), (place, other)):
        values = {column.name: np.zeros(2, column.dtype)}
        write_events(tmp_path / path, Columns((column,), np.array([0, 2]), values), {})
    with pytest.raises(DataError, match=rf"{place} has other columns than the first file \({names}\): convert"):
        EventFiles(tmp_path)


def test_damage_is_met_by_whoever_reads_it_and_by_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "_BATCH_EVENTS", 4)
    path = tmp_path / "train" / "0.arrow"
    write_events(path, jets(12, 0), {})
    edges = arrow.read_json(sums_path(path))["edges"]
    data = bytearray(path.read_bytes())
    data[edges[4] - 100] ^= 16  # in the values of the second record batch
    path.write_bytes(data)
    dataset = EventFiles(tmp_path)
    agrees(dataset.read("train", np.array([0, 3, 8, 11])), jets(12, 0), [0, 3, 8, 11])
    with pytest.raises(CorruptError, match=r"0\.arrow: bytes .* are not what was written"):
        dataset.read("train", np.array([0, 5]))


# --- identity ---------------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_that_of_the_events_not_of_their_place(tmp_path: Path) -> None:
    one, same = (write_toys(tmp_path / name, train=20, validation=4, test=4) for name in ("one", "same"))
    assert EventFiles(one).fingerprint() == EventFiles(same).fingerprint() == EventFiles(one, 0, 20).fingerprint()
    seen = {EventFiles(one, skip, take).fingerprint() for skip in (0, 1) for take in (5, 6)}
    for split in SPLITS:
        write_events(same / split / "00000.arrow", toy_jets(10, 77), {"source": "toys"})
        seen.add(EventFiles(same).fingerprint())
    assert len(seen | {EventFiles(one).fingerprint()}) == 8


def test_the_fingerprint_tells_splits_apart(tmp_path: Path) -> None:
    for folder, split in (("a", "test"), ("b", "validation")):
        write_events(tmp_path / folder / split / "00000.arrow", toy_jets(3), {})
    assert EventFiles(tmp_path / "a").fingerprint() != EventFiles(tmp_path / "b").fingerprint()


@pytest.mark.parametrize(("skip", "take"), [(0, None), (3, None), (2, 5)])
def test_a_dataset_sent_to_another_process_reads_the_same(
    folder: Path, written: Columns, skip: int, take: int | None
) -> None:
    dataset = EventFiles(folder, skip, take)
    dataset.read("train", np.arange(5))
    sent = pickle.dumps(dataset)
    assert len(sent) < 1000
    again = pickle.loads(sent)
    assert again.fingerprint() == dataset.fingerprint()
    agrees(again.read("train", np.arange(5)), written, range(skip, skip + 5))
