"""Event files: what is written is read back, by any Arrow reader; and no changed byte goes unseen."""

from __future__ import annotations

import json
import os
import pickle
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multiplet import files
from multiplet.data import arrow
from multiplet.data.arrow import EventFile, read_events, sums_path, write_events
from multiplet.data.columns import DTYPES, Column, Columns
from multiplet.errors import CorruptError, DataError
from multiplet.files import read_json, write_json
from toys import toy_jets

ABOUT = {"source": "toys", "seed": "1"}


def equal(one: Columns, other: Columns) -> bool:
    return (
        one.schema == other.schema
        and one.offsets.tolist() == other.offsets.tolist()
        and all(one.values[c.name].dtype == c.dtype for c in other.schema)
        and all(one.values[c.name].tobytes() == other.values[c.name].tobytes() for c in other.schema)
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "00000.arrow"


@pytest.fixture
def in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record batches of four events."""
    monkeypatch.setattr(arrow, "_BATCH_EVENTS", 4)


# --- there and back ---------------------------------------------------------------------------------------------------

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=4)
column_lists = st.lists(
    st.fixed_dictionaries(
        {
            "name": names.filter(lambda name: name != "points"),
            "unit": st.sampled_from(["", "GeV", "µm"]),
            "level": st.sampled_from(["point", "event"]),
            "truth": st.booleans(),
            "dtype": st.sampled_from(DTYPES),
            "classes": st.sampled_from([(), ("a", "b")]),
            "about": st.sampled_from(["", 'in "quotes"']),
        }
    ),
    max_size=4,
    unique_by=lambda column: column["name"],
)


@settings(max_examples=60, deadline=None)
@given(said=column_lists, counts=st.lists(st.integers(0, 5), max_size=10), seed=st.integers(0, 99))
def test_any_columns_are_read_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, said: list[dict[str, Any]], counts: list[int], seed: int
) -> None:
    schema = tuple(Column(**column) for column in said)
    path = tmp_path_factory.getbasetemp() / "any.arrow"
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    sizes = {"point": int(offsets[-1]), "event": len(counts)}
    values = {c.name: np.frombuffer(rng.bytes(8 * sizes[c.level]), c.dtype)[: sizes[c.level]] for c in schema}
    written = Columns(schema, offsets, values)
    write_events(path, written, ABOUT)
    assert equal(read_events(path), written)
    assert EventFile(path).provenance == ABOUT


def test_a_file_without_events_is_a_file(path: Path) -> None:
    none = toy_jets(5).take(np.array([], np.int64))
    write_events(path, none, ABOUT)
    assert equal(read_events(path), none)
    assert [length.tolist() for length in EventFile(path).lengths] == [[]]


@pytest.mark.usefixtures("in_batches")
def test_lengths_and_views_are_of_the_record_batches(path: Path) -> None:
    jets = toy_jets(10)
    write_events(path, jets, ABOUT)
    file = EventFile(path)
    assert file.batches == 3
    assert [len(length) for length in file.lengths] == [4, 4, 2]
    assert np.concatenate(file.lengths).tolist() == np.diff(jets.offsets).tolist()
    assert equal(file.columns(1), jets.take(np.arange(4, 8)))
    assert file.columns(1) is file.columns(1)
    assert not any(value.flags.writeable for value in file.columns(1).values.values())


@pytest.mark.parametrize(("limit", "events"), [(1, [1] * 6), (400, [1, 1, 3, 1]), (10**9, [6])])
def test_a_record_batch_is_limited_in_bytes_but_holds_one_event_at_least(
    path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, events: list[int]
) -> None:
    monkeypatch.setattr(arrow, "_BATCH_BYTES", limit)
    counts = [30, 1000, 20, 30, 0, 90]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    schema = (Column("x"), Column("y", dtype="float32"), Column("id", level="event", dtype="int64"))
    x = np.arange(offsets[-1], dtype=np.float32)
    written = Columns(schema, offsets, {"x": x, "y": -x, "id": np.arange(6)})
    write_events(path, written, ABOUT)
    assert [len(length) for length in EventFile(path).lengths] == events
    assert equal(read_events(path), written)


def test_an_event_column_may_not_take_the_name_of_the_points(path: Path) -> None:
    columns = Columns((Column("points", level="event"),), np.array([0, 0]), {"points": np.zeros(1, np.float32)})
    with pytest.raises(DataError, match="an event column may not be called 'points'"):
        write_events(path, columns, ABOUT)
    assert list(path.parent.iterdir()) == []


# --- what others see --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("in_batches")
def test_any_arrow_reader_reads_the_points_as_a_list_of_structs(path: Path) -> None:
    jets = toy_jets(10)
    write_events(path, jets, ABOUT)
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    table.validate(full=True)
    assert pa.types.is_list(table.schema.field("points").type)
    assert pa.types.is_struct(table.schema.field("points").type.value_type)
    point = [c.name for c in jets.schema if c.level == "point"]
    event = [c.name for c in jets.schema if c.level == "event"]
    assert table.column_names == ["points", *event]
    for number, row in enumerate(table.to_pylist()):
        low, high = jets.offsets[number], jets.offsets[number + 1]
        assert {name: row[name] for name in event} == {name: jets.values[name][number].item() for name in event}
        assert row["points"] == [{name: jets.values[name][i].item() for name in point} for i in range(low, high)]


def test_the_schema_says_what_columns_mean_and_nothing_of_when_and_where(path: Path) -> None:
    write_events(path, toy_jets(10), ABOUT)
    schema = pa.ipc.open_file(path).schema
    assert list(schema.metadata) == [b"multiplet"]
    assert all(field.metadata is None for field in [*schema, *schema.field("points").type.value_type])
    about = json.loads(schema.metadata[b"multiplet"])
    assert list(about) == ["format", "columns", "provenance"]
    assert about["provenance"] == ABOUT
    assert about["columns"][0] == {
        "name": "px", "unit": "GeV", "level": "point", "truth": False, "dtype": "float32", "classes": [], "about": ""
    }  # fmt: skip
    assert list(read_json(sums_path(path))) == ["format", "edges", "crc32", "self"]


def test_the_same_events_give_the_same_bytes(path: Path) -> None:
    other = path.parent / "elsewhere" / "b.arrow"
    write_events(path, toy_jets(50), ABOUT)
    write_events(other, toy_jets(50), dict(reversed(ABOUT.items())))
    assert path.read_bytes() == other.read_bytes()
    assert sums_path(path).read_bytes() == sums_path(other).read_bytes()
    write_events(other, toy_jets(50), {**ABOUT, "seed": "2"})
    assert path.read_bytes() != other.read_bytes()


def test_files_follow_the_umask_and_nothing_else_is_left(path: Path) -> None:
    write_events(path, toy_jets(3), ABOUT)
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, sums_path(path).name]
    (path.parent / "other").touch()
    assert {p.stat().st_mode for p in path.parent.iterdir()} == {(path.parent / "other").stat().st_mode}


# --- damage -----------------------------------------------------------------------------------------------------------


def read_whole(path: Path) -> None:
    """Everything that can be read of a file, in both ways."""
    read_events(path)
    file = EventFile(path)
    assert len(file.lengths) == len([file.columns(number) for number in range(file.batches)])


def places(path: Path, count: int) -> Iterator[tuple[int, int]]:
    """Bits of a file, spread evenly over its bytes, the ends among them."""
    size, rng = path.stat().st_size, np.random.default_rng(0)
    for place in dict.fromkeys(np.linspace(0, size - 1, count).astype(int).tolist()):
        yield place, 1 << int(rng.integers(8))


@pytest.mark.usefixtures("in_batches")
@pytest.mark.parametrize(("damaged", "count"), [("file", 1000), ("sums", 400)])
def test_any_flipped_bit_is_seen(path: Path, damaged: str, count: int) -> None:
    """1,000 flips over the file and one in every byte of its sums: all are seen, none is harmless."""
    write_events(path, toy_jets(10), ABOUT)
    target = path if damaged == "file" else sums_path(path)
    whole = target.read_bytes()
    flips = list(places(target, count))
    assert len(flips) == min(count, len(whole))
    for place, bit in flips:
        target.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        for read in (read_events, read_whole):
            with pytest.raises(CorruptError):
                read(path)
    target.write_bytes(whole)
    read_whole(path)


@pytest.mark.usefixtures("in_batches")
def test_every_bit_of_heads_and_footer_is_checked_before_it_is_believed(path: Path) -> None:
    """Whatever the first batch's head and the footer turn into, opening and lengths refuse it."""
    write_events(path, toy_jets(6), ABOUT)
    edges, whole = read_json(sums_path(path))["edges"], path.read_bytes()
    rng = np.random.default_rng(1)
    for start, stop in ((edges[0], edges[1]), (edges[2], edges[3]), (edges[-2], edges[-1])):
        for place in rng.integers(start, stop, 40).tolist():
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            with pytest.raises(CorruptError, match="are not what was written: copy the file again"):
                _ = EventFile(path).lengths


@pytest.mark.usefixtures("in_batches")
def test_values_are_checked_when_first_touched_and_not_before(path: Path) -> None:
    jets = toy_jets(10)
    write_events(path, jets, ABOUT)
    start, stop = read_json(sums_path(path))["edges"][3:5]
    damaged = bytearray(path.read_bytes())
    damaged[(start + stop) // 2] ^= 1
    path.write_bytes(damaged)
    file = EventFile(path)
    assert np.concatenate(file.lengths).tolist() == np.diff(jets.offsets).tolist()
    assert equal(file.columns(0), jets.take(np.arange(4)))
    for _ in range(2):
        with pytest.raises(CorruptError, match=f"bytes {start} to {stop} are not what was written"):
            file.columns(1)


@pytest.mark.usefixtures("in_batches")
def test_the_segments_are_heads_that_end_with_offsets_then_values_then_the_footer(path: Path) -> None:
    jets = toy_jets(10)
    write_events(path, jets, ABOUT)
    sums, whole = read_json(sums_path(path)), path.read_bytes()
    edges = sums["edges"]
    assert (edges[0], edges[-1], len(edges)) == (0, len(whole), 8)
    assert edges == sorted(edges)
    assert sums["crc32"] == [zlib.crc32(whole[start:stop]) for start, stop in pairwise(edges)]
    for batch, (first, last) in enumerate(((0, 4), (4, 8), (8, 10))):
        end = edges[1 + 2 * batch]
        offsets = np.frombuffer(whole[end - 4 * (last - first + 1) : end], np.int32)
        assert offsets.tolist() == (jets.offsets[first : last + 1] - jets.offsets[first]).tolist()


@pytest.mark.usefixtures("in_batches")
def test_one_segment_a_batch_is_read_as_well(path: Path) -> None:
    """As the first development versions wrote them."""
    jets = toy_jets(10)
    write_events(path, jets, ABOUT)
    edges = read_json(sums_path(path))["edges"]
    write_json(sums_path(path), arrow._sums(path, [*edges[::2], edges[-1]]))
    assert equal(read_events(path), jets)
    damaged = bytearray(path.read_bytes())
    damaged[edges[4] - 1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CorruptError):
        _ = EventFile(path).lengths


@pytest.mark.usefixtures("in_batches")
@pytest.mark.parametrize("damaged", ["file", "sums"])
def test_any_truncation_is_seen(path: Path, damaged: str) -> None:
    write_events(path, toy_jets(10), ABOUT)
    target = path if damaged == "file" else sums_path(path)
    whole = target.read_bytes()
    for size in {*np.linspace(0, len(whole) - 2, 200).astype(int).tolist(), len(whole) - 2}:
        target.write_bytes(whole[:size])
        with pytest.raises(CorruptError):
            EventFile(path)
    target.write_bytes(whole + b"\0")
    with pytest.raises(CorruptError):
        EventFile(path)


def signed(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "self": zlib.crc32(json.dumps(body).encode())}


@pytest.mark.parametrize(
    "body", [{"format": 2, "edges": [0], "crc32": []}, {"format": 9, "blake3": ["x"]}, {"edges": [], "crc32": []}]
)
def test_a_format_of_another_version_is_named(path: Path, body: dict[str, Any]) -> None:
    write_events(path, toy_jets(3), ABOUT)
    write_json(sums_path(path), signed(body))
    with pytest.raises(DataError, match=rf"has format {body.get('format')}; this version reads 1: convert it again"):
        EventFile(path)


@pytest.mark.parametrize("sums", [[], {}, {"self": 5}, "x", {"format": 1, "edges": [0], "crc32": []}])
def test_sums_of_another_kind_are_damage(path: Path, sums: Any) -> None:
    write_events(path, toy_jets(3), ABOUT)
    write_json(sums_path(path), sums)
    with pytest.raises(CorruptError, match="is damaged: copy it again"):
        EventFile(path)


def test_a_missing_file_or_missing_sums_are_named(path: Path) -> None:
    with pytest.raises(DataError, match=r"00000\.arrow is not a file"):
        EventFile(path)
    write_events(path, toy_jets(3), ABOUT)
    sums_path(path).unlink()
    with pytest.raises(DataError, match=r"00000\.arrow\.sums is missing: copy it together with 00000\.arrow"):
        EventFile(path)


def plain(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"x": [1.0, 2.0]}),
        pa.table({"x": [1.0]}, metadata={"multiplet": "no json"}),
        pa.table({"x": [1.0]}, metadata={"multiplet": "{}"}),
        pa.table({"x": [1.0]}, metadata={"multiplet": '{"columns": [{"what": 1}], "provenance": {}}'}),
    ],
)
def test_arrow_that_is_no_event_file_is_named(path: Path, table: pa.Table) -> None:
    plain(table, path)
    write_json(sums_path(path), arrow._sums(path, [0, 8, path.stat().st_size]))
    with pytest.raises(DataError, match="is Arrow, but not an event file of this package"):
        EventFile(path)


# --- open files -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_open_event_files_hold_no_descriptors_and_no_memory(path: Path) -> None:
    jets = toy_jets(2000)
    write_events(path, jets, ABOUT)
    before, bytes_before = len(os.listdir("/proc/self/fd")), pa.total_allocated_bytes()
    opened = [EventFile(path) for _ in range(20)]
    views = [file.columns(0) for file in opened]
    assert len(os.listdir("/proc/self/fd")) == before
    assert pa.total_allocated_bytes() - bytes_before < path.stat().st_size
    assert all(equal(view, jets) for view in views)


def test_a_file_travels_as_its_path_and_is_mapped_again(path: Path) -> None:
    jets = toy_jets(200)
    write_events(path, jets, ABOUT)
    file = EventFile(path)
    file.columns(0)
    sent = pickle.dumps(file)
    assert len(sent) < 500
    assert equal(pickle.loads(sent).columns(0), jets)


# --- a kill while writing ---------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for the end of the process."""


def dying(real: Callable[..., Any], countdown: list[int]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        countdown[0] -= 1
        if countdown[0] < 0:
            raise Killed
        return real(*arguments, **options)

    return call


def killed(path: Path, columns: Columns, calls: int) -> bool:
    """Write, and die after so many calls; False where it was done by then."""
    countdown = [calls]
    with pytest.MonkeyPatch.context() as patch:
        steps: Sequence[tuple[Any, str]] = (
            (arrow, "_write"),
            (arrow, "write_json"),
            (files, "flush"),
            (os, "replace"),
            (os, "unlink"),
        )
        for module, name in steps:
            patch.setattr(module, name, dying(getattr(module, name), countdown))
        try:
            write_events(path, columns, ABOUT)
        except Killed:
            return True
    return False


def test_a_full_disk_leaves_the_old_file_and_is_an_error_that_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, names = toy_jets(20), [sums_path(path).name, path.name]
    write_events(path, old, ABOUT)
    monkeypatch.setattr(arrow.pa, "OSFile", lambda *_: open("/dev/full", "wb"))  # noqa: SIM115
    with pytest.raises(DataError, match=r"00000\.arrow could not be written .*No space left.*: free space"):
        write_events(path, toy_jets(20, 1), ABOUT)
    monkeypatch.undo()
    assert equal(read_events(path), old)
    assert sorted(os.listdir(path.parent)) == sorted(names)


def test_a_kill_while_writing_leaves_no_file_or_a_whole_one(path: Path) -> None:
    jets = toy_jets(20)
    for calls in range(50):
        folder = path.parent / str(calls)
        if not killed(folder / "x.arrow", jets, calls):
            break
        for found in folder.glob("*.arrow"):
            assert equal(read_events(found), jets)
        write_events(folder / "x.arrow", jets, ABOUT)
        assert equal(read_events(folder / "x.arrow"), jets)
    assert 5 < calls < 49


def test_a_kill_while_writing_over_a_file_never_gives_other_events(path: Path) -> None:
    """Two names cannot change at once: in between the file is refused, and is never read as what it is not."""
    old, new = toy_jets(20, 0), toy_jets(20, 1)
    outcomes = []
    for calls in range(50):
        write_events(path, old, ABOUT)
        if not killed(path, new, calls):
            break
        try:
            found = read_events(path)
            outcomes.append("old" if equal(found, old) else "new" if equal(found, new) else "other")
        except CorruptError:
            outcomes.append("refused")
    assert {*outcomes} == {"old", "refused", "new"}
    assert outcomes[0] == "old"
