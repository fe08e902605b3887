"""ROOT opened with care: TTrees and RNTuples as flat arrays and offsets, by uproot.

Only the branches named are read, by name: no expression of a file is evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from multiplet.data.formats.sources import missing, present, reading
from multiplet.errors import CorruptError, DataError


def tools() -> tuple[ModuleType, ModuleType]:
    """uproot and awkward; MissingExtraError where one is not installed."""
    try:
        import awkward
        import uproot
    except ImportError as error:
        raise missing("uproot and awkward", "root", error) from error
    return uproot, awkward


@contextmanager
def open_root(source: Path) -> Iterator[Any]:
    """A ROOT file; DataError where it is none, CorruptError where it is truncated, MissingExtraError without `root`."""
    uproot, _ = tools()
    _whole(present(source))
    with reading(source, "the ROOT file"):
        file = uproot.open({str(source): None})
    with file:
        yield file


def _whole(source: Path) -> None:
    """CorruptError where a ROOT file is shorter than its header says."""
    with source.open("rb") as file:
        head = file.read(20)
    if head[:4] != b"root" or len(head) < 20:
        raise DataError(f"{source} is not a ROOT file: it does not start as one")
    large = int.from_bytes(head[4:8], "big") >= 1_000_000
    end, size = int.from_bytes(head[12 : 20 if large else 16], "big"), source.stat().st_size
    if size < end:
        raise CorruptError(f"{source} has {size} bytes where its header says {end}: it is truncated, download it again")


def find_tree(source: Path, file: Any, name: str, branches: Sequence[str]) -> Any:
    """The TTree or RNTuple of that name; DataError where it or a branch is missing."""
    with reading(source, "the list of its trees"):
        kinds = {key.split(";")[0]: str(kind) for key, kind in file.classnames(recursive=False).items()}
    if not kinds.get(name, "").endswith(("TTree", "RNTuple")):
        held = ", ".join(f"{key} ({kind})" for key, kind in sorted(kinds.items())[:20]) or "nothing"
        raise DataError(f"{source} has no tree {name!r}; it holds {held}: another layout needs a mapping")
    with reading(source, f"tree {name}"):
        tree = file[name]
        lacking = sorted(set(branches) - set(tree.keys(recursive=False)))
    if lacking:
        raise DataError(f"{source}: tree {name} lacks {', '.join(lacking)}: is this another layout?")
    return tree


def iterate(source: Path, tree: Any, branches: Sequence[str], step: int) -> Iterator[dict[str, Any]]:
    """Arrays of each branch, `step` events at a time."""
    with reading(source, "its entries"):
        arrays = tree.iterate(filter_name=list(branches), step_size=step, library="ak", how=dict)
    while True:
        with reading(source, "its entries"):
            chunk = next(arrays, None)
        if chunk is None:
            return
        yield {branch: chunk[branch] for branch in branches}  # an RNTuple gives what holds its lists as well


def flat(array: Any) -> tuple[np.ndarray | None, np.ndarray]:
    """Offsets from 0, or None where there is one value an event, and the flat values; TypeError where neither."""
    _, awkward = tools()
    layout, offsets = array.layout, None
    if layout.is_list:
        layout = layout.to_ListOffsetArray64(True)
        offsets = np.asarray(layout.offsets.data).astype(np.int64)
        layout = layout.content[: int(offsets[-1])]
    values = np.asarray(awkward.to_numpy(layout, allow_missing=False))
    if values.ndim != 1:
        raise TypeError(f"it holds {array.type}, lists deeper than one number a constituent")
    return offsets, values
