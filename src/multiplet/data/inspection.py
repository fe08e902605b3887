"""Inspection: what a file from a colleague holds, from its layout and a sample of its first entries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from multiplet.data.arrow import EventFile
from multiplet.data.formats.fields import Held, Opened, Table
from multiplet.data.formats.tables import kind_of, open_source
from multiplet.data.protection import Protection, protection
from multiplet.data.samples import Collection, ColumnLook, TableLook, look
from multiplet.errors import DataError

__all__ = ["Alike", "Collection", "ColumnLook", "FileLook", "Inspection", "TableLook", "inspect"]


@dataclass(frozen=True)
class FileLook:
    """One file: its tables, the one that was looked at, and its protection."""

    source: Path
    kind: str
    size: int  # bytes
    held: tuple[Held, ...]
    table: TableLook
    protection: Protection
    provenance: dict[str, str] = field(default_factory=dict)  # of an event file


@dataclass(frozen=True)
class Alike:
    """Another file of the layout of one that was looked at: its entries, and in what it differs."""

    source: Path
    entries: int
    protection: Protection
    differences: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """Files by layout: one of each looked at in full, with the others like it."""

    files: tuple[tuple[FileLook, tuple[Alike, ...]], ...]


def inspect(files: Sequence[Path | str], tree: str | None = None, events: int = 10_000) -> Inspection:
    """What files hold: tables, columns, collections, guessed units and roles, from the first `events` entries.

    Of a file with several tables the one with most columns is looked at, or the one called `tree`. Files with the
    layout of an earlier one are only compared with it. Every byte of event files is checked, and the checksums of
    RNTuple pages are compared. Raises DataError where a file cannot be read or has no such table, CorruptError where
    an event file is damaged.
    """
    if not files or events < 1:
        raise DataError(f"{len(files)} files and {events} entries to look at: at least one of each is needed")
    groups: list[tuple[FileLook, list[Alike]]] = []
    for source in map(Path, files):
        kind, guard = kind_of(source), protection(source)
        with open_source(source) as opened:
            table = _main(opened, tree)
            known = next((group for group in groups if group[0].kind == kind and _akin(group[0].table, table)), None)
            if known is None:
                made = FileLook(source, kind, source.stat().st_size, opened.held, look(table, events), guard)
                groups.append((_told(made) if kind == "Arrow" else made, []))
            else:
                known[1].append(Alike(source, table.entries, guard, tuple(_differences(known[0].table, table))))
    return Inspection(tuple((first, tuple(others)) for first, others in groups))


def _main(opened: Opened, tree: str | None) -> Table:
    """The table called so, else the one with most columns of numbers."""
    if tree is not None:
        return opened.open(tree)
    return max((opened.open(held.name) for held in opened.held), key=lambda table: len(table.fields))


def _akin(known: TableLook, table: Table) -> bool:
    """Whether a table has the name and at least half of the columns of one that was looked at."""
    shared = set(known.columns) & set(table.fields)
    return known.held.name == table.name and 2 * len(shared) >= max(len(known.columns), len(table.fields))


def _differences(known: TableLook, table: Table) -> Iterator[str]:
    before, after = set(known.columns), set(table.fields)
    if before - after:
        yield "lacks " + ", ".join(sorted(before - after))
    if after - before:
        yield "also has " + ", ".join(sorted(after - before))
    for name in sorted(before & after):
        if (given := table.fields[name]) != (first := known.columns[name].field):
            shapes = [f"{'lists of ' * one.depth}{one.dtype}{list(one.width) or ''}" for one in (given, first)]
            yield f"{name} is {shapes[0]}, not {shapes[1]}"


def _told(look: FileLook) -> FileLook:
    """An event file with what it says of its columns instead of guesses."""
    file, columns = EventFile(look.source), {}
    for column in file.schema:
        classes = ", ".join(column.classes)
        role = ": ".join(text for text in ("truth" if column.truth else "", classes, column.about) if text)
        columns[column.name] = replace(look.table.columns[column.name], unit=column.unit, role=role, told=True)
    return replace(look, table=replace(look.table, columns=columns), provenance=file.provenance)
