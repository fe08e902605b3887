"""Tables of Prometheus: photons and truth of its Parquet files and databases, event by event, whatever the layout.

Nested Parquet: a row an event, with records mc_truth and photons (or another name). Flat: a row a photon in one table,
a row an event in the table mc_truth, joined by event_no; as two Parquet files, total_0 and mc_truth_0, or in SQLite.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from multiplet.data.columns import count_offsets
from multiplet.data.formats.column_types import REAL, ROUGH, WHOLE, require_types, whole
from multiplet.data.formats.fields import Table
from multiplet.data.formats.parquet_tables import parquet_tables
from multiplet.data.formats.sources import present, reading
from multiplet.errors import DataError

PHOTONS = ("photons", "total", "pulses", "merged_photons", "pulses_no_noise")  # what the flat tables are called
NUMBER = "event_no"
_TRUTH = "mc_truth"
_START = b"SQLite format 3\0"
_POSITION = ("sensor_pos_x", "sensor_pos_y", "sensor_pos_z")
_MAY_BE = ("string_id", "sensor_string_id", "sensor_id", "charge")  # beside the position and t
_TYPES = (  # of photons, and of the truth by our names
    dict.fromkeys((NUMBER, *_MAY_BE[:3]), WHOLE)
    | dict.fromkeys(("t", *_POSITION, "energy", "azimuth", "zenith", "vertex_x", "vertex_y", "vertex_z"), REAL)
    | dict.fromkeys(("charge", "type", "interaction"), ROUGH)
)
_ROWS = 200_000  # of a flat table at a time
_EVENTS = 250  # of a nested one: the brightest have a million photons
_NAMES = {  # in current files, and in legacy ones
    "energy": ("initial_state_energy", "injection_energy"),
    "type": ("initial_state_type", "injection_type"),
    "interaction": ("interaction", "injection_interaction_type"),
    "azimuth": ("initial_state_azimuth", "injection_azimuth"),
    "zenith": ("initial_state_zenith", "injection_zenith"),
    "vertex_x": ("initial_state_x", "injection_position_x"),
    "vertex_y": ("initial_state_y", "injection_position_y"),
    "vertex_z": ("initial_state_z", "injection_position_z"),
}
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Block:
    """Some events of a file: `photons` (offsets[-1],), `truth` (events,) by the names above, and their numbers."""

    offsets: np.ndarray
    photons: Arrays
    truth: Arrays
    numbers: np.ndarray
    named: bool  # whether the file itself gives the numbers


def blocks(source: Path) -> Iterator[Block]:
    """All events of a file; of flat tables those without a photon come last.

    Raises DataError for a file that is damaged or of another layout, and for photons and truth that do not fit.
    """
    with reading(present(source), "its first bytes"), source.open("rb") as file:
        start = file.read(len(_START))
    if start == _START or source.suffix in (".db", ".sqlite", ".sqlite3"):
        yield from _from_database(source)
        return
    if source.stem.startswith(_TRUTH):
        raise DataError(f"{source} holds the truth, which is read with the photons: give the files of photons only")
    with parquet_tables(source) as opened:
        table = opened.open("")
        if NUMBER in table.fields:
            number = re.search(r"(_\d+)?$", source.stem)
            assert number is not None
            yield from _grouped(source, _rows(table), _beside(source, f"{_TRUTH}{number[0]}.parquet"))
        else:
            yield from _nested(table)


def _nested(table: Table) -> Iterator[Block]:
    held = {*table.fields}
    name = next((one.rpartition(".")[0] for one in table.fields if one.endswith(f".{_POSITION[0]}")), "photons")
    photons = _photon_names(table.source, {one.removeprefix(f"{name}.") for one in held if one.startswith(f"{name}.")})
    truth = _truth_names(table.source, {one.removeprefix(f"{_TRUTH}.") for one in held})
    wanted = {f"{name}.{one}": _TYPES[one] for one in photons}
    wanted |= {f"{_TRUTH}.{one}": _TYPES[ours] for ours, one in truth.items()}
    _require(table, wanted)
    first = 0
    for arrays in table.iterate(list(wanted), _EVENTS):
        offsets = arrays[f"{name}.t"].offsets
        for one in photons:
            other = arrays[f"{name}.{one}"].offsets
            if offsets is None or other is None or not np.array_equal(offsets, other):
                raise DataError(f"{table.source}: {name}.{one} has not one number for each photon")
        assert offsets is not None
        yield Block(
            offsets,
            {one: arrays[f"{name}.{one}"].values for one in photons},
            {ours: arrays[f"{_TRUTH}.{one}"].values for ours, one in truth.items()},
            np.arange(first, first + len(offsets) - 1),
            False,
        )
        first += len(offsets) - 1


def _require(table: Table, wanted: Mapping[str, tuple[str, ...]]) -> None:
    """DataError for all columns whose type cannot hold what they mean."""
    require_types(table.source, {name: field.dtype for name, field in table.fields.items()}, wanted)


def _photon_names(source: Path, held: set[str]) -> list[str]:
    if lacking := [name for name in ("t", *_POSITION) if name not in held]:
        raise DataError(f"{source}: its photons lack {', '.join(lacking)}: is it a file of Prometheus?")
    return ["t", *_POSITION, *(name for name in _MAY_BE if name in held)]


def _truth_names(source: Path, held: set[str]) -> dict[str, str]:
    """Our name → the file's."""
    found = {ours: next((name for name in names if name in held), "") for ours, names in _NAMES.items()}
    if lacking := [" or ".join(_NAMES[ours]) for ours, name in found.items() if not name]:
        raise DataError(f"{source}: its {_TRUTH} lacks {', '.join(lacking)}: is it a file of Prometheus?")
    return found


def _rows(table: Table) -> Iterator[Arrays]:
    """The rows of a flat Parquet file."""
    names = [NUMBER, *_photon_names(table.source, {*table.fields})]
    _require(table, {name: _TYPES[name] for name in names})
    for arrays in table.iterate(names, _ROWS):
        yield {name: one.values for name, one in arrays.items()}


def _beside(source: Path, name: str) -> Arrays:
    """The truth of a flat Parquet file, from the same folder or the folder mc_truth beside it."""
    places = (source.with_name(name), source.absolute().parent.parent / _TRUTH / name)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise DataError(f"{source} needs its truth: put {name} into its folder, or into {places[1].parent}")
    with parquet_tables(path) as opened:
        table = opened.open("")
        names = {NUMBER: NUMBER} | _truth_names(path, {*table.fields})
        _require(table, {name: _TYPES[ours] for ours, name in names.items()})
        parts = list(table.iterate(list(names.values()), _ROWS))
    truth = {ours: np.concatenate([part[name].values for part in parts]) for ours, name in names.items()}
    return _sorted(path, truth)


def _sorted(source: Path, truth: Arrays) -> Arrays:
    """The truth by event number; DataError where two events have one."""
    order = np.argsort(whole(source, NUMBER, truth[NUMBER]), kind="stable")
    truth = {name: value[order] for name, value in truth.items()}
    number = truth[NUMBER]
    if (twice := number[1:] == number[:-1]).any():
        raise DataError(f"{source}: {NUMBER} {number[np.argmax(twice)]:g} is there twice in {_TRUTH}: name each once")
    return truth


@dataclass(frozen=True)
class _Database:
    """An open SQLite file; whatever it raises names the file."""

    source: Path
    connection: sqlite3.Connection

    def ask(self, question: str, *values: str) -> list[Any]:
        with reading(self.source, "the database"):
            return self.connection.execute(question, values).fetchall()

    def columns(self, table: str) -> set[str]:
        return {name for (name,) in self.ask("SELECT name FROM pragma_table_info(?)", table)}

    def read(self, table: str, names: Sequence[str]) -> Iterator[Arrays]:
        """These columns in the order of events; tables and columns are called as above, nothing else is asked for."""
        question = f"SELECT {', '.join(names)} FROM {table} ORDER BY {NUMBER}"
        rows: list[Any] | None = None
        with reading(self.source, f"table {table}"):
            cursor = self.connection.execute(question)
        while rows is None or len(rows) == _ROWS:
            with reading(self.source, f"table {table}"):
                rows = cursor.fetchmany(_ROWS)
                values = np.array(rows, np.float64).reshape(len(rows), len(names))
            yield dict(zip(names, values.T, strict=True))


def _from_database(source: Path) -> Iterator[Block]:
    """A SQLite database, opened for reading only, its photons in the order of their events."""
    with reading(source, "the database"):
        connection = sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)
    with closing(connection):
        file = _Database(source, connection)
        tables = sorted(name for (name,) in file.ask("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"))
        found = [name for name in PHOTONS if name in tables]
        if len(found) != 1 or _TRUTH not in tables:
            raise DataError(
                f"{source} holds the tables {', '.join(tables) or '(none)'}: {_TRUTH} and one, only one, of "
                f"{', '.join(PHOTONS)} are needed: copy these into a file of their own"
            )
        names = {NUMBER: NUMBER} | _truth_names(source, file.columns(_TRUTH))
        parts = list(file.read(_TRUTH, list(names.values())))
        truth = {ours: np.concatenate([part[name] for part in parts]) for ours, name in names.items()}
        photons = [NUMBER, *_photon_names(source, file.columns(found[0]))]
        yield from _grouped(source, file.read(found[0], photons), _sorted(source, truth))


def _grouped(source: Path, pieces: Iterator[Arrays], truth: Arrays) -> Iterator[Block]:
    """Rows as whole events, each with its truth, then the events without a row."""
    seen = np.zeros(len(truth[NUMBER]), bool)
    held: Arrays = {}
    for piece in chain(pieces, [None]):
        rows = {name: np.concatenate([held[name], piece[name]]) for name in piece} if held and piece else piece or held
        number = rows[NUMBER]
        begins = np.flatnonzero(np.diff(number, prepend=np.nan) != 0)  # NaN differs from all
        whole = int(begins[-1]) if piece is not None and len(begins) else len(number)
        held = {name: value[whole:] for name, value in rows.items()}
        begins = begins[begins < whole]
        if len(begins):
            photons = {name: value[:whole] for name, value in rows.items() if name != NUMBER}
            counts = np.diff(np.append(begins, whole))
            yield _block(source, number[begins], counts, photons, truth, seen)
    if not seen.all():
        dark = {name: value[:0] for name, value in held.items() if name != NUMBER}
        yield _block(source, truth[NUMBER][~seen], np.zeros((~seen).sum(), int), dark, truth, seen)


def _block(
    source: Path, numbers: np.ndarray, counts: np.ndarray, photons: Arrays, truth: Arrays, seen: np.ndarray
) -> Block:
    at = np.minimum(np.searchsorted(truth[NUMBER], numbers), max(len(seen) - 1, 0))
    if not len(seen) or (bad := truth[NUMBER][at] != numbers).any():
        number = numbers[np.argmax(bad)] if len(seen) else numbers[0]
        raise DataError(f"{source}: event {number:g} has photons and is not in {_TRUTH}: take both from one run")
    again = seen[at]
    again[1:] |= np.bincount(at, minlength=len(seen))[at[1:]] > 1
    if again.any():
        raise DataError(f"{source}: photons of event {numbers[np.argmax(again)]:g} lie apart: sort them by {NUMBER}")
    seen[at] = True
    own = {name: value[at] for name, value in truth.items() if name != NUMBER}
    return Block(count_offsets(counts), photons, own, truth[NUMBER][at].astype(np.int64), True)
