"""ROOT opened with care, by uproot: a truncated file is refused before anything in it is believed.

Only the branches named are read, by name: no expression of a file is evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

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
    with reading(present(source), "the ROOT file"):
        _whole(source)
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
