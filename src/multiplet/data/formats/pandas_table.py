"""Tables that pandas wrote to HDF5, read without pandas and without unpickling.

Both of its layouts keep columns of one type together as a block (rows, columns). In the "fixed" layout the names of a
block lie in a dataset beside it, in the "table" layout in an attribute, pickled. Of the pickle only the text constants
are taken, by walking its operations; a pickle that does more than list texts is refused.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from multiplet.data.formats.hdf5 import dataset, find, names, rows
from multiplet.data.formats.sources import reading
from multiplet.errors import DataError

_LIST = {"PROTO", "FRAME", "MARK", "LIST", "EMPTY_LIST", "APPEND", "APPENDS", "STOP"}
_MEMORY = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_TEXT = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE"}


@dataclass(frozen=True, eq=False)
class Table:
    """A table in an open file: where each column lies as (dataset, field or None, place in the block)."""

    source: Path
    rows: int
    columns: dict[str, tuple[Any, str | None, int]]

    def read(self, start: int, stop: int, wanted: list[str]) -> dict[str, np.ndarray]:
        """These columns of these rows, each block read once; DataError where they cannot be read."""
        nodes = {id(self.columns[name][0]): self.columns[name][0] for name in wanted}
        blocks = {key: rows(self.source, node, start, stop) for key, node in nodes.items()}
        out = {}
        for name in wanted:
            node, field, place = self.columns[name]
            block = blocks[id(node)] if field is None else blocks[id(node)][field]
            out[name] = block[:, place] if block.ndim == 2 else block
        return out


def find_table(source: Path, file: Any, key: str) -> Table:
    """The table of that key; DataError where there is none, or it is of neither of the two layouts."""
    with reading(source, f"the pandas table {key}"):
        group = find(source, file, key)
        kind = _attribute(group, "pandas_type") if hasattr(group, "keys") else b""
        if kind == b"frame_table":
            return _appendable(source, dataset(source, file, f"{key}/table"), key)
        if kind == b"frame":
            return _fixed(source, file, key, group)
    raise DataError(f"{source}: {key} is no pandas table: is this another layout?")


def _appendable(source: Path, node: Any, key: str) -> Table:
    columns: dict[str, tuple[Any, str | None, int]] = {}
    for field in node.dtype.names or ():
        if field == "index":
            continue
        held = _texts(source, _attribute(node, f"{field}_kind"), f"{key}: {field}_kind")
        width = int(np.prod(node.dtype[field].shape))
        if len(held) != width:
            raise DataError(f"{source}: {field} of {key} has {width} columns and {len(held)} names: it is damaged")
        columns |= {name: (node, field, place) for place, name in enumerate(held)}
    return Table(source, len(node), columns)


def _fixed(source: Path, file: Any, key: str, group: Any) -> Table:
    columns: dict[str, tuple[Any, str | None, int]] = {}
    counts = set()
    for number in range(sum(name.endswith("_items") for name in names(group))):
        items = dataset(source, file, f"{key}/block{number}_items")
        node = dataset(source, file, f"{key}/block{number}_values")
        if items.dtype.kind != "S" or node.ndim != 2 or node.shape[1] != len(items):
            raise DataError(f"{source}: block {number} of {key} has shape {node.shape} and {items.shape} names")
        held = [bytes(name).decode("utf-8", "replace") for name in rows(source, items, 0, len(items))]
        columns |= {name: (node, None, place) for place, name in enumerate(held)}
        counts.add(len(node))
    if len(counts) != 1:
        raise DataError(f"{source}: the blocks of {key} have {sorted(counts)} rows: one number is needed")
    return Table(source, counts.pop(), columns)


def _attribute(node: Any, name: str) -> bytes:
    """An attribute of text, as bytes; empty where there is none."""
    value = node.attrs.get(name, b"")
    return value.encode() if isinstance(value, str) else bytes(value) if isinstance(value, bytes) else b""


def _texts(source: Path, pickled: bytes, name: str) -> list[str]:
    """The texts of a pickled list of texts, without running the pickle."""
    texts = []
    try:
        for operation, value, _ in pickletools.genops(pickled):
            if operation.name in _TEXT:
                texts.append(str(value))
            elif operation.name not in _LIST | _MEMORY:
                raise ValueError(f"it does {operation.name}")
    except ValueError as error:
        raise DataError(f"{source}: {name} is not a plain list of names ({error}): pickles are not executed") from error
    return texts
