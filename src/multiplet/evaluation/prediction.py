"""Predict: a trained run on files of one's own, with or without labels: one row an event, in the files' order."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multiplet.checkpoint import require_newest
from multiplet.data.columns import IDENTITY, Column
from multiplet.data.formats import FORMATS, Format, find
from multiplet.data.formats.events import EventFormat
from multiplet.data.formats.sources import reading
from multiplet.data.formats.table import table
from multiplet.distributed import pick_device
from multiplet.errors import DataError, MultipletError, RecipeError
from multiplet.evaluation.output import Append, check_output, open_output
from multiplet.evaluation.pieces import Piece, blank, read_pieces
from multiplet.evaluation.scores import require_same, rows, score
from multiplet.files import read_json, sha256, write_atomically, writing
from multiplet.model import Model, load_weights
from multiplet.progress import Show, Silent
from multiplet.recipe import Run, open_run
from multiplet.spec import did_you_mean


def predict(
    run: Path | str,
    files: Path | str | Sequence[Path | str],
    out: Path | str,
    *,
    format: str | Format = "events",
    mapping: Path | str | None = None,
    columns: Sequence[str] | None = None,
    embeddings: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    known: Sequence[type] = (),
    show: Show | None = None,
) -> dict[str, Any]:
    """Apply a run's newest valid checkpoint to files, and write a Parquet or ROOT file `out`.

    The files are of a `format`, a folder standing for the event files in it, or anything that a `mapping` describes.
    Labels and other truth are not needed: of a format they are read where they are there, of a mapping never, nor the
    weight.

    One row an event, none left out but by a mapping's selection, in the order of the files: `file`, `entry` (which of
    the events in the file, cut ones counted), `points` it has, the event's columns and truth (or those in `columns`),
    and what the run predicts; `embeddings` writes the mean of the encoder's outputs, emb_000 …, instead. An event
    without points gets what the model says of nothing: `points` = 0 tells. A task that predicts points has a row for
    each, numbered by `point` in the order that the format gives, with the points' columns. What an objective draws at
    random, such as masks, depends on an event's entry alone.

    Gives what the output says of itself: the run and its weights, versions, each source with its hash, the cut flow,
    the meaning of the columns. Raises DataError where a file does not fit the run, naming file and column or event,
    and where `out` exists already.
    """
    out = Path(out)
    check_output(out, overwrite)
    named = [files] if isinstance(files, str | Path) else files
    reader: Format
    if mapping is not None:
        reader, sources = table(Path(mapping), [str(file) for file in named], labelled=False)
    else:
        reader = find(format, labelled=False) if isinstance(format, str) else format
        sources = _sources(named, reader)
    if out.resolve() in [source.resolve() for source in sources]:
        raise DataError(f"{out} is one of the files to read: write somewhere else")
    opened, checkpoint = open_run(run, known), require_newest(Path(run))
    model = opened.recipe.build(opened.schema)
    load_weights(model, checkpoint.weights())
    job = _Job(opened, model.eval().to(pick_device(device)), reader, columns, embeddings)
    about = {
        "run": str(run),
        "name": opened.name,
        "step": checkpoint.step,
        "weights": read_json(checkpoint.path / "manifest.json")["sha256"]["weights.safetensors"],
        "versions": {name: version(name) for name in ("multiplet", "torch")} | {"python": platform.python_version()},
        "format": reader.provenance(),
    }
    with writing(out, then="", kind=DataError):
        write_atomically(out, lambda aside: job.write(aside, out.suffix, sources, about, show or Silent()))
    return about


def _sources(files: Sequence[Path | str], reader: Format) -> list[Path]:
    """The files to read, each once; a folder of event files is taken apart."""
    sources: list[Path] = []
    for path in map(Path, files):
        inside = sorted([*path.glob("*.arrow"), *path.glob("*/*.arrow")]) if isinstance(reader, EventFormat) else []
        if not inside and not path.is_file():
            raise DataError(
                f"{path} is {'a folder without event files' if path.is_dir() else 'not a file'}: name files"
            )
        if isinstance(reader, EventFormat) and not inside and path.suffix != ".arrow":
            raise DataError(
                f"{path} is no event file: name its format ({', '.join(sorted(FORMATS))}), or a mapping that says what "
                "is in it"
            )
        sources += inside or [path]
    if repeated := sorted({str(source) for source in sources if sources.count(source) > 1}):
        raise DataError(f"{', '.join(repeated)} would be read more than once: name each file once")
    if not sources:
        raise DataError("no file to predict was named")
    return sources


class _Job:
    """A trained model, and how it is applied to files of a format."""

    def __init__(self, run: Run, model: Model, reader: Format, columns: Sequence[str] | None, embeddings: bool) -> None:
        self.run, self.model, self.reader, self.columns, self.embeddings = run, model, reader, columns, embeddings
        given = [column for column in run.schema if not column.truth]
        self.needed = [c for c in given if self._fault(tuple(other for other in given if other != c))]

    def write(self, path: Path, kind: str, sources: Sequence[Path], about: dict[str, Any], show: Show) -> None:
        """Write the rows of all sources to a new file, and note in `about` what was read and kept."""
        append: Append | None = None
        keep: tuple[Column, ...] = ()
        total = Counter(read=0)
        about |= {"sources": [], "cuts": {}, "events": 0, "columns": []}
        with ExitStack() as stack:
            for number, source in enumerate(sources):
                cuts = Counter(read=0)
                for place, piece in enumerate(read_pieces(self.reader, source, cuts)):
                    if append is None:
                        self._check(source, piece.schema, ())
                        keep, types = self._plan(source, piece.schema)
                        about["columns"] = [asdict(column) for column in keep]
                        append = stack.enter_context(open_output(path, kind, types, [*map(str, sources)], about))
                    if place == 0:
                        self._check(source, piece.schema, keep)
                    if len(piece.columns):
                        append(self._table(number, piece, keep))
                    about["events"] += len(piece.columns)
                    show.update(number, len(sources), f"{about['events']:,} events")
                total.update(cuts)
                about["cuts"] = dict(total)
                with reading(source, "its bytes"):
                    said = {"file": str(source), "bytes": source.stat().st_size, "sha256": sha256(source)}
                about["sources"].append(said | {"cuts": dict(cuts)})
            if append is None:
                raise DataError(f"there is no event in {', '.join(map(str, sources))}")
        show.update(len(sources), len(sources), f"{about['events']:,} events")

    def _table(self, number: int, piece: Piece, keep: tuple[Column, ...]) -> dict[str, np.ndarray]:
        """The rows of some events of file `number`."""
        names = [column.name for column in keep]
        try:
            table = score(self.model, piece, "test", names, Silent(), self.embeddings)
        except RecipeError as error:
            raise DataError(f"{piece.source}, entries {piece.entries[0]} to {piece.entries[-1]}: {error}") from error
        entry = table.pop("index")
        return {"file": np.full(len(entry), number, np.int32), "entry": entry, **table}

    def _check(self, source: Path, schema: tuple[Column, ...], keep: tuple[Column, ...]) -> None:
        """DataError where events with these columns are not what the run reads, or lack a column to keep."""
        theirs, names = {column.name: column for column in schema}, {column.name for column in keep}
        alike = [column for column in self.run.schema if column in self.needed or column.name in names]
        require_same(alike, schema, str(source), f"what {self.run.path} was trained on")
        if fault := self._fault(schema):
            lacking = ", ".join(column.name for column in self.needed if column.name not in theirs)
            why = f"it has no column {lacking}" if lacking else fault
            raise DataError(f"{source} cannot be read by {self.run.path}: {why}")
        for mine in keep:
            if mine.name not in theirs or theirs[mine.name].dtype != mine.dtype:
                raise DataError(
                    f"{source} has no column {mine.name} of type {mine.dtype} as the first file has: name the columns "
                    "to keep, or predict these files apart"
                )

    def _plan(self, source: Path, schema: tuple[Column, ...]) -> tuple[tuple[Column, ...], dict[str, np.dtype[Any]]]:
        """The columns to keep of events with these, and all columns of the output with their types.

        Kept are those asked for, or all of the events; of points, where these are predicted, all of theirs and the
        event's identity.
        """
        cloud = blank(schema)
        found = rows(self.model, cloud, self.model.tokens(cloud.to(self._device)), (), self.embeddings)
        points = "point" in found
        have = {column.name: column for column in schema if points or column.level == "event"}
        every = [c.name for c in have.values() if not points or c.level == "point" or c.name == IDENTITY]
        wanted = every if self.columns is None else list(dict.fromkeys(self.columns))
        if strange := [name for name in wanted if name not in have]:
            raise DataError(f"{source} has no column {strange[0]!r} to keep: {did_you_mean(strange[0], have)}")
        made: dict[str, np.dtype[Any]] = {name: value.dtype for name, value in found.items()}
        made |= {"file": np.dtype(np.int32), "entry": np.dtype(np.int64)}
        if twice := sorted(made.keys() & {*wanted}):
            raise DataError(f"{source} has columns {twice}, as the output calls others: say which to keep (--columns)")
        del made["index"]  # it becomes the entry
        place = {name: made.pop(name) for name in ("file", "entry", "point" if points else "points")}
        keep = tuple(have[name] for name in wanted)
        return keep, place | {column.name: np.dtype(column.dtype) for column in keep} | made

    def _fault(self, schema: tuple[Column, ...]) -> str:
        """Why the model cannot read events with these columns; empty where it can."""
        try:
            self.model.tokens(blank(schema).to(self._device))
        except (MultipletError, KeyError) as error:
            return str(error)
        return ""

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device
