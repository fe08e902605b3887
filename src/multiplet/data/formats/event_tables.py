"""The table of an event file: its points as lists, its event columns as numbers; every byte read is checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from multiplet.data.arrow import EventFile
from multiplet.data.formats.fields import Field, Held, Jagged, Opened, Table, choose
from multiplet.data.formats.sources import spans


@contextmanager
def event_tables(source: Path) -> Iterator[Opened]:
    """An event file and its one table, whose name is empty; CorruptError where bytes are not what was written."""
    file = EventFile(source)
    held = (Held("", "event file", sum(len(lengths) for lengths in file.lengths)),)
    yield Opened(held, lambda name: _table(source, choose(source, held, name), file))


def _table(source: Path, held: Held, file: EventFile) -> Table:
    def chunks(names: Sequence[str], step: int) -> Iterator[dict[str, Jagged]]:
        for batch in range(file.batches):
            columns = file.columns(batch)
            for start, stop in spans(len(columns), step):
                begin, end = columns.offsets[start], columns.offsets[stop]
                offsets = columns.offsets[start : stop + 1] - begin
                yield {
                    name: Jagged(columns.values[name][begin:end], offsets)
                    if fields[name].depth
                    else Jagged(columns.values[name][start:stop])
                    for name in names
                }

    fields = {c.name: Field(c.name, c.dtype, int(c.level == "point")) for c in file.schema}
    return Table(source, held.name, held.kind, held.entries, fields, {}, chunks)
