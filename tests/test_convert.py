"""Converting: no event lost or twice, splits that share none, identical bytes, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from multiplet.data.arrow import read_events, write_events
from multiplet.data.convert import convert
from multiplet.data.events import SPLITS
from multiplet.data.formats import FORMATS, Format, find
from multiplet.errors import CorruptError, DataError
from toys import toy_jets


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
def test_a_format_keeps_the_contract(format: Format) -> None:
    assert isinstance(format, Format)
    assert all(isinstance(value, str) for value in format.provenance().values())


def test_every_event_is_in_exactly_one_split(toys: Path, tmp_path: Path) -> None:
    sources = sorted(toys.glob("*/*.arrow"))
    counts = convert(find("events"), sources, tmp_path / "out", (0.5, 0.25, 0.25), shard_events=50)
    files = {split: sorted((tmp_path / "out" / split).glob("*.arrow")) for split in SPLITS}
    events = {split: [read_events(file) for file in paths] for split, paths in files.items()}
    assert {split: sum(map(len, parts)) for split, parts in events.items()} == counts
    assert all(len(part) == 50 for parts in events.values() for part in parts[:-1])
    ids = np.concatenate([part.values["event_id"] for parts in events.values() for part in parts])
    truth = np.concatenate([read_events(file).values["event_id"] for file in sources])
    assert sorted(ids) == sorted(truth)
    assert abs(counts["train"] - 210) < 5 * np.sqrt(420 * 0.25)


def test_converting_twice_gives_the_same_bytes(toys: Path, tmp_path: Path) -> None:
    sources = sorted(toys.glob("train/*.arrow"))
    for name, order in (("a", sources), ("b", sources[::-1])):
        convert(find("events"), order, tmp_path / name)
    first, second = ([f.read_bytes() for f in sorted((tmp_path / name).rglob("*.arrow"))] for name in "ab")
    assert first == second


def test_what_cannot_be_converted_is_refused(toys: Path, tmp_path: Path) -> None:
    source = next(toys.glob("train/*.arrow"))
    with pytest.raises(DataError, match="there are: events"):
        find("parquet")
    with pytest.raises(DataError, match="nothing to convert"):
        convert(find("events"), [], tmp_path)
    with pytest.raises(DataError, match="with sum 1"):
        convert(find("events"), [source], tmp_path, (0.5, 0.1, 0.1))
    convert(find("events"), [source], tmp_path / "out")
    with pytest.raises(DataError, match="already"):
        convert(find("events"), [source], tmp_path / "out")
    damaged = tmp_path / "00000.arrow"
    damaged.write_bytes(source.read_bytes()[:-1])
    damaged.with_name("00000.arrow.sums").write_bytes(source.with_name(source.name + ".sums").read_bytes())
    with pytest.raises(CorruptError):
        convert(find("events"), [damaged], tmp_path / "other")


def test_files_of_different_kinds_take_turns(tmp_path: Path) -> None:
    names = ("HToBB_000", "HToBB_001", "ZToQQ_000", "ZToQQ_001")
    for number, name in enumerate(names):
        write_events(tmp_path / f"{name}.arrow", toy_jets(200, seed=number), {})
    convert(find("events"), [tmp_path / f"{name}.arrow" for name in names], tmp_path / "out", (1.0, 0.0, 0.0))
    ids = read_events(tmp_path / "out" / "train" / "00000.arrow").values["event_id"]
    assert len(ids) == 800
    assert len(set(ids)) == 800
    assert set(ids[:256] // 1_000_000) == {0, 1, 2, 3}
