"""The reader of TPCpp-10M: files in its layout, good ones read as a loop reads them, bad ones refused with a reason."""

from __future__ import annotations

import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from multiplet.data.columns import Columns, concatenate
from multiplet.data.convert import convert
from multiplet.data.events import EventFiles
from multiplet.data.formats import find, tpcpp
from multiplet.data.formats.tpcpp import TPCpp
from multiplet.data.formats.track_numbers import number_tracks
from multiplet.errors import DataError
from multiplet.tasks.matching import one_hot_tracks

LABELS = {"track_ids": "track_id", "pid_labels": "particle", "noise_tags": "noise"}
Arrays = dict[str, np.ndarray]


def sample(sizes: tuple[int, ...] = (5, 0, 1, 8, 3), seed: int = 1) -> Arrays:
    """Events of these sizes: spacepoints, sizes and the three labels, as the published files have them."""
    rng, points = np.random.default_rng(seed), sum(sizes)
    tracks, event = rng.integers(-3, 40, points), np.repeat(np.arange(len(sizes)), sizes)
    data = np.column_stack([rng.lognormal(5, 1, points), rng.normal(0, 40, (points, 3))]).astype(np.float32)
    return {
        "data": data,
        "size": np.array(sizes, np.int64),
        "track_ids": tracks,
        "pid_labels": rng.integers(0, 5, (len(sizes), 43))[event, tracks],
        "noise_tags": (rng.random((len(sizes), 43)) < 0.1)[event, tracks],
    }


def write(folder: Path, arrays: Arrays, number: str = "_000", save: Callable[..., None] = np.savez_compressed) -> Path:
    """The files of one shard in the published layout; the labels that are there get files of their own."""
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f"spacepoints{number}.npz"
    save(path, data=arrays["data"], size=arrays["size"])
    for stem in LABELS:
        if stem in arrays:
            size = arrays.get(f"size of {stem}", arrays["size"])
            save(folder / f"{stem}{number}.npz", data=arrays[stem], size=size)
    return path


def renumbered(ids: np.ndarray, sizes: np.ndarray) -> list[int]:
    """The place of each id among all of its event, by a loop over Python's integers."""
    given, start, found = ids.tolist(), 0, []
    for count in sizes.tolist():
        here = given[start : start + count]
        found += [sorted(set(here)).index(each) for each in here]
        start += count
    return found


def unlabelled(arrays: Arrays) -> Arrays:
    return {name: arrays[name] for name in ("data", "size")}


def read(path: Path, **settings: int) -> Columns:
    return concatenate([chunk.columns for chunk in TPCpp(**settings).chunks(path)])


def simulated(path: Path) -> tuple[Path, Columns]:
    """Simulated events in the published layout, and what they are."""
    for name in ("pythia8mc", "awkward", "numba"):
        pytest.importorskip(name)
    from multiplet.simulation.tpc import Tpc

    events = Tpc().block("hard", 0, 1, 20)
    v = events.values
    arrays = {
        "data": np.stack([v[name] for name in ("energy", "x", "y", "z")], axis=1),
        "size": np.diff(events.offsets),
        "track_ids": v["track_id"].astype(np.int64),
        "pid_labels": v["particle"].astype(np.int64),
        "noise_tags": v["noise"].astype(bool),
    }
    return write(path, arrays, ""), events


# What is right.


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("step", [1, 2, 5, 100])
def test_is_read_as_a_loop_reads_it(tmp_path: Path, save: Callable[..., None], step: int) -> None:
    """Any number of events at a time, events without a point among them: the same."""
    arrays = sample()
    columns = read(write(tmp_path, arrays, save=save), step=step)
    assert [c.name for c in columns.schema] == ["energy", "x", "y", "z", "track_id", "particle", "noise"]
    assert [c.name for c in columns.schema if c.truth] == list(LABELS.values())
    start = 0
    for event, count in enumerate(arrays["size"].tolist()):
        rows = slice(columns.offsets[event], columns.offsets[event + 1])
        for n, name in enumerate(("energy", "x", "y", "z")):
            assert columns.values[name][rows].tolist() == arrays["data"][start : start + count, n].tolist()
        for stem in ("pid_labels", "noise_tags"):
            assert columns.values[LABELS[stem]][rows].tolist() == arrays[stem][start : start + count].tolist()
        start += count
    assert columns.values["track_id"].tolist() == renumbered(arrays["track_ids"], arrays["size"])


def test_unlabelled_has_no_truth(tmp_path: Path) -> None:
    columns = read(write(tmp_path, unlabelled(sample())))
    assert [c.name for c in columns.schema] == ["energy", "x", "y", "z"]
    assert len(columns) == 5


def test_round_trip_of_simulated_events(tmp_path: Path) -> None:
    """Simulated events, written in the published layout, come back the same, also through event files."""
    path, events = simulated(tmp_path / "validation")
    columns = read(path)
    assert np.array_equal(columns.offsets, events.offsets)
    for column in columns.schema:
        other = next(each for each in events.schema if each.name == column.name)
        assert replace(column, about=other.about) == other
        assert (column.about == other.about) == (column.name != "track_id")
        assert columns.values[column.name].tobytes() == events.values[column.name].tobytes()
    convert(find("tpcpp"), [path], tmp_path / "out", (1.0, 0.0, 0.0))
    cloud = EventFiles(tmp_path / "out").read("train", np.arange(20))
    assert cloud.mask.sum() == len(events.values["x"])
    assert set(cloud.points) == {"energy", "x", "y", "z"}
    assert {"track_id", "particle", "noise"} <= set(cloud.truth)


@pytest.mark.parametrize("sizes", [(), (0,), (1,), (0, 0, 1, 0), (100_000,), (3, 100_000, 2)])
def test_any_number_of_points(tmp_path: Path, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """No event at all, empty ones, one point, 10⁵: also where a chunk is full long before."""
    arrays = sample(sizes)
    path = write(tmp_path, arrays)
    whole = read(path)
    assert np.diff(whole.offsets).tolist() == list(sizes)
    monkeypatch.setattr(tpcpp, "_CHUNK_POINTS", 4)
    chunks = [chunk.columns for chunk in TPCpp().chunks(path)]
    assert all(chunk.offsets[-1] <= 4 or len(chunk) == 1 for chunk in chunks)
    assert all(a.offsets[-1] + b.offsets[-1] > 4 for a, b in pairwise(chunks))
    pieces = concatenate(chunks)
    assert np.array_equal(pieces.offsets, whole.offsets)
    assert all(pieces.values[name].tobytes() == whole.values[name].tobytes() for name in whole.values)


def test_other_types_of_number(tmp_path: Path) -> None:
    """Sizes of 32 bits or unsigned, labels of any width, coordinates of 64 bits, the other byte order, by columns."""
    arrays = sample()
    changed = {
        "data": np.asfortranarray(arrays["data"].astype(">f8")),
        "size": arrays["size"].astype(np.uint16),
        "track_ids": arrays["track_ids"].astype(">i2"),
        "pid_labels": arrays["pid_labels"].astype(np.uint8),
        "noise_tags": arrays["noise_tags"].astype(np.int64),
    }
    first, second = read(write(tmp_path / "a", arrays)), read(write(tmp_path / "b", changed))
    assert first.schema == second.schema
    assert all(first.values[name].tobytes() == second.values[name].tobytes() for name in first.values)


# Track ids.

LARGE = 2**63 - 1
IDS: dict[str, np.ndarray] = {
    "none": np.zeros(0, np.int64),
    "one": np.array([-7], np.int8),
    "flags": np.array([True, False, True, True]),
    "bytes": np.array([127, -128, 0, 127, -128, 5], np.int8),
    "short, of the other byte order": np.array([300, -300, 0, 1, 300, -2], ">i2"),
    "far apart": np.array([2**40, -(2**40), 0, 2**40, 3, -1]),
    "at the edges": np.array([LARGE, -LARGE - 1, 0, LARGE, -LARGE - 1, -1]),
    "close together, at an edge": np.array([LARGE, LARGE - 2, LARGE, LARGE - 1, LARGE - 7, LARGE]),
    "unsigned beyond the signed": np.array([2**64 - 1, 2**64 - 3, 2**63, 2**64 - 1, 0, 5], np.uint64),
    "unsigned, close together": np.array([2**63, 2**63 - 1, 2**63 + 1, 2**63, 2**63 - 1, 2**63], np.uint64),
    "many": np.random.default_rng(1).integers(-30, 30, 500),
    "many far apart": np.random.default_rng(2).integers(-4, 4, 500) * 10**12,
}


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_tracks_are_numbered_from_zero_in_ascending_order(ids: np.ndarray) -> None:
    """In each event, empty ones among them, whatever integers name the tracks; and through all events."""
    for cuts in (
        [],
        [0, len(ids) // 2],
        [1, 1, len(ids)],
        sorted(np.random.default_rng(3).integers(0, len(ids) + 1, 9)),
    ):
        offsets = np.sort(np.array([0, *np.minimum(cuts, len(ids)), len(ids)], np.int64))
        track, own = number_tracks(ids, offsets)
        wanted = renumbered(ids, np.diff(offsets))
        assert own.tolist() == wanted
        assert own.dtype == track.dtype == np.int32
        before = 0
        for low, high in pairwise(offsets.tolist()):
            assert track[low:high].tolist() == [before + each for each in wanted[low:high]]
            before += len(set(wanted[low:high]))


def test_many_far_apart_ids_need_no_table() -> None:
    """Points 10¹² apart: memory does not follow from the distance."""
    tracemalloc.start()
    _, own = number_tracks(np.array([10**12, 0, -(10**12)]), np.array([0, 3]))
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
    assert own.tolist() == [2, 1, 0]


def test_every_published_track_is_a_target(tmp_path: Path) -> None:
    """Negative ids too, which elsewhere mean no track: each id is a mask of its own, and the column says what it is."""
    arrays = sample((40, 7, 1))
    assert (arrays["track_ids"] < 0).any()
    convert(find("tpcpp"), [write(tmp_path / "in", arrays)], tmp_path / "out", (1.0, 0.0, 0.0))
    cloud = EventFiles(tmp_path / "out").read("train", np.arange(3))
    tracks = one_hot_tracks(cloud.truth["track_id"].long(), cloud.mask)
    ids = np.split(arrays["track_ids"], [40, 47])
    assert tracks.any(-1).sum(1).tolist() == [len(set(each.tolist())) for each in ids]
    assert tracks.sum(1).bool().equal(cloud.mask)
    column = next(c for c in EventFiles(tmp_path / "out").schema if c.name == "track_id")
    assert "numbered anew in each event" in column.about
    assert TPCpp().provenance()["track_ids"] == "numbered anew"


def test_the_published_splits_are_kept(tmp_path: Path) -> None:
    """As the labelled part is published: shards of training events in a folder, one file in each of the others."""
    sizes = {"train/_000": (5, 2), "train/_001": (3,), "validation/": (4, 1, 6), "test/": (7,)}
    paths = []
    for number, (name, each) in enumerate(sizes.items()):
        folder, shard = name.split("/")
        paths.append(write(tmp_path / "labeled" / folder, sample(each, number), shard))
    made = convert(find("tpcpp"), paths, tmp_path / "out", "published")
    assert made.events == {"train": 3, "validation": 3, "test": 1}
    files = EventFiles(tmp_path / "out")
    assert sorted(files.lengths("train").tolist()) == [2, 3, 5]
    assert files.lengths("validation").tolist() == [4, 1, 6]
    assert files.lengths("test").tolist() == [7]


# What is wrong.


def refused(path: Path, match: str, **settings: int) -> None:
    with pytest.raises(DataError, match=match) as caught:
        list(TPCpp(**settings).chunks(path))
    assert str(caught.value).startswith(str(path.parent))
    assert "\n" not in str(caught.value)


FAULTS: dict[str, tuple[str, object, str]] = {
    "too few points": ("size", lambda a: poke(a, 4, 4), "up to event 4 sum to more than the 17 points"),
    "too many points": ("size", lambda a: poke(a, 4, 2), "sizes sum to 16 points, but data has 17"),
    "an event is missing": ("size", lambda a: a[:-1], "sizes sum to 14 points, but data has 17"),
    "a negative size": ("size", lambda a: poke(a, 2, -1), "size of event 2 is -1"),
    "an absurd size": ("size", lambda a: poke(a, 3, 2**62), "size of event 3 is 4611686018427387904"),
    "an absurd unsigned size": (
        "size",
        lambda a: a.astype("u8") + np.array([2**63] + [0] * 4, "u8"),
        "size of event 0",
    ),
    "sizes of floats": ("size", lambda a: a.astype(float), r"size is float64 .* integers \(events,\)"),
    "two columns of sizes": ("size", lambda a: np.stack([a, a], 1), r"integers \(events,\) are needed"),
    "three columns": ("data", lambda a: a[:, :3], r"floats \(points, 4\) are needed"),
    "flat data": ("data", lambda a: a.reshape(-1), r"floats \(points, 4\) are needed"),
    "data of integers": ("data", lambda a: a.astype(int), r"floats \(points, 4\) are needed"),
    "objects": ("data", lambda a: a.astype(object), "never unpickled"),
    "text": ("size", lambda a: a.astype(str), r"integers \(events,\) are needed"),
    "a NaN": ("data", lambda a: poke(a, (7, 2), np.nan), r"data \(y\) of event 3 is not finite \(nan\)"),
    "an infinity": ("data", lambda a: poke(a, (16, 3), -np.inf), r"data \(z\) of event 4 is not finite"),
    "too large for 32 bits": ("data", lambda a: poke(a.astype("f8"), (0, 1), 1e300), r"\(x\) of event 0 is not finite"),
    "a negative energy": ("data", lambda a: poke(a, (5, 0), -1), r"data \(E\) of event 2 is negative"),
    "an unknown particle": ("pid_labels", lambda a: poke(a, 6, 5), r"pid_labels of event 3 is not from 0 to 4 \(5\)"),
    "a negative particle": ("pid_labels", lambda a: poke(a, 0, -1), "pid_labels of event 0 is not from 0 to 4"),
    "a particle of floats": ("pid_labels", lambda a: a.astype(float), r"integers \(17,\) are needed"),
    "a noise of two": ("noise_tags", lambda a: poke(a.astype(int), 16, 2), "noise_tags of event 4 is not from 0 to 1"),
    "tracks of floats": ("track_ids", lambda a: a.astype(float), r"track_ids_000.npz: .* integers \(17,\) are needed"),
    "too few labels": ("track_ids", lambda a: a[:-1], r"integers \(17,\) are needed"),
    "too many labels": ("noise_tags", lambda a: np.append(a, True), r"integers \(17,\) are needed"),
    "other sizes beside": (
        "size of pid_labels",
        lambda a: poke(poke(a, 2, 2), 3, 7),
        r"pid_labels_000.npz: size of event 2 is 2, in spacepoints_000.npz it is 1: the files are of different events",
    ),
    "fewer sizes beside": (
        "size of track_ids",
        lambda a: a[:-1],
        r"track_ids_000.npz: size is int64 \(4,\) where integers \(5,\) are needed, as in spacepoints_000.npz",
    ),
    "sizes of floats beside": ("size of noise_tags", lambda a: a.astype(float), "noise_tags_000.npz: size is float64"),
    "labels of objects": ("track_ids", lambda a: a.astype(object), "never unpickled"),
}


def poke(array: np.ndarray, at: object, value: object) -> np.ndarray:
    array = array.copy()
    array[at] = value
    return array


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused(tmp_path: Path, fault: str) -> None:
    name, change, match = FAULTS[fault]
    arrays = sample()
    assert callable(change)
    arrays[name] = change(arrays["size" if name.startswith("size of") else name])
    path = write(tmp_path, arrays)
    refused(path, match)
    refused(path, match, step=2)


@pytest.mark.parametrize("step", [1, 3, 100])
@pytest.mark.parametrize(
    ("label", "value", "message"),
    [
        ("pid_labels", 4, "pid_labels of event 3 is [14] and [14] in track -2, all points of which have the same"),
        ("noise_tags", True, "noise_tags of event 3 is [01] and [01] in track -2, all points of which have the same"),
    ],
)
def test_a_track_is_of_one_particle(tmp_path: Path, step: int, label: str, value: object, message: str) -> None:
    """The error names file, label, event and track, as the file calls it; tracks of other events are others."""
    arrays = sample()
    arrays["track_ids"] = np.array([-2, -2, 5, 5, 5, -2, -2, 5, 7, -2, 5, 7, 7, -2, 5, 5, -2])
    arrays["pid_labels"] = np.where(arrays["track_ids"] == -2, 1, 2)
    arrays["noise_tags"] = arrays["track_ids"] == 7
    for name in ("pid_labels", "noise_tags"):
        arrays[name][:6] = 0  # of the events before
    assert read(write(tmp_path, arrays), step=step).values["particle"].tolist() == arrays["pid_labels"].tolist()
    for place in (6, 9, 13):
        path = write(tmp_path, arrays | {label: poke(arrays[label], place, value)})
        with pytest.raises(DataError, match=message) as caught:
            read(path, step=step)
        assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.uint64, ">i8"])
def test_sizes_beside_the_labels_are_optional_and_of_any_integers(tmp_path: Path, kind: str) -> None:
    arrays = sample()
    arrays |= {f"size of {stem}": arrays["size"].astype(kind) for stem in LABELS}
    first = read(path := write(tmp_path, arrays))
    np.savez(tmp_path / "noise_tags_000.npz", data=arrays["noise_tags"])
    second = read(path)
    assert all(first.values[name].tobytes() == second.values[name].tobytes() for name in first.values)


def test_missing_arrays_and_labels(tmp_path: Path) -> None:
    path = write(tmp_path, sample())
    (tmp_path / "noise_tags_000.npz").unlink()
    refused(path, "some of its labels beside it, but not noise_tags_000.npz")
    refused(tmp_path / "track_ids_000.npz", "give the spacepoints files only")
    np.savez(path, points=np.zeros(3))
    (tmp_path / "track_ids_000.npz").unlink()
    (tmp_path / "pid_labels_000.npz").unlink()
    refused(path, "data is no array; it holds points")
    refused(tmp_path / "spacepoints_001.npz", "is not a file")
    path.write_bytes(b"not an archive at all")
    refused(path, "truncated, damaged or of another layout")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_truncated_and_damaged_files(tmp_path: Path, save: Callable[..., None]) -> None:
    """Cut anywhere, or with a byte turned anywhere in its arrays, a file is refused, never read as something else."""
    arrays = unlabelled(sample((40,) * 50))
    path = write(tmp_path, arrays, save=save)
    whole = path.read_bytes()
    for part in (0.01, 0.3, 0.6, 0.9, 0.999):
        path.write_bytes(whole[: int(part * len(whole))])
        refused(path, "cannot be read")
    with zipfile.ZipFile(tmp_path / "spacepoints_001.npz", "w") as archive:
        archive.writestr("data.npy", b"\x93NUMPY")
        archive.writestr("size.npy", b"\x93NUMPY")
    refused(tmp_path / "spacepoints_001.npz", "array data cannot be read")
    rng = np.random.default_rng(3)
    for place in rng.integers(200, int(0.95 * len(whole)), 25).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        refused(path, "spacepoints")


def test_absurd_headers_allocate_nothing(tmp_path: Path) -> None:
    """Headers and sizes that claim terabytes cost no memory before they are refused."""

    def npy(shape: tuple[int, ...], kind: str, body: bytes = b"") -> bytes:
        text = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode() + b"\n"
        return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body

    path = tmp_path / "spacepoints_000.npz"
    good = npy((1,), "<i8", (3).to_bytes(8, "little"))
    cases = {
        "shape": (npy((10**12, 4), "<f4"), good, "declared with shape"),
        "bytes": (npy((3, 4), "<f4", bytes(48)), npy((10**13,), "<i8", bytes(8)), "declared with shape"),
        "overflow": (npy((2**62, 4), "<f4"), good, "declared with shape"),
        "negative": (npy((-3, 4), "<f4"), good, "declared with shape"),
        "scalar": (npy((), "<f4", bytes(4)), good, "data is a single value"),
        "long header": (
            b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little") + bytes(100_000),
            good,
            "cannot be read",
        ),
        "rows": (npy((3, 10**9), "<f4"), good, "declared with shape"),
        "one row less": (npy((3, 4), "<f4", bytes(32)), good, "declared with shape"),
        "one row more": (npy((3, 4), "<f4", bytes(64)), good, "declared with shape"),
    }
    for data, size, match in cases.values():
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("data.npy", data)
            archive.writestr("size.npy", size)
        tracemalloc.start()
        refused(path, match)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
        tracemalloc.stop()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("data.npy", npy((3, 4), "<f4", bytes(48)))
        archive.writestr("size.npy", good)
    refused(path, "packed in a way that NumPy does not use")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Four times the events, the same memory."""
    peaks = []
    for number, events in enumerate((1500, 6000)):
        data, size = np.ones((events * 200, 4), np.float32), np.full(events, 200)
        path = write(tmp_path, {"data": data, "size": size}, f"_{number}")
        del data
        tracemalloc.start()
        points = sum(int(chunk.columns.offsets[-1]) for chunk in TPCpp(step=500).chunks(path))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert points == events * 200
    assert peaks[1] < 1.1 * peaks[0]
