"""Converting: no event lost or twice, where each comes from, cut flows, the same bytes however often it is stopped."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from typer.testing import CliRunner

from multiplet import files
from multiplet.cli import app
from multiplet.data import turns
from multiplet.data.arrow import read_events, write_events
from multiplet.data.columns import Columns, concatenate
from multiplet.data.convert import convert
from multiplet.data.events import SPLITS
from multiplet.data.formats import FORMATS, Format, find
from multiplet.data.formats.jetclass import write_root
from multiplet.data.formats.sources import Chunk
from multiplet.data.splits import check_fractions, published_splits
from multiplet.errors import CorruptError, DataError, RunError
from test_formats_root import simulated
from toys import toy_jets


@dataclass(frozen=True)
class Selected:
    """Event files without their event_id, `step` events at a time, of which two selections leave some."""

    step: int = 50
    least: float = 0.0
    most: float = 1e9

    def chunks(self, source: Path) -> Iterator[Chunk]:
        whole = read_events(source)
        schema = tuple(column for column in whole.schema if column.name != "event_id")
        for start in range(0, len(whole), self.step):
            part = whole.take(np.arange(start, min(start + self.step, len(whole))))
            pt = part.values["jet_pt"]
            first, kept = pt > self.least, np.flatnonzero((pt > self.least) & (pt < self.most))
            part = part.take(kept)
            part = Columns(schema, part.offsets, {column.name: part.values[column.name] for column in schema})
            yield Chunk(part, {"read": len(pt), "pt > least": int(first.sum()), "pt < most": len(kept)}, kept)

    def provenance(self) -> dict[str, str]:
        return {"format": "selected", "least": str(self.least), "most": str(self.most)}


def kinds(folder: Path, events: int = 200) -> list[Path]:
    """Files of two kinds, two of each."""
    paths = [folder / f"{name}.arrow" for name in ("HToBB_000", "HToBB_001", "ZToQQ_000", "ZToQQ_001")]
    for number, path in enumerate(paths):
        write_events(path, toy_jets(events + number, number, most=8), {})
    return paths


def published(folder: Path, events: int = 60) -> list[Path]:
    """Files of two kinds in folders of three splits, as JetClass comes."""
    names = [
        f"{split}/{kind}_000.arrow" for split in ("train_100M", "val_5M", "test_20M") for kind in ("HToBB", "ZToQQ")
    ]
    paths = [folder / name for name in (*names, "train_100M/HToBB_001.arrow")]
    for number, path in enumerate(paths):
        write_events(path, toy_jets(events + number, number, most=8), {})
    return paths


def held(out: Path) -> dict[str, bytes]:
    """Everything in a folder, hidden files too."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def events(out: Path) -> Columns:
    return concatenate([read_events(path) for path in sorted(out.glob("*/*.arrow"))])


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
def test_a_format_keeps_the_contract(format: Format) -> None:
    assert isinstance(format, Format)
    assert all(isinstance(value, str) for value in format.provenance().values())


def test_every_event_is_in_exactly_one_split(toys: Path, tmp_path: Path) -> None:
    sources = sorted(toys.glob("*/*.arrow"))
    counts = convert(find("events"), sources, tmp_path / "out", (0.5, 0.25, 0.25), shard_events=50).events
    parts = {split: [read_events(f) for f in sorted((tmp_path / "out" / split).glob("*.arrow"))] for split in SPLITS}
    assert {split: sum(map(len, each)) for split, each in parts.items()} == counts
    assert all(len(part) == 50 for each in parts.values() for part in each[:-1])
    ids = events(tmp_path / "out").values["event_id"]
    truth = np.concatenate([read_events(file).values["event_id"] for file in sources])
    assert sorted(ids) == sorted(truth)
    assert abs(counts["train"] - 210) < 5 * np.sqrt(420 * 0.25)


def test_converting_twice_gives_the_same_bytes(toys: Path, tmp_path: Path) -> None:
    sources = sorted(toys.glob("train/*.arrow"))
    for name, order in (("a", sources), ("b", sources[::-1])):
        convert(find("events"), order, tmp_path / name)
    assert held(tmp_path / "a") == held(tmp_path / "b")


def test_a_finished_conversion_is_left_alone_and_another_refused(tmp_path: Path) -> None:
    paths, out = kinds(tmp_path), tmp_path / "out"
    first = convert(Selected(), paths[:3], out)
    before = held(out)
    assert first.new
    again = convert(Selected(), paths[:3], out)
    assert not again.new
    assert (again.events, again.cuts) == (first.events, first.cuts)
    assert held(out) == before
    for change, message in (
        (lambda: convert(Selected(least=600), paths[:3], out), "format least was '0.0', is '600'"),
        (lambda: convert(find("events"), paths[:3], out), "format was 'selected', is 'events'"),
        (lambda: convert(Selected(), paths, out), "ZToQQ_001.arrow is new"),
        (lambda: convert(Selected(), paths[:2], out), "ZToQQ_000.arrow is left out"),
        (lambda: convert(Selected(), paths[:3], out, (1.0, 0.0, 0.0)), "fractions was"),
        (lambda: convert(Selected(), paths[:3], out, shard_events=5), "shard_events was 10000, is 5"),
    ):
        with pytest.raises(DataError, match=message):
            change()
    write_events(paths[1], toy_jets(7), {})
    with pytest.raises(DataError, match=r"HToBB_001\.arrow has changed"):
        convert(Selected(), paths[:3], out)
    assert held(out) == before
    (out / "train" / "00000.arrow").unlink()
    write_events(paths[1], toy_jets(201, 1, most=8), {})
    with pytest.raises(DataError, match=r"is not as its convert.json says \(train/00000.arrow\)"):
        convert(Selected(), paths[:3], out)


def test_settings_may_change_while_nothing_is_written(tmp_path: Path) -> None:
    path = kinds(tmp_path)[0]
    with pytest.raises(DataError, match=r"no event is kept of 1 files: \{'read': 200, 'pt > least': 0"):
        convert(Selected(least=1e6), [path], tmp_path / "out")
    assert convert(Selected(), [path], tmp_path / "out").new


def test_the_record_adds_up_and_leads_back_to_the_sources(tmp_path: Path) -> None:
    paths, out = kinds(tmp_path), tmp_path / "out"
    made = convert(Selected(step=30, least=600, most=900), paths, out, (0.6, 0.2, 0.2), shard_events=100)
    record, converted = json.loads((out / "convert.json").read_text()), events(out)
    sources = [read_events(path) for path in paths]
    pt = np.concatenate([source.values["jet_pt"] for source in sources])
    kept = int(((pt > 600) & (pt < 900)).sum())
    assert list(made.cuts.items()) == [("read", 806), ("pt > least", int((pt > 600).sum())), ("pt < most", kept)]
    assert record["cuts"] == made.cuts
    assert [source["cuts"]["read"] for source in record["sources"]] == [200, 201, 202, 203]
    assert [source["name"] for source in record["sources"]] == [path.name for path in paths]
    assert [source["sha256"] for source in record["sources"]] == [files.sha256(path) for path in paths]
    assert sum(record["events"].values()) == sum(record["files"].values()) == len(converted) == kept
    assert record["format"] == {"format": "selected", "least": "600", "most": "900"}
    assert str(tmp_path) not in (out / "convert.json").read_text()
    assert sorted(converted.values["event_id"]) == list(range(kept))
    for n in range(len(converted)):
        source, row = sources[converted.values["source_file"][n]], converted.values["source_entry"][n]
        assert source.values["jet_pt"][row] == converted.values["jet_pt"][n]
        low, high = converted.offsets[n : n + 2]
        np.testing.assert_array_equal(converted.values["px"][low:high], source.take(np.array([row])).values["px"])
    assert all({column.name: column for column in converted.schema}[name].level == "event" for name in turns.ORIGIN)


def test_how_many_events_a_format_yields_at_a_time_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = kinds(tmp_path)
    for step in (7, 64, 1000):
        convert(Selected(step=step, least=700), paths, tmp_path / str(step))
    monkeypatch.setattr(turns, "BATCH", 1)
    convert(Selected(least=700), paths, tmp_path / "batch")
    assert held(tmp_path / "7") == held(tmp_path / "64") == held(tmp_path / "1000") == held(tmp_path / "batch")


def test_an_identity_of_the_format_is_kept(tmp_path: Path) -> None:
    convert(find("events"), kinds(tmp_path), tmp_path / "out")
    values = events(tmp_path / "out").values
    assert np.array_equal(values["event_id"], values["source_file"] * 1_000_000 + values["source_entry"])
    convert(find("events"), sorted((tmp_path / "out").glob("*/*.arrow")), tmp_path / "again")
    record = json.loads((tmp_path / "again" / "convert.json").read_text())
    assert [source["name"] for source in record["sources"]] == [
        f"{s}/00000.arrow" for s in ("test", "train", "validation")
    ]
    again = events(tmp_path / "again").values
    assert sorted(again["event_id"]) == sorted(values["event_id"])
    assert set(again["source_file"]) == {0, 1, 2}


def few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN", 4)
    monkeypatch.setattr(turns, "BATCH", 20)
    monkeypatch.setattr(turns, "OPEN", 2)


@pytest.mark.parametrize("after", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("fractions", [(0.7, 0.25, 0.05), "published"])
def test_stopped_at_every_write_and_resumed_it_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fractions: Any, after: bool
) -> None:
    paths = published(tmp_path / "in", 40)[::2] if fractions == "published" else kinds(tmp_path, 60)
    run = (Selected(least=550), fractions, 40)
    few_at_a_time(monkeypatch)
    convert(run[0], paths, tmp_path / "whole", *run[1:])
    real, wanted = os.replace, held(tmp_path / "whole")
    for write in range(1, 1000):
        done, out = 0, tmp_path / str(write)

        def stop(old: Path, new: Path, write: int = write) -> None:
            nonlocal done
            done += 1
            if done == write and not after:
                raise KeyboardInterrupt
            real(old, new)
            if done == write:
                raise KeyboardInterrupt

        monkeypatch.setattr(files.os, "replace", stop)
        try:
            convert(run[0], paths, out, *run[1:])
            break
        except KeyboardInterrupt:
            monkeypatch.setattr(files.os, "replace", real)
        convert(run[0], paths, out, *run[1:])
        assert held(out) == wanted
    assert write > (18 if fractions != "published" else 12)  # several files, a journal after each, a record


def test_what_is_read_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, opened = kinds(tmp_path, 60), []

    class Counting(Selected):
        def chunks(self, source: Path) -> Iterator[Chunk]:
            opened.append(source.name)
            return super().chunks(source)

    few_at_a_time(monkeypatch)
    monkeypatch.setattr(turns, "OPEN", 1)

    def stop(sources: int, of: int, kept: int) -> None:
        if kept >= 230:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(Counting(), paths, tmp_path / "out", (1.0, 0.0, 0.0), 25, stop)
    opened.clear()
    convert(Counting(), paths, tmp_path / "out", (1.0, 0.0, 0.0), 25)
    assert opened == ["ZToQQ_001.arrow"]  # the order is HToBB_000, ZToQQ_000, HToBB_001, ZToQQ_001
    assert sorted(events(tmp_path / "out").values["event_id"]) == list(range(246))


def test_a_file_lost_before_the_end_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = kinds(tmp_path, 100)[0], tmp_path / "out"
    few_at_a_time(monkeypatch)

    def lose(sources: int, of: int, kept: int) -> None:
        (out / "train" / "00000.arrow").unlink(missing_ok=True)

    with pytest.raises(
        DataError, match=r"'train': 75, .* where .*'train': 100, .* of 100 kept events belong: remove it"
    ):
        convert(Selected(), [path], out, (1.0, 0.0, 0.0), 25, lose)


KILLED = """
import os, signal, sys
from pathlib import Path
from multiplet import files
from multiplet.data import turns
from multiplet.data.convert import convert
from multiplet.data.formats import find

folder, calls, name = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
turns.TURN, turns.BATCH, turns.OPEN = 4, 20, 2
real = getattr(os, name)

def kill(*given):
    global calls
    calls -= 1
    if not calls:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given)

setattr(files.os, name, kill)
convert(find("events"), sorted(folder.glob("*.arrow")), folder / "out", shard_events=25)
"""


def test_killed_again_and_again_it_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = kinds(tmp_path, 60)
    kills = ((3, "fsync"), (9, "replace"), (24, "fsync"))  # before a flush there is a file half-made
    for calls, name in kills:
        given = [sys.executable, "-c", KILLED, str(tmp_path), str(calls), name]
        assert subprocess.run(given, check=False, timeout=60).returncode == -signal.SIGKILL
    assert list(tmp_path.glob("out/**/.*.tmp"))
    few_at_a_time(monkeypatch)
    convert(find("events"), paths, tmp_path / "out", shard_events=25)
    convert(find("events"), paths, tmp_path / "whole", shard_events=25)
    assert held(tmp_path / "out") == held(tmp_path / "whole")


GROWTH = """
import os, sys
from pathlib import Path
from multiplet.data.convert import convert
from multiplet.data.formats import find

resident = {}

def note(sources, of, events):
    with open("/proc/self/statm") as file:
        resident[events] = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

folder = Path(sys.argv[1])
convert(find("jetclass"), sorted(folder.glob("*.root")), folder / "out", shard_events=1000, progress=note)
total = max(resident)
print(total, max(v for n, v in resident.items() if n <= total / 5), max(resident.values()))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_events(tmp_path: Path) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("there is no /proc/self/statm")
    jets = simulated(5000)
    for number in range(2):
        label = replace(jets, values=jets.values | {"label": np.full(5000, number, np.int16)})
        write_root(tmp_path / f"{'HZ'[number]}_000.root", (label for _ in range(12)))
    given = [sys.executable, "-c", GROWTH, str(tmp_path)]
    out = subprocess.run(given, check=True, timeout=200, capture_output=True, text=True).stdout
    total, early, late = (int(word) for word in out.split())
    assert total == 120_000
    assert late < 1.05 * early, (early, late)


def test_the_command_shows_the_cut_flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, out = kinds(tmp_path), tmp_path / "out"
    monkeypatch.setitem(FORMATS, "selected", Selected(least=700))
    given = ["convert", "selected", *map(str, paths), "--out", str(out)]
    first, second = (CliRunner().invoke(app, given) for _ in range(2))
    kept = int(np.sum([(read_events(path).values["jet_pt"] > 700).sum() for path in paths]))
    for result, verb in ((first, "in"), (second, "were already in")):
        assert result.exit_code == 0
        assert f"{kept} events {verb} {out}" in result.stdout
        assert any(line.split()[1:9:2] == ["read", "806", "100.00%"] for line in result.stdout.splitlines())
        assert f"{kept / 806:.2%}" in result.stdout
    plain = CliRunner().invoke(app, ["convert", "events", *map(str, paths), "--out", str(tmp_path / "plain")])
    assert "read" not in plain.stdout


def test_a_full_disk_is_told_and_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, real = kinds(tmp_path, 20), os.replace
    for name in (".converting", "00000.arrow", "convert.json"):

        def full(old: Path, new: Path, name: str = name) -> None:
            if Path(new).name == name:
                raise OSError(errno.ENOSPC, "No space left on device", str(new))
            real(old, new)

        monkeypatch.setattr(files.os, "replace", full)
        with pytest.raises(DataError, match=rf"{name} could not be written .*No space.*: free space"):
            convert(find("events"), paths, tmp_path / "out")
    monkeypatch.setattr(files.os, "replace", real)
    assert sum(convert(find("events"), paths, tmp_path / "out").events.values()) == len(events(tmp_path / "out"))


def test_one_conversion_at_a_time_in_a_folder(tmp_path: Path) -> None:
    paths = kinds(tmp_path, 20)
    with files.held(tmp_path / "out"), pytest.raises(RunError, match="in use by process"):
        convert(find("events"), paths, tmp_path / "out")
    convert(find("events"), paths, tmp_path / "out")
    with files.held(tmp_path / "out"):  # what is finished needs no lock: it may lie where nobody writes
        assert not convert(find("events"), paths, tmp_path / "out").new


def test_published_splits_stay_as_they_are(tmp_path: Path) -> None:
    """Every event of a file is in the split of its folder, which the record says of each source."""
    paths, out = published(tmp_path / "in"), tmp_path / "out"
    made = convert(find("events"), paths, out, "published", shard_events=50)
    counts = {"train": 60 + 61 + 66, "validation": 62 + 63, "test": 64 + 65}
    assert made.events == counts
    assert (sorted(each.name for each in out.iterdir() if each.is_dir())) == sorted(counts)
    record = json.loads((out / "convert.json").read_text())
    assert record["fractions"] == "published"
    assert [(each["name"], each["split"]) for each in record["sources"]] == [
        ("test_20M/HToBB_000.arrow", "test"),
        ("test_20M/ZToQQ_000.arrow", "test"),
        ("train_100M/HToBB_000.arrow", "train"),
        ("train_100M/HToBB_001.arrow", "train"),
        ("train_100M/ZToQQ_000.arrow", "train"),
        ("val_5M/HToBB_000.arrow", "validation"),
        ("val_5M/ZToQQ_000.arrow", "validation"),
    ]
    for split, numbers in (("train", (0, 1, 6)), ("validation", (2, 3)), ("test", (4, 5))):
        ids = np.concatenate([read_events(path).values["event_id"] for path in sorted((out / split).glob("*.arrow"))])
        wanted = np.concatenate([toy_jets(60 + number, number, most=8).values["event_id"] for number in numbers])
        assert sorted(ids) == sorted(wanted)
    before = held(out)
    assert not convert(find("events"), paths[::-1], out, "published", shard_events=50).new
    with pytest.raises(DataError, match=r"fractions was 'published', is \[0.8, 0.1, 0.1\]"):
        convert(find("events"), paths, out, shard_events=50)
    assert held(out) == before
    again = convert(find("events"), sorted(out.glob("*/*.arrow")), tmp_path / "again", "published")
    assert again.events == counts


def test_a_file_that_moved_to_another_split_is_noticed(tmp_path: Path) -> None:
    """Also where its name from the innermost folder is what it was."""
    path, out = tmp_path / "train" / "0.arrow", tmp_path / "out"
    write_events(path, toy_jets(20), {})
    assert convert(find("events"), [path], out, "published").events == {"train": 20, "validation": 0, "test": 0}
    path.parent.rename(tmp_path / "test")
    with pytest.raises(DataError, match=r"another conversion \(0.arrow was for train, is for test\)"):
        convert(find("events"), [tmp_path / "test" / "0.arrow"], out, "published")


def ten_kinds(folder: Path) -> list[Path]:
    """Ten kinds in folders of three splits, half beside the others; two of each to train; no two of one size."""
    folders = ("train_100M/{}_000", "train_100M/{}_001", "val_5M/{}_002", "test_20M/{}_003")
    halves = [("a", kind) for kind in "ABCDE"] + [("b", kind) for kind in "FGHIJ"]
    paths = [folder / half / f"{name.format(kind)}.arrow" for name in folders for half, kind in halves]
    for number, path in enumerate(paths):
        write_events(path, toy_jets(20 + 17 * number % 40, number, most=8), {})
    return paths


def test_the_front_of_each_published_split_holds_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 30 kinds and folders 16 are open; also after stops in each split and where one follows another."""
    paths, whole = ten_kinds(tmp_path / "in"), tmp_path / "whole"
    few_at_a_time(monkeypatch)
    monkeypatch.setattr(turns, "OPEN", 16)
    made = convert(Selected(), paths, whole, "published", 50)
    sizes = [len(read_events(path)) for path in paths]
    assert list(made.events.values()) == [sum(sizes[:20]), sum(sizes[20:30]), sum(sizes[30:])]
    for stopped in (False, True):
        out = tmp_path / "stopped" if stopped else whole
        for most in (130, 700, 790, 850, 1000, 1230) if stopped else ():
            with pytest.raises(KeyboardInterrupt):
                convert(Selected(), paths, out, "published", 50, stop_at(most))
            assert json.loads((out / ".converting").read_text())["mark"]["place"]["events"] > 0
        convert(Selected(), paths, out, "published", 50)
        record = json.loads((out / "convert.json").read_text())
        kind = np.array([Path(source["name"]).stem[:-4] for source in record["sources"]])
        for split in SPLITS:
            front = read_events(out / split / "00000.arrow").values["source_file"][:40]
            assert np.array_equal(kind[front], np.repeat(list("ABCDEFGHIJ"), 4)), split
        assert held(out) == held(whole)


def stop_at(most: int) -> Any:
    """Progress that stops a conversion where so many events are kept."""

    def stop(sources: int, of: int, kept: int) -> None:
        if kept >= most:
            raise KeyboardInterrupt

    return stop


def test_published_splits_begun_in_the_order_of_before_are_refused(tmp_path: Path) -> None:
    """The journal counts the files that were opened and does not name them; by fractions the order is what it was."""
    paths, by_fractions = published(tmp_path / "in"), (0.5, 0.25, 0.25)
    for out, fractions in ((tmp_path / "new", "published"), (tmp_path / "old", by_fractions)):
        with pytest.raises(KeyboardInterrupt):
            convert(Selected(), paths, out, cast(Any, fractions), 10, stop_at(1))
        journal = json.loads((out / ".converting").read_text())
        (out / ".converting").write_text(json.dumps(journal | {"revision": "2"}))
    with pytest.raises(DataError, match=r"another conversion \(revision was '2', is '3'\)"):
        convert(Selected(), paths, tmp_path / "new", "published", 10)
    assert convert(Selected(), paths, tmp_path / "old", by_fractions, 10).new


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("labeled/train/spacepoints_000.npz", "train"),
        ("labeled/validation/spacepoints.npz", "validation"),
        ("Pythia/val_5M/HToBB_120.root", "validation"),
        ("top/val.h5", "validation"),
        ("top/Test.h5", "test"),
        ("testing/0.root", "test"),
        ("training-set/training_3.root", "train"),
        ("valid/trainer.root", "validation"),
    ],
)
def test_the_split_is_what_file_or_folder_is_called_by(name: str, split: str) -> None:
    assert published_splits({name: Path("/data") / name}) == {name: split}


def test_files_without_one_published_split_are_refused() -> None:
    folder = Path("/data")
    names = ("train/0.root", "HToBB/0.root", "test/HToBB/0.root", "validated/0.root", "test/train_0.root")
    with pytest.raises(DataError, match="say none or several") as caught:
        published_splits({name: folder / name for name in names})
    for name, said in zip(names, ("", "none", "none", "none", "train and test"), strict=True):
        assert (f"{folder / name} ({said})" in str(caught.value)) == bool(said)
    with pytest.raises(DataError, match="and 15 more"):
        published_splits({str(n): folder / f"{n}.root" for n in range(20)})
    for wrong in ("publisht", (0.5, 0.5)):
        with pytest.raises(DataError, match="three numbers such as"):
            check_fractions(wrong)


def test_the_command_keeps_published_splits(tmp_path: Path) -> None:
    given = ["convert", "events", *map(str, published(tmp_path / "in", 10)), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*given, "--fractions", "published"])
    assert result.exit_code == 0
    assert "91 events in" in result.stdout
    assert "train 37, validation 25, test 29" in result.stdout


def test_files_of_one_name_in_several_folders_take_turns() -> None:
    paths = [Path(f"{folder}/{number}.root") for folder in ("background", "signal") for number in range(3)]
    assert turns._by_kind(paths) == [0, 3, 1, 4, 2, 5]
    assert turns._by_kind([Path(name) for name in ("H_0.root", "H_1.root", "Z_0.root")]) == [0, 2, 1]


def test_a_chunk_adds_up() -> None:
    jets = toy_jets(5)
    assert Chunk(jets).cuts == {"read": 5}
    assert np.array_equal(Chunk(jets).entries, np.arange(5))
    for cuts, entries, message in (
        ({"read": 5, "pt": 4}, None, "goes from 'read' down to the 5 events kept"),
        ({"pt": 5}, None, "goes from 'read'"),
        ({"read": 9, "pt": 4, "eta": 5}, np.arange(5), "goes from 'read'"),
        ({"read": 9, "pt": 5}, None, "say which with `entries`"),
        ({"read": 9, "pt": 5}, np.arange(4), "one whole number for each"),
        ({"read": 9, "pt": 5}, np.arange(5) + 5, "stay below 9"),
        ({"read": 9, "pt": 5}, np.array([0, 1, 3, 2, 4]), "must rise"),
        ({"read": 9, "pt": 5}, np.arange(5) - 1, "from 0 on"),
    ):
        with pytest.raises(DataError, match=message):
            Chunk(jets, cuts, entries)


def test_what_cannot_be_converted_is_refused(toys: Path, tmp_path: Path) -> None:
    source = next(toys.glob("train/*.arrow"))
    with pytest.raises(DataError, match="allowed: events"):
        find("parquet")
    with pytest.raises(DataError, match=r"did you mean 'table'.*need a mapping"):
        find("tabel")
    with pytest.raises(DataError, match="give the mapping too"):
        find("table")
    with pytest.raises(DataError, match="nothing to convert"):
        convert(find("events"), [], tmp_path)
    with pytest.raises(DataError, match="with a sum of 1"):
        convert(find("events"), [source], tmp_path, (0.5, 0.1, 0.1))
    convert(find("events"), [source], tmp_path / "out")
    (tmp_path / "out" / "convert.json").unlink()
    with pytest.raises(DataError, match="already"):
        convert(find("events"), [source], tmp_path / "out")
    with pytest.raises(DataError, match="is given twice"):
        convert(find("events"), [source, source.parent / "." / source.name], tmp_path / "twice")
    copy = tmp_path / "copy.arrow"
    copy.write_bytes(source.read_bytes())
    with pytest.raises(DataError, match=r"holds the same bytes as .*\.arrow: their events would be in two splits"):
        convert(find("events"), [source, copy], tmp_path / "twice")
    with pytest.raises(DataError, match=r"none\.arrow is not a file"):
        convert(find("events"), [source, tmp_path / "none.arrow"], tmp_path / "twice")
    damaged = tmp_path / "00000.arrow"
    damaged.write_bytes(source.read_bytes()[:-1])
    damaged.with_name("00000.arrow.sums").write_bytes(source.with_name(source.name + ".sums").read_bytes())
    with pytest.raises(CorruptError):
        convert(find("events"), [damaged], tmp_path / "other")


def test_files_of_other_columns_are_refused(tmp_path: Path) -> None:
    jets = toy_jets(100)
    write_events(tmp_path / "a_0.arrow", jets, {})
    schema = tuple(column for column in jets.schema if column.name != "jet_pt")
    fewer = Columns(schema, jets.offsets, {column.name: jets.values[column.name] for column in schema})
    write_events(tmp_path / "b_0.arrow", fewer, {})
    with pytest.raises(DataError, match=r"b_0.arrow has other columns than the files before \(jet_pt\)"):
        convert(find("events"), sorted(tmp_path.glob("*.arrow")), tmp_path / "out")


def test_files_of_different_kinds_take_turns(tmp_path: Path) -> None:
    convert(find("events"), kinds(tmp_path), tmp_path / "out", (1.0, 0.0, 0.0))
    ids = read_events(tmp_path / "out" / "train" / "00000.arrow").values["event_id"]
    assert len(ids) == len(set(ids)) == 806
    assert set(ids[:256] // 1_000_000) == {0, 1, 2, 3}
