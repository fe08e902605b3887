"""TPCpp-10M: spacepoints of simulated sPHENIX collisions in npz files (arXiv 2509.05792, Zenodo 16970029).

spacepoints*.npz hold data (points, 4), the columns E, x, y, z of all events in a row, and size (events,), how many
points each event has. Labelled events have track_ids*.npz, pid_labels*.npz and noise_tags*.npz beside them, whose data
(points,) are in the same order. The columns named here are also those of `multiplet simulate tpc`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from multiplet.data.columns import Column, Columns, count_offsets
from multiplet.data.formats.constituents import Raw
from multiplet.data.formats.npz import NpzArray, open_npz
from multiplet.data.formats.sources import STEP, Chunk, spans
from multiplet.errors import DataError

PARTICLES = ("other", "pion", "kaon", "proton", "electron")  # codes 0, 1, …, whatever the charge

POINTS = (
    Column("energy", "ADC", about="sum over the pads and times of the cluster"),
    Column("x", "cm"),
    Column("y", "cm"),
    Column("z", "cm", about="along the beam and the field"),
)
TRUTH = (
    Column("track_id", "", "point", True, "int32", about="whose point it is: a name inside its event, no order"),
    Column("particle", "", "point", True, "int8", PARTICLES, "what left the point"),
    Column("noise", "", "point", True, "int8", ("signal", "noise"), "noise is of particles below 60 MeV/c at birth"),
)
_LABELS = {"track_id": "track_ids", "particle": "pid_labels", "noise": "noise_tags"}
_NAMES = {c.name: f"data ({name})" for c, name in zip(POINTS, "Exyz", strict=True)} | _LABELS
_CHUNK_POINTS = 2_000_000
_EVENT_POINTS = 50_000_000  # more than the chamber has cells


@dataclass(frozen=True)
class TPCpp:
    """npz files in the layout of TPCpp-10M, with labels where all three files of labels lie beside the spacepoints."""

    step: int = STEP

    def provenance(self) -> dict[str, str]:
        """Nothing but the format's name."""
        return {"format": "tpcpp"}

    def chunks(self, source: Path) -> Iterator[Chunk]:
        """All events of one file of spacepoints, points in the file's order.

        Raises DataError for a file that is damaged, of another layout, with objects in it or with only some of its
        labels beside it, for sizes that do not add up, and for values that no point has: not finite, a negative
        energy, a label out of range.
        """
        labels = _labels_beside(source)
        with ExitStack() as stack:
            file = stack.enter_context(open_npz(source))
            data, size = file.array("data"), file.array("size")
            if len(data.shape) != 2 or data.shape[1] != 4 or data.dtype.kind != "f":
                raise DataError(f"{source}: data is {data.dtype} {data.shape} where floats (points, 4) are needed")
            if len(size.shape) != 1 or size.dtype.kind not in "iu":
                raise DataError(f"{source}: size is {size.dtype} {size.shape} where integers (events,) are needed")
            beside = {name: _label(path, stack, data.left) for name, path in labels.items()}
            for start, stop in _pieces(size, data, self.step):
                yield Chunk(_columns(source, start, stop, data, beside))
            if data.left:
                raise DataError(
                    f"{source}: its sizes sum to {data.shape[0] - data.left} points, but data has {data.shape[0]}"
                )


def _labels_beside(source: Path) -> dict[str, Path]:
    """Column → file of labels, of all three kinds or none."""
    for stem in _LABELS.values():
        if source.name.startswith(stem):
            raise DataError(
                f"{source} holds labels, which are read with the spacepoints: give the spacepoints files only"
            )
    if not source.name.startswith("spacepoints"):
        return {}
    paths = {name: source.with_name(source.name.replace("spacepoints", stem, 1)) for name, stem in _LABELS.items()}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if len(missing) in (1, 2):
        raise DataError(f"{source} has some of its labels beside it, but not {', '.join(missing)}: add it, or move all")
    return {} if missing else paths


def _label(path: Path, stack: ExitStack, points: int) -> NpzArray:
    array = stack.enter_context(open_npz(path)).array("data")
    if array.shape != (points,) or array.dtype.kind not in "biu":
        raise DataError(f"{path}: data is {array.dtype} {array.shape} where integers ({points},) are needed")
    return array


def _pieces(size: NpzArray, data: NpzArray, step: int) -> Iterator[tuple[int, np.ndarray]]:
    """First event and offsets of each chunk: at most `step` events, and few enough points to keep in memory."""
    for start, stop in spans(size.left, step):
        counts = size.take(stop - start)
        if (bad := (counts < 0) | (counts > min(data.shape[0], _EVENT_POINTS))).any():
            event = int(np.argmax(bad))
            raise DataError(
                f"{size.source}: size of event {start + event} is {counts[event]}; data has {data.shape[0]}"
            )
        ends = np.cumsum(counts.astype(np.int64))
        if len(ends) and ends[-1] > data.left:
            event = start + int(np.searchsorted(ends, data.left, side="right"))
            raise DataError(
                f"{size.source}: sizes up to event {event} sum to more than the {data.shape[0]} points of data"
            )
        low = 0
        while low < max(len(ends), 1):
            before = ends[low - 1] if low else 0
            high = max(int(np.searchsorted(ends, before + _CHUNK_POINTS, side="right")), low + 1)
            yield start + low, count_offsets(counts[low:high])
            low = high


def _columns(source: Path, first: int, offsets: np.ndarray, data: NpzArray, labels: dict[str, NpzArray]) -> Columns:
    points = int(offsets[-1])
    with np.errstate(over="ignore"):  # what becomes infinite is refused below
        rows = data.take(points).astype(np.float32)
    values = {column.name: np.ascontiguousarray(rows[:, n]) for n, column in enumerate(POINTS)}
    raw = Raw(source, first, offsets, values | {name: array.take(points) for name, array in labels.items()}, _NAMES)
    raw.require("point", *(column.name for column in POINTS))
    raw.require("point", "energy", least=0)
    schema = (*POINTS, *(column for column in TRUTH if labels))
    for column in schema[len(POINTS) :]:
        given, most = raw.values[column.name], len(column.classes) - 1 if column.classes else np.iinfo(np.int32).max
        least = 0 if column.classes else np.iinfo(np.int32).min
        if (bad := (given < least) | (given > most)).any():
            raw.refuse(column.name, "point", bad, f"is not from {least} to {most}")
        raw.values[column.name] = given.astype(column.dtype)
    return Columns(schema, offsets, raw.values)
