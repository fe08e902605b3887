"""Convert: files of a format → event files, every kept event once, in bounded memory, going on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multiplet.data.arrow import EventFile, write_events
from multiplet.data.columns import Columns, concatenate
from multiplet.data.events import SPLITS, Split
from multiplet.data.journal import (
    JOURNAL,
    RECORD,
    Mark,
    begun,
    event_files,
    events_held,
    hash_sources,
    name_sources,
    sweep,
)
from multiplet.data.splits import AS_PUBLISHED, Fractions, check_fractions, published_splits, splitter
from multiplet.data.turns import Cuts, Place, Turns
from multiplet.errors import DataError
from multiplet.files import held, write_json, writing

if TYPE_CHECKING:
    from multiplet.data.formats import Format

Progress = Callable[[int, int, int], None]

_MOST_PT = 14_000  # GeV: no jet of the LHC has more
_GOES_ON = "; it goes on where it stopped"
REVISION = "2"  # raised whenever the same settings give other bytes
_REVISION_AS_PUBLISHED = "3"  # the same, with published splits: in 2, files of all splits took turns together


@dataclass(frozen=True)
class Converted:
    """What a folder of event files holds after a conversion."""

    events: dict[Split, int]
    cuts: Cuts  # "read", then each selection of the format: the events left after it
    new: bool  # False where all of it was there already


def convert(
    format: Format,
    sources: Sequence[Path],
    out: Path,
    fractions: Fractions = (0.8, 0.1, 0.1),
    shard_events: int = 10_000,
    progress: Progress | None = None,
) -> Converted:
    """Write the events of all sources, in sorted order of their names, to out/{train,validation,test}/00000.arrow ….

    Each event goes to the split that a hash of its number says, so the splits have none in common and are as large as
    `fractions` say, up to chance; with "published" in their place it goes to the one that the name of its file or
    folder begins with, as train_100M/ or val.h5, and published splits stay as they are, one read after the other. Files
    of different kinds, as of one class each, take turns every few events: what is taken from the front of a split then
    holds all of them, up to 16. The columns `source_file` and `source_entry` say where an event comes from; `event_id`
    numbers the events where the format gives no such column. out/convert.json keeps the format and its settings, the
    sources with their cut flows and published splits, and the files with their events.

    The same conversion gives the same bytes, however often it was stopped and called again; where all is there, nothing
    is done. progress is called with (sources read, sources, events kept so far). Raises DataError where `out` holds
    something else or the disk is full, where sources are missing, given twice or cannot be read, or where no event is
    kept; RunError where another process converts to `out`.
    """
    if not sources or shard_events < 1:
        raise DataError(f"nothing to convert: {len(sources)} files, {shard_events} events in each that is written")
    check_fractions(fractions)
    out, paths = Path(out), name_sources(sources)
    splits = published_splits(paths) if fractions == AS_PUBLISHED else None
    settings = {
        "revision": _REVISION_AS_PUBLISHED if splits else REVISION,
        "format": format.provenance(),
        "fractions": AS_PUBLISHED if splits else list(fractions),
        "shard_events": shard_events,
        "sources": hash_sources(paths, splits),
    }
    record = begun(out / RECORD, settings)
    new = record is None
    if record is None:
        with held(out):  # two that write the same files would sweep away what the other has half-written
            record = _convert(format, list(paths.values()), out, settings, progress or (lambda *_: None))
            with writing(out / RECORD, _GOES_ON, DataError):
                write_json(out / RECORD, record)
    elif (there := events_held(out)) != record["files"]:
        odd = ", ".join(sorted({name for name, _ in there.items() ^ record["files"].items()})[:5])
        raise DataError(f"{out} is not as its {RECORD} says ({odd}): remove {out}, and convert again")
    sweep(out)
    return Converted(record["events"], record["cuts"], new)


def doubts(out: Path) -> list[str]:
    """What looks wrong about converted events: momenta beyond any collider's, as where MeV are taken for GeV."""
    file = EventFile(event_files(out)[0])
    columns = file.columns(0)
    known = [c.name for c in file.schema if (c.name, c.unit, c.level) == ("jet_pt", "GeV", "event") and len(columns)]
    medians = {name: float(np.median(columns.values[name])) for name in known}
    return [
        f"{name} is {median:.3g} GeV for half of the events: if it was in MeV, say so (in a mapping, unit: MeV), and "
        "convert again"
        for name, median in medians.items()
        if median > _MOST_PT
    ]


def _convert(
    format: Format, paths: Sequence[Path], out: Path, settings: dict[str, Any], progress: Progress
) -> dict[str, Any]:
    """Write the event files, from where the journal says; gives the record."""
    mark, writers = _writers(out, settings)
    splits = [source["split"] for source in settings["sources"] if "split" in source]
    turns = Turns(format, paths, mark.place, splits)
    _note(out, settings, mark, writers)
    choose = splitter(settings)
    while (batch := turns.batch()) is not None:
        code = choose(mark.place.events, batch)
        filled = [writers[split].add(batch.take(np.flatnonzero(code == n)), mark) for n, split in enumerate(SPLITS)]
        mark = Mark(turns.place(), {split: writer.seen for split, writer in writers.items()})
        if any(filled):
            _note(out, settings, mark, writers)
        progress(len(mark.place.finished), len(paths), mark.place.events)
    for writer in writers.values():
        writer.close()
    return settings | _sums(out, settings["sources"], turns.place(), mark.seen)


def _writers(out: Path, settings: dict[str, Any]) -> tuple[Mark, dict[Split, _Writer]]:
    """Where to begin, and what writes each split from there."""
    journal = begun(out / JOURNAL, settings)
    if journal is None and (there := event_files(out)):
        raise DataError(f"{out} holds event files already ({there[0].name} …): choose another folder, or remove them")
    mark = Mark.read(journal["mark"]) if journal else Mark(Place(0, 0, (), {}), dict.fromkeys(SPLITS, 0))
    files = journal["files"] if journal else dict.fromkeys(SPLITS, 0)
    about = settings["format"] | {
        "sources": json.dumps([[each["name"], each["sha256"]] for each in settings["sources"]])
    }
    size = settings["shard_events"]
    return mark, {split: _Writer(out / split, about, size, files[split], mark.seen[split]) for split in SPLITS}


def _note(out: Path, settings: dict[str, Any], mark: Mark, writers: dict[Split, _Writer]) -> None:
    """Write the journal: which files are there, and the last place from which all other events can be read again."""
    marks = [mark, *(writer.since for writer in writers.values() if writer.since is not None)]
    first = min(marks, key=lambda each: each.place.events)
    files = {split: writer.files for split, writer in writers.items()}
    with writing(out / JOURNAL, _GOES_ON, DataError):
        write_json(out / JOURNAL, settings | {"files": files, "mark": asdict(first)})


def _sums(out: Path, sources: list[dict[str, str]], place: Place, events: dict[Split, int]) -> dict[str, Any]:
    """The cut flow, the events of each split and file; DataError where they do not add up."""
    cuts: Cuts = {}
    for number, flow in sorted(place.finished.items()):
        if cuts and flow and list(flow) != list(cuts):
            raise DataError(f"{sources[number]['name']} has the selections {list(flow)}, those before {list(cuts)}")
        cuts = {name: cuts.get(name, 0) + left for name, left in flow.items()} or cuts
    kept = list(cuts.values())[-1] if cuts else 0
    if not kept:
        raise DataError(
            f"no event is kept of {len(sources)} files: {cuts or 'they hold none'}: see the files with `multiplet "
            "inspect`, or select less"
        )
    files = events_held(out)
    each = {split: sum(count for name, count in files.items() if name.startswith(f"{split}/")) for split in SPLITS}
    if each != events or sum(each.values()) != kept:
        raise DataError(f"{out} holds {each} where {events} of {kept} kept events belong: remove it, and convert again")
    flows = [source | {"cuts": place.finished[number]} for number, source in enumerate(sources)]
    return {"sources": flows, "cuts": cuts, "events": events, "files": files}


class _Writer:
    """Files of one split, each of `size` events but the last; `files` are there, `seen` events passed already."""

    def __init__(self, folder: Path, about: dict[str, str], size: int, files: int, seen: int) -> None:
        self.folder, self.about, self.size = folder, about, size
        self.files, self.seen = files, seen
        self.since: Mark | None = None  # before the first event held
        self._skip = files * size - seen  # events to come that are in files already
        self._held: list[Columns] = []

    def add(self, columns: Columns, mark: Mark) -> bool:
        """Keep these events, which come after `mark`, and write what fills a file; gives whether one was written."""
        self.seen += len(columns)
        skipped = min(self._skip, len(columns))
        self._skip -= skipped
        if skipped < len(columns):
            self._held.append(columns.take(np.arange(skipped, len(columns))) if skipped else columns)
            self.since = self.since or mark
        before = self.files
        while sum(map(len, self._held)) >= self.size:
            held = concatenate(self._held)
            self._write(held.take(np.arange(self.size)))
            rest = held.take(np.arange(self.size, len(held)))
            self._held, self.since = ([rest], mark) if len(rest) else ([], None)
        return self.files > before

    def close(self) -> None:
        """Write what is left."""
        if self._held:
            self._write(concatenate(self._held))

    def _write(self, columns: Columns) -> None:
        write_events(self.folder / f"{self.files:05d}.arrow", columns, self.about)
        self.files += 1
