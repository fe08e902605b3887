"""Convert: files of a published format → event files, every event kept, in bounded memory."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from multiplet.data.arrow import write_events
from multiplet.data.columns import Columns, concatenate
from multiplet.data.events import SPLITS, Split
from multiplet.errors import DataError
from multiplet.files import sha256

if TYPE_CHECKING:
    from multiplet.data.formats import Format


def convert(
    format: Format,
    sources: Sequence[Path],
    out: Path,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    shard_events: int = 10_000,
) -> dict[Split, int]:
    """Write the events of all sources, in sorted order of the files, to out/{train,validation,test}; gives the counts.

    Each event goes to the split that a hash of its number says, so the splits share none and the shares are those of
    `fractions` up to chance. Files of different kinds, as of one class each, take turns every few events: what is taken
    from the front of a split then holds all of them. Converting twice gives identical bytes. Raises DataError where
    `out` holds event files already, where no source is given, or where a file cannot be read.
    """
    if not sources or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise DataError(f"nothing to convert: {len(sources)} files, shares {fractions} (none negative, with sum 1)")
    if held := sorted(out.glob("*/*.arrow")):
        raise DataError(f"{out} holds event files already ({held[0].name} …): choose another folder, or remove them")
    paths = sorted(Path(source) for source in sources)
    about = format.provenance() | {"sources": json.dumps([[path.name, sha256(path)] for path in paths])}
    writers = {split: _Writer(out / split, about, shard_events) for split in SPLITS}
    number = 0
    for chunk in _chunks(format, paths):
        split = np.searchsorted(np.cumsum(fractions)[:2], _chance(number, len(chunk)), side="right")
        for code, name in enumerate(SPLITS):
            writers[name].add(chunk.take(np.flatnonzero(split == code)))
        number += len(chunk)
    return {name: writer.close() for name, writer in writers.items()}


_TURN = 64  # events of one file before the next has its turn
_OPEN = 16  # files that take turns; bounds memory


def _chunks(format: Format, paths: Sequence[Path]) -> Iterator[Columns]:
    """All events of all files; files that differ in more than their number (HToBB_000, ZToQQ_000, …) come in turns."""
    kinds: dict[str, list[Path]] = {}
    for path in paths:
        kinds.setdefault(path.name.removesuffix(path.suffix).rstrip("0123456789"), []).append(path)
    waiting = deque(path for group in zip_longest(*kinds.values()) for path in group if path is not None)
    turns: deque[Iterator[Columns]] = deque()
    while waiting or turns:
        while waiting and len(turns) < _OPEN:
            turns.append(_slices(format, waiting.popleft()))
        current = turns.popleft()
        if (chunk := next(current, None)) is not None:
            yield chunk
            turns.append(current)


def _slices(format: Format, path: Path) -> Iterator[Columns]:
    for chunk in format.chunks(path):
        for start in range(0, len(chunk), _TURN):
            yield chunk.take(np.arange(start, min(start + _TURN, len(chunk))))


def _chance(first: int, events: int) -> np.ndarray:
    """A number in [0, 1) for each event, a function of its place in the whole alone."""
    digests = (hashlib.blake2b(n.to_bytes(8, "big"), digest_size=8).digest() for n in range(first, first + events))
    return np.frombuffer(b"".join(digests), ">u8").astype(np.float64) / 2.0**64


class _Writer:
    """Files of one split, each of `size` events but the last."""

    def __init__(self, folder: Path, about: dict[str, str], size: int) -> None:
        self.folder, self.about, self.size = folder, about, size
        self._held: list[Columns] = []
        self._files = self._events = 0

    def add(self, columns: Columns) -> None:
        """Keep these events, and write what fills a file."""
        if len(columns):
            self._held.append(columns)
        while sum(map(len, self._held)) >= self.size:
            held = concatenate(self._held)
            self._write(held.take(np.arange(self.size)))
            self._held = [held.take(np.arange(self.size, len(held)))]

    def close(self) -> int:
        """Write what is left; gives all events written."""
        if sum(map(len, self._held)):
            self._write(concatenate(self._held))
        return self._events

    def _write(self, columns: Columns) -> None:
        write_events(self.folder / f"{self._files:05d}.arrow", columns, self.about)
        self._files, self._events = self._files + 1, self._events + len(columns)
