"""Sources: what readers share around the libraries they use: one kind of error, and few events at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from multiplet.data.columns import Columns
from multiplet.errors import DataError, MissingExtraError, MultipletError

STEP = 10_000  # events in memory at a time


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some consecutive events of a file: those that a format's selections keep, and how many each of them left.

    `cuts` begins with "read", the events read from the file, and goes on with each selection's name and the events left
    after it, the last of which are `columns`; without selections it need not be given. `entries` are the places of the
    kept events among those read for this chunk, (events,) rising integers; they need be given only where some were cut.
    Raises DataError where these do not add up.
    """

    columns: Columns
    cuts: Mapping[str, int] = field(default_factory=dict)
    entries: np.ndarray | None = None

    def __post_init__(self) -> None:
        kept = len(self.columns)
        cuts = dict(self.cuts) or {"read": kept}
        entries = np.arange(kept) if self.entries is None and cuts.get("read") == kept else self.entries
        left = list(cuts.values())
        if next(iter(cuts)) != "read" or left[-1] != kept or any(after > before for before, after in pairwise(left)):
            raise DataError(f"a cut flow goes from 'read' down to the {kept} events kept, each step named; not {cuts}")
        if entries is None or entries.shape != (kept,) or entries.dtype.kind not in "iu":
            raise DataError(f"{kept} of {left[0]} events are kept: say which with `entries`, one whole number for each")
        if kept and (entries[0] < 0 or entries[-1] >= left[0] or (np.diff(entries) <= 0).any()):
            raise DataError(f"the entries of the {kept} events kept must rise, from 0 on, and stay below {left[0]}")
        object.__setattr__(self, "cuts", cuts)
        object.__setattr__(self, "entries", entries.astype(np.int64))


@contextmanager
def reading(source: Path, what: str) -> Iterator[None]:
    """Turns whatever a library raises about the bytes of a file into one DataError that names the file.

    On damaged files the libraries raise dozens of types, so none is left out; wrap nothing but their calls in it.
    """
    try:
        yield
    except MultipletError:
        raise
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(
            f"{source}: {what} cannot be read ({why}): the file is truncated, damaged or of another layout; "
            "compare its checksum with the publisher's, or download it again"
        ) from error


def present(source: Path) -> Path:
    """The same path; DataError where it is no file."""
    if source.is_dir():
        raise DataError(f"{source} is a folder: name the files in it, as {source}/*")
    if not source.is_file():
        raise DataError(f"{source} is not a file: correct the path")
    return source


def missing(library: str, extra: str, error: ImportError) -> MissingExtraError:
    """The error to raise for a library that is not installed."""
    return MissingExtraError(f'these files need {library} ({error}): pip install "multiplet[{extra}]"')


def spans(events: int, step: int) -> Iterator[tuple[int, int]]:
    """First and one past the last event of each chunk; one empty chunk where there are no events."""
    for start in range(0, max(events, 1), step):
        yield start, min(start + step, events)
