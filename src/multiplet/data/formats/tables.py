"""Tables: any ROOT, Parquet, HDF5, npz or event file as flat arrays, a bounded number of entries at a time.

A table is a TTree or an RNTuple, a whole Parquet or event file, or the arrays of equal first dimension in a group of
an HDF5 file or in an npz file. Members of records and of compound types are columns with dotted names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from multiplet.data.formats.array_tables import hdf5_tables, npz_tables
from multiplet.data.formats.event_tables import event_tables
from multiplet.data.formats.fields import Field, Held, Jagged, Opened, Table, listed
from multiplet.data.formats.parquet_tables import parquet_tables
from multiplet.data.formats.root_tables import root_tables
from multiplet.data.formats.sources import present, reading
from multiplet.errors import DataError

__all__ = ["Field", "Held", "Jagged", "Opened", "Table", "kind_of", "open_source", "open_table", "table_names"]

_START = {b"root": "ROOT", b"PAR1": "Parquet", b"\x89HDF": "HDF5", b"PK\x03\x04": "npz", b"ARRO": "Arrow"}
_SUFFIX = {".root": "ROOT", ".parquet": "Parquet", ".h5": "HDF5", ".hdf5": "HDF5", ".npz": "npz", ".arrow": "Arrow"}
_READERS: dict[str, Callable[[Path], AbstractContextManager[Opened]]] = {
    "ROOT": root_tables,
    "Parquet": parquet_tables,
    "HDF5": hdf5_tables,
    "npz": npz_tables,
    "Arrow": event_tables,
}


def kind_of(source: Path) -> str:
    """ROOT, Parquet, HDF5, npz or Arrow (event files), by the first bytes, else by the name; DataError for others."""
    with reading(present(source), "its first bytes"), source.open("rb") as file:
        start = file.read(4)
    kind = _START.get(start) or _SUFFIX.get(source.suffix.lower())
    if kind is None:
        raise DataError(f"{source} is neither ROOT, Parquet, HDF5, npz nor an event file: convert it to one of these")
    return kind


@contextmanager
def open_source(source: Path) -> Iterator[Opened]:
    """A file with the tables it holds; DataError where it holds none."""
    with _READERS[kind_of(source)](source) as opened:
        if not opened.held:
            raise DataError(f"{source} holds no table of numbers: is it the right file?")
        yield opened


@contextmanager
def open_table(source: Path, name: str | None = None) -> Iterator[Table]:
    """The table of that name, or the only one of the file.

    In HDF5 and npz files a group is named, which then needs arrays of one length, or an array, which brings along the
    arrays of its length beside it. Raises DataError where no such table is, or where there are several and none was
    named.
    """
    with open_source(source) as opened:
        if name is None and len(opened.held) != 1:
            raise DataError(f"{source} holds {listed(opened.held)}: name one of them")
        yield opened.open(opened.held[0].name if name is None else name)


def table_names(source: Path) -> list[Held]:
    """Every table of a file with its kind and its number of entries."""
    with open_source(source) as opened:
        return list(opened.held)
