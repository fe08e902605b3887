"""Folder: what a run left behind, read for a report; nothing of it is executed and no model is built."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from multiplet.errors import CorruptError, RunError
from multiplet.files import read_json

MOST_ROWS = 1_000_000  # drawn in curves; more are thinned evenly


@dataclass(frozen=True)
class Scores:
    """Labelled events, or points of events, (E,) with class scores (E, C), thinned to `len(label)` of `rows`."""

    classes: tuple[str, ...]
    label: np.ndarray
    scores: np.ndarray
    rows: int
    counted: str  # what a row is: events or points


@dataclass(frozen=True)
class Folder:
    """A run folder: recipe.json, the log's lines by kind, and metrics and scores where the run was evaluated."""

    path: Path
    name: str
    record: dict[str, Any] = field(repr=False)
    log: dict[str, list[dict[str, Any]]] = field(repr=False)
    metrics: dict[str, Any] | None = field(repr=False)
    scores: Scores | None = field(repr=False)

    def losses(self, kind: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of one loss, of kind train or validation."""
        found = {line["step"]: line["losses"][name] for line in self.log[kind] if name in line["losses"]}
        return np.array(list(found), float), np.array(list(found.values()), float)

    def references(self) -> dict[str, float]:
        """What trivial predictions reach, by name, from the newest line that says so."""
        lines = [line for kind in ("validation", "start") for line in self.log[kind][-1:] if line.get("references")]
        return lines[0]["references"] if lines else {}


def read_folders(paths: Sequence[Path]) -> list[Folder]:
    """Run folders with names that differ: the recipe's, the folder's where that is shared, or else the whole path."""
    records = [_record(path) for path in paths]
    names = [str(record.get("name", path.name)) for record, path in zip(records, paths, strict=True)]
    for other in ([path.name for path in paths], [str(path) for path in paths]):
        names = other if len(set(names)) < len(names) else names
    return [_read(path, name, record) for path, name, record in zip(paths, names, records, strict=True)]


def _read(path: Path, name: str, record: dict[str, Any]) -> Folder:
    metrics, predictions = path / "metrics.json", path / "predictions.parquet"
    label = record["recipe"].get("objective", {}).get("label", "label")
    scores = _scores(predictions, str(label)) if predictions.is_file() else None
    return Folder(path, name, record, _log(path), _object(metrics, "metrics") if metrics.is_file() else None, scores)


def _record(path: Path) -> dict[str, Any]:
    file = path / "recipe.json"
    if not file.is_file():
        raise RunError(f"{path} is not a run folder: it has no recipe.json; name a folder that `multiplet train` wrote")
    return _object(file, "recipe")


def _object(file: Path, part: str) -> dict[str, Any]:
    """The JSON object in a file, which must have this part."""
    value = read_json(file)
    if not isinstance(value, dict) or not isinstance(value.get(part), dict):
        raise CorruptError(f"{file} holds no {part}: it was damaged or written by hand")
    return value


def _log(path: Path) -> dict[str, list[dict[str, Any]]]:
    log: dict[str, list[dict[str, Any]]] = {"start": [], "train": [], "validation": [], "end": []}
    file = path / "log.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.is_file() else []
    for number, line in enumerate(lines, 1):
        if not line.endswith("\n"):  # the run was killed while it wrote this
            break
        try:
            entry = json.loads(line)
            log.setdefault(entry["kind"], []).append(entry)
        except (ValueError, TypeError, KeyError) as error:
            raise CorruptError(
                f"{file} is damaged in line {number} ({error}): remove that line, or train again"
            ) from error
    return log


def _scores(file: Path, label: str) -> Scores | None:
    """None where the predictions are not scores of classes."""
    try:
        parquet = pq.ParquetFile(file)
        names = [name for name in parquet.schema_arrow.names if name.startswith("score_")]
        if not names or label not in parquet.schema_arrow.names:
            return None
        step = 1 + parquet.metadata.num_rows // MOST_ROWS
        batches = [_every(batch, step) for batch in parquet.iter_batches(65536, columns=[label, *names])]
    except pa.ArrowInvalid as error:
        raise CorruptError(f"{file} is not a Parquet file ({error}): evaluate the run again") from error
    columns = {name: np.concatenate([part[name] for part in batches]) for name in (label, *names)} if batches else {}
    if not columns:
        return None
    labelled = columns[label] >= 0
    scores = np.stack([columns[name][labelled] for name in names], 1)
    classes = tuple(name.removeprefix("score_") for name in names)
    counted = "points" if "point" in parquet.schema_arrow.names else "events"
    return Scores(classes, columns[label][labelled].astype(np.int64), scores, parquet.metadata.num_rows, counted)


def _every(batch: pa.RecordBatch, step: int) -> dict[str, np.ndarray]:
    """Every step-th row, so that files sorted by class are thinned evenly too."""
    return {name: batch.column(name).to_numpy(zero_copy_only=False)[::step] for name in batch.schema.names}
