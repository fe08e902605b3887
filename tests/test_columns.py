"""Columns: events in flat arrays; what does not hold together is refused with every fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multiplet.data.columns import DTYPES, Column, Columns, concatenate
from multiplet.errors import DataError
from toys import SCHEMA, toy_jets

E, X, LABEL = (
    Column("e", "GeV"),
    Column("x", dtype="int8"),
    Column("label", level="event", truth=True, dtype="int16", classes=("a", "b")),
)


def columns(counts: Sequence[int], start: int = 0) -> Columns:
    """Events with these numbers of points, every value told apart from all others by `start`."""
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    points, events = int(offsets[-1]), len(counts)
    values = {
        "e": np.arange(start, start + points, dtype=np.float32),
        "x": (np.arange(points) % 100).astype(np.int8),
        "label": np.arange(start, start + events, dtype=np.int16),
    }
    return Columns((E, X, LABEL), offsets, values)


def events(of: Columns) -> list[Any]:
    """Each event as plain lists: a slow way to look at them."""
    rows = []
    for number in range(len(of)):
        low, high = of.offsets[number], of.offsets[number + 1]
        at = {"point": slice(low, high), "event": slice(number, number + 1)}
        rows.append({c.name: of.values[c.name][at[c.level]].tolist() for c in of.schema})
    return rows


counts_lists = st.lists(st.integers(0, 4), max_size=6)


# --- taking and joining -----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(counts_lists, st.data())
def test_events_are_taken_in_any_order_and_more_than_once(counts: list[int], data: st.DataObject) -> None:
    whole = columns(counts)
    places = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=8)) if counts else []
    part = whole.take(np.array(places, np.int64))
    assert events(part) == [events(whole)[place] for place in places]
    assert part.schema == whole.schema
    assert {name: value.dtype for name, value in part.values.items()} == {c.name: c.dtype for c in whole.schema}


@pytest.mark.parametrize("places", [[-1], [3], [0, 99], [0.0], [True, False, True], [-(2**40)]])
def test_a_position_that_there_is_not_is_refused(places: list[Any]) -> None:
    with pytest.raises(DataError, match="positions are integers from 0 to 2"):
        columns([1, 0, 2]).take(np.array(places))


def test_nothing_can_be_taken_from_nothing() -> None:
    assert len(columns([]).take(np.array([], np.int64))) == 0
    with pytest.raises(DataError, match="positions are integers"):
        columns([]).take(np.array([0]))


@settings(max_examples=60, deadline=None)
@given(st.lists(counts_lists, min_size=1, max_size=4))
def test_joined_parts_hold_their_events_in_a_row(parts: list[list[int]]) -> None:
    made = [columns(counts, 100 * number) for number, counts in enumerate(parts)]
    joined = concatenate(made)
    assert events(joined) == [event for part in made for event in events(part)]
    assert joined.offsets.dtype == np.int64


def test_parts_of_other_schemas_are_not_joined() -> None:
    other = columns([1])
    renamed = Columns((replace(E, unit="MeV"), X, LABEL), other.offsets, other.values)
    with pytest.raises(DataError, match="part 1 has another schema than part 0"):
        concatenate([other, renamed])
    with pytest.raises(DataError, match="nothing to concatenate"):
        concatenate([])


def test_toys_hold_together() -> None:
    jets = toy_jets(20)
    assert len(jets) == 20
    assert {name: value.dtype for name, value in jets.values.items()} == {c.name: c.dtype for c in SCHEMA}


# --- faults -----------------------------------------------------------------------------------------------------------

GOOD = columns([2, 0, 1])


def fault(schema: Sequence[Column] = GOOD.schema, offsets: Any = GOOD.offsets, **values: Any) -> str:
    with pytest.raises(DataError, match="these columns do not hold together: ") as caught:
        Columns(tuple(schema), offsets, {**GOOD.values, **values})
    return str(caught.value).partition("together: ")[2]


@pytest.mark.parametrize(
    "offsets",
    [
        np.array([0, 2, 2, 3], np.int32),
        np.array([0.0, 2, 2, 3]),
        np.array([1, 2, 2, 3]),
        np.zeros((2, 2), np.int64),
        np.zeros(0, np.int64),
        np.array(0),
    ],
)
def test_offsets_of_another_kind_are_refused(offsets: np.ndarray) -> None:
    assert fault(offsets=offsets) == "offsets must be an int64 array, one-dimensional and starting at 0"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"offsets": np.array([0, 2, 1, 3])}, "offsets fall at event 1"),
        ({"e": np.zeros(4, np.float32)}, "e has shape (4,) where (3,) is needed"),
        ({"e": np.zeros((3, 1), np.float32)}, "e has shape (3, 1) where (3,) is needed"),
        ({"label": np.zeros(4, np.int16)}, "label has shape (4,) where (3,) is needed"),
        ({"e": np.zeros(3)}, "e is float64 where the schema says float32"),
        ({"e": np.zeros(3, ">f4")}, "e is >f4 where the schema says float32"),
        ({"new": np.zeros(3)}, "schema and values differ in ['new']"),
        ({"schema": (E, X)}, "schema and values differ in ['label']"),
        ({"schema": (E, X, LABEL, E)}, "columns named twice: ['e']"),
        ({"schema": (E, replace(X, dtype="bool"), LABEL)}, "x is bool in the schema: columns hold one of int8, "),
        ({"schema": (replace(E, dtype="f4"), X, LABEL)}, "e is f4 in the schema: columns hold one of int8, "),
        ({"schema": (replace(E, dtype="nonsense"), X, LABEL)}, "e is nonsense in the schema: columns hold one of"),
    ],
)
def test_each_fault_is_named(given: dict[str, Any], message: str) -> None:
    assert fault(**given).startswith(message)


def test_a_level_of_ones_own_is_refused() -> None:
    column = Column("e")
    object.__setattr__(column, "level", "points")  # the checker of the tests would not let it be made so
    assert "e has level 'points': it is 'point' or 'event'" in fault((column, X, LABEL))


def test_all_faults_are_named_at_once() -> None:
    found = fault(offsets=np.array([0, 2, 1, 3]), e=np.zeros(1), x=np.zeros(1, np.int8))
    assert [text.split(" ")[0] for text in found.split("; ")] == ["offsets", "e", "x"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_allowed_type_is_one_of_numpy_under_its_own_name(dtype: str) -> None:
    column = Column("e", dtype=dtype)
    assert np.dtype(dtype).name == dtype
    assert len(Columns((column,), np.array([0, 2]), {"e": np.zeros(2, dtype)})) == 1
