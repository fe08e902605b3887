"""HDF5 opened with care: only what lies in the file itself is read, and no more than it really stores."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np

from multiplet.data.formats.sources import missing, present, reading
from multiplet.errors import DataError, MissingExtraError

_CHUNK_BYTES = 512 << 20  # a chunk is decompressed as a whole
_ROW_BYTES = 16 << 20


@contextmanager
def open_hdf5(source: Path) -> Iterator[Any]:
    """An HDF5 file; DataError where it is none or is truncated, MissingExtraError without the extra `hdf5`."""
    present(source)
    try:
        import h5py
    except ImportError as error:
        raise missing("h5py", "hdf5", error) from error
    with reading(source, "the HDF5 file"):
        file = h5py.File(source, "r")
    try:
        yield file
    finally:
        file.close()


def dataset(source: Path, file: Any, name: str) -> Any:
    """The dataset at a path inside an open file, whose rows may then be sliced.

    Raises DataError where there is none, where the way to it is a link, where values lie in other files, are objects
    or references, or where less is stored than the shape declares.
    """
    with reading(source, f"dataset {name}"):
        node = find(source, file, name)
        if not hasattr(node, "shape"):
            raise DataError(f"{source}: {name} is a group where a dataset is needed: is this another layout?")
        _check(source, node, name)
    return node


def find(source: Path, file: Any, name: str) -> Any:
    """The group or dataset at a path inside an open file; DataError where there is none, or a link on the way."""
    for part in name.split("/"):
        file = _step(source, file, part, name)
    return file


def names(group: Any) -> list[str]:
    """The names in a file or group, sorted."""
    return sorted(group.keys()) if hasattr(group, "keys") else []


def rows(source: Path, node: Any, start: int, stop: int) -> np.ndarray:
    """Rows of a dataset, in the machine's byte order; DataError where they cannot be read."""
    with reading(source, f"dataset {node.name}, rows {start} to {stop}"):
        values = np.asarray(node[start:stop])
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _step(source: Path, group: Any, part: str, name: str) -> Any:
    import h5py

    if part not in names(group):
        held = ", ".join(names(group)[:20]) or "nothing"
        raise DataError(f"{source} has no dataset {name} ({group.name} holds {held}): is this another layout?")
    link = group.get(part, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise DataError(
            f"{source}: {name} is a link ({type(link).__name__}), and links are not followed: copy the data"
        )
    return group[part]


def _decompressible(source: Path, node: Any, name: str) -> None:
    """MissingExtraError where values are compressed by a filter (Blosc, Zstandard …) that is not installed."""
    import h5py

    plist = node.id.get_create_plist()
    for number in range(plist.get_nfilters()):
        code, _, _, title = plist.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            with suppress(ImportError):
                importlib.import_module("hdf5plugin")  # which makes the filters that it brings known to HDF5
        if not h5py.h5z.filter_avail(code):
            raise MissingExtraError(
                f"{source}: {name} is compressed by {title.decode(errors='replace') or 'a filter'} ({code}), which "
                "h5py does not bring: pip install hdf5plugin"
            )


def _check(source: Path, node: Any, name: str) -> None:
    if node.dtype.hasobject:
        raise DataError(
            f"{source}: {name} holds objects, strings or references ({node.dtype}) where numbers are needed"
        )
    if node.is_virtual or node.id.get_create_plist().get_external_count():
        raise DataError(f"{source}: {name} keeps its values in other files, and those are not opened: copy the data")
    if not node.shape:
        raise DataError(f"{source}: {name} has shape {node.shape} where one row an event is needed")
    width = node.dtype.itemsize
    if prod(node.shape[1:]) * width > _ROW_BYTES or (node.chunks and prod(node.chunks) * width > _CHUNK_BYTES):
        raise DataError(f"{source}: {name} has shape {node.shape} in chunks {node.chunks}: too much for one read")
    _decompressible(source, node, name)
    if node.chunks:
        declared = prod(ceil(length / chunk) for length, chunk in zip(node.shape, node.chunks, strict=True))
        stored, unit = node.id.get_num_chunks(), "chunks"
    else:
        declared, stored, unit = node.size * width, node.id.get_storage_size(), "bytes"
    if stored < declared:
        raise DataError(f"{source}: {name} declares {declared} {unit} and stores {stored}: it was never written whole")
