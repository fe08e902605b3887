"""Samples: the first entries of a table, and what its columns and collections are like there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import nan, prod

import numpy as np

from multiplet.data import guesses
from multiplet.data.columns import count_offsets
from multiplet.data.formats.fields import Field, Held, Jagged, Table
from multiplet.errors import MultipletError

_STEP, _VALUES = 500, 1_000_000  # entries read at once; values of a column in the sample
_LISTS, _SINGLES = 32, 512  # columns read at once: each reading looks through all branches of a tree
_SENTINELS = (-9.0, -10.0, -99.0, -999.0, -9999.0, -99999.0, 999.0, 9999.0, 99999.0)
_PADDING = ((0.0, 0.2), (-1.0, 0.05))  # suspicious of a floating number from this share of all values on


@dataclass(frozen=True)
class ColumnLook:
    """One column of numbers: its type, what its values are like in the sample, and what it may mean."""

    field: Field
    values: int = 0  # numbers in the sample
    low: float = nan  # least, median and largest of the finite ones
    median: float = nan
    high: float = nan
    whole: bool = False  # only whole numbers
    nonfinite: float = 0.0  # share of NaN and ±inf
    repeated: tuple[float, float] | None = None  # a suspicious value and its share
    unit: str = ""
    role: str = ""  # what it may be for
    told: bool = False  # whether unit and role stand in the file, as in event files; else they are guessed
    fault: str = ""  # why its values cannot be read


@dataclass(frozen=True)
class Collection:
    """Columns of lists that have the same lengths, and their lengths in the sample."""

    name: str
    columns: tuple[str, ...]
    mean: float
    most: int
    like: tuple[str, ...] = ()  # other collections with the same lengths


@dataclass(frozen=True)
class TableLook:
    """One table: its columns and collections."""

    held: Held
    sampled: int  # entries
    columns: dict[str, ColumnLook]
    collections: tuple[Collection, ...]
    unreadable: dict[str, str]


def look(table: Table, events: int) -> TableLook:
    """The columns of a table as they are in its first `events` entries, or fewer where the lists are very long."""
    columns: dict[str, ColumnLook] = {}
    counts: dict[str, np.ndarray] = {}
    few: dict[str, np.ndarray] = {}  # columns of whole numbers with one an entry: labels, counters
    for names in _batches(table):
        for name, read in _sample(table, names, events).items():
            if isinstance(read, MultipletError):
                columns[name] = ColumnLook(table.fields[name], fault=str(read))
                continue
            columns[name] = _column(table.fields[name], read.values)
            if read.offsets is not None:
                counts[name] = np.diff(read.offsets)
            elif not table.fields[name].width and columns[name].role != "identifier":
                few[name] = read.values if columns[name].whole else read.values[:0]
    columns = {name: columns[name] for name in table.fields}
    collections = _collections(counts)
    _tell_units(columns)
    _tell_labels(columns, few)
    _tell_counters(columns, few, collections, counts)
    sampled = max([len(values) for values in (*counts.values(), *few.values())], default=0)
    return TableLook(Held(table.name, table.kind, table.entries), sampled, columns, collections, dict(table.unreadable))


def _batches(table: Table) -> Iterator[list[str]]:
    """Columns to read together: single numbers; then lists by their stems; what is wide alone."""
    groups: dict[object, list[str]] = {}
    for name, one in table.fields.items():
        key = name if one.width else (one.depth, _stem(name) if one.depth else "")
        groups.setdefault(key, []).append(name)
    for names in groups.values():
        together = _LISTS if table.fields[names[0]].depth else _SINGLES
        for start in range(0, len(names), together):
            yield names[start : start + together]


def _stem(name: str) -> str:
    """What a column's name begins with, up to the first mark that divides it."""
    return name.split("_")[0].rpartition(".")[0] or name.split("_")[0] if ("_" in name or "." in name) else ""


def _sample(table: Table, names: Sequence[str], events: int) -> dict[str, Jagged | MultipletError]:
    """The first entries of these columns; an error of a column that cannot be read."""
    parts: dict[str, list[Jagged]] = {name: [] for name in names}
    begun, widest = 0, max(prod(table.fields[name].width) for name in names)
    try:
        for chunk in table.iterate(names, max(1, min(_STEP, events, _VALUES // max(widest, 1)))):
            here = min(next(iter(chunk.values())).entries, events - begun)
            for name, read in chunk.items():
                parts[name].append(_first(read, here))
            begun += here
            if begun >= events or max(sum(one.values.size for one in held) for held in parts.values()) >= _VALUES:
                break
    except MultipletError as error:
        if len(names) == 1:
            return {names[0]: error}
        return {name: read for one in names for name, read in _sample(table, [one], events).items()}
    return {name: _joined(held) for name, held in parts.items()}


def _first(read: Jagged, entries: int) -> Jagged:
    if read.offsets is None:
        return Jagged(read.values[:entries])
    return Jagged(read.values[: read.offsets[entries]], read.offsets[: entries + 1])


def _joined(parts: Sequence[Jagged]) -> Jagged:
    values = np.concatenate([part.values for part in parts])
    if parts[0].offsets is None:
        return Jagged(values)
    counts = [np.diff(part.offsets) for part in parts if part.offsets is not None]
    return Jagged(values, count_offsets(np.concatenate(counts)))


def _column(given: Field, values: np.ndarray) -> ColumnLook:
    numbers = values.reshape(-1)
    finite = numbers[np.isfinite(numbers)] if numbers.dtype.kind == "f" else numbers
    if not len(finite):
        return ColumnLook(given, len(numbers), nonfinite=float(len(numbers) > 0))
    low, median, high = float(finite.min()), float(np.median(finite)), float(finite.max())
    whole = finite.dtype.kind != "f" or bool((finite == np.floor(finite)).all())
    distinct = 2 - (low == high) if finite.dtype == bool else len(np.unique(finite[:100_000]))
    seen = guesses.Summary(low, median, high, whole, distinct)
    return ColumnLook(
        given,
        len(numbers),
        low,
        median,
        high,
        whole,
        1 - len(finite) / len(numbers),
        _repeated(finite, low, high),
        guesses.unit(given.name, seen),
        guesses.role(given.name, given.depth + len(given.width), seen),
    )


def _repeated(finite: np.ndarray, low: float, high: float) -> tuple[float, float] | None:
    """A value that stands for "none" or fills places, with its share: as -999 is, and many 0 or -1 among fractions."""
    if finite.dtype == bool or low == high:
        return None
    fractions = finite.dtype.kind == "f" and bool((finite != np.floor(finite)).any())
    suspects = [(value, 0.001) for value in _SENTINELS if value in (low, high)] + [*_PADDING] * fractions
    for value, least in suspects:
        share = float((finite == value).mean()) if low <= value <= high else 0.0
        if share >= least:
            return value, share
    return None


def _collections(counts: dict[str, np.ndarray]) -> tuple[Collection, ...]:
    """Columns of lists by stem and lengths, compared over the entries that were read of all of them."""
    least = min((len(one) for one in counts.values()), default=0)
    groups: dict[tuple[str, bytes], list[str]] = {}
    for name, one in counts.items():
        groups.setdefault((_stem(name), one[:least].tobytes()), []).append(name)
    stems = [stem for stem, _ in groups]
    titles = {key: names[0] if stems.count(key[0]) > 1 else key[0] or "lists" for key, names in groups.items()}
    out = []
    for key, names in groups.items():
        one = counts[names[0]]
        telling = len(set(one[:least].tolist())) > 1
        like = [titles[other] for other in groups if other[1] == key[1] and other != key] if telling else []
        mean, most = (float(one.mean()), int(one.max())) if len(one) else (0.0, 0)
        out.append(Collection(titles[key], tuple(names), mean, most, tuple(like)))
    return tuple(out)


def _tell_units(columns: dict[str, ColumnLook]) -> None:
    """Energies, masses and pz have the unit of the transverse momenta beside them."""
    units = {guesses.split(name)[0]: one.unit for name, one in columns.items() if one.unit in ("GeV", "MeV")}
    for name, one in columns.items():
        if guesses.member(name) and not one.unit and guesses.member(name) not in ("eta", "phi"):
            columns[name] = replace(one, unit=units.get(guesses.split(name)[0], ""))


def _tell_labels(columns: dict[str, ColumnLook], few: dict[str, np.ndarray]) -> None:
    """Flags of one stem of which exactly one is set in every entry are a label."""
    stems: dict[str, list[str]] = {}
    for name, values in few.items():
        if len(values) and columns[name].low >= 0 and columns[name].high <= 1 and not columns[name].nonfinite:
            stems.setdefault(guesses.split(name)[0], []).append(name)
    for names in stems.values():
        total = sum(few[name].astype(np.int64) for name in names)
        if len(names) > 1 and np.all(total == 1) and sum(columns[name].high for name in names) > 1:
            for name in names:
                columns[name] = replace(columns[name], role=f"label? one of {len(names)}")


def _tell_counters(
    columns: dict[str, ColumnLook],
    few: dict[str, np.ndarray],
    collections: Sequence[Collection],
    counts: dict[str, np.ndarray],
) -> None:
    """A column whose name begins with n and that holds the lengths of a collection is its number."""
    for name, values in few.items():
        if not len(values) or columns[name].nonfinite or not (name[0] in "nN" or guesses.split(name)[1][:1] in "nN"):
            continue
        for one in collections:
            lengths = counts[one.columns[0]]
            least = min(len(lengths), len(values))
            if one.most and np.array_equal(values[:least], lengths[:least]):
                columns[name] = replace(columns[name], unit="", role=f"number of {one.name}")
                break
