"""Event files of this package as a source: to merge folders, to split again, to take some files only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from multiplet.data.arrow import EventFile
from multiplet.data.formats.sources import Chunk


@dataclass(frozen=True)
class EventFormat:
    """NAME.arrow with its checksums beside it."""

    def chunks(self, source: Path) -> Iterator[Chunk]:
        """One record batch at a time; CorruptError where bytes are not what was written."""
        file = EventFile(source)
        for batch in range(file.batches):
            yield Chunk(file.columns(batch))

    def provenance(self) -> dict[str, str]:
        """Nothing but the format's name."""
        return {"format": "events"}
