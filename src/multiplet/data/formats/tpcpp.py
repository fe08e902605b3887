"""TPCpp-10M: spacepoints of simulated sPHENIX collisions in npz files (arXiv 2509.05792, Zenodo 16970029).

spacepoints*.npz hold data (points, 4), the columns E, x, y, z of all events in a row, and size (events,), how many
points each event has. Labelled events have track_ids*.npz, pid_labels*.npz and noise_tags*.npz beside them, whose data
(points,) are in the same order, and whose size, where they hold one, is the same. Track ids may be any integers there,
negative ones too, which elsewhere mean no track: they become 0, 1, … in each event. The columns named here are also
those of `multiplet simulate tpc`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from multiplet.data.columns import Column, Columns, count_offsets
from multiplet.data.formats.constituents import Raw
from multiplet.data.formats.npz import Npz, NpzArray, open_npz
from multiplet.data.formats.sources import STEP, Chunk, spans
from multiplet.data.formats.track_numbers import number_tracks
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
_NUMBERED = replace(
    TRUTH[0], about="whose point it is: numbered anew in each event, from 0 on, in ascending order of the file's ids"
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
        """The format, and what becomes of the track ids."""
        return {"format": "tpcpp", "track_ids": "numbered anew"}

    def chunks(self, source: Path) -> Iterator[Chunk]:
        """All events of one file of spacepoints, points in the file's order.

        Raises DataError for a file that is damaged, of another layout, with objects in it or with only some of its
        labels beside it, for sizes that do not add up or are others in the files of labels, for values that no point
        has: not finite, a negative energy, a label out of range, and for a track with several particles or noise in
        only a part of it.
        """
        paths = _labels_beside(source)
        with ExitStack() as stack:
            file = stack.enter_context(open_npz(source))
            data, size = file.array("data"), file.array("size")
            if len(data.shape) != 2 or data.shape[1] != 4 or data.dtype.kind != "f":
                raise DataError(f"{source}: data is {data.dtype} {data.shape} where floats (points, 4) are needed")
            if len(size.shape) != 1 or size.dtype.kind not in "iu":
                raise DataError(f"{source}: size is {size.dtype} {size.shape} where integers (events,) are needed")
            files = {name: stack.enter_context(open_npz(path)) for name, path in paths.items()}
            labels = {name: _label(file, data.left) for name, file in files.items()}
            sizes = [size, *(_size(file, size) for file in files.values() if "size" in file.names)]
            for start, offsets in _pieces(sizes, data, self.step):
                yield Chunk(_columns(source, start, offsets, data, labels))
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


def _label(file: Npz, points: int) -> NpzArray:
    array = file.array("data")
    if array.shape != (points,) or array.dtype.kind not in "biu":
        raise DataError(f"{file.source}: data is {array.dtype} {array.shape} where integers ({points},) are needed")
    return array


def _size(file: Npz, of: NpzArray) -> NpzArray:
    """The sizes in a file of labels, which must be those of the spacepoints."""
    array = file.array("size")
    if array.shape != of.shape or array.dtype.kind not in "iu":
        raise DataError(
            f"{file.source}: size is {array.dtype} {array.shape} where integers {of.shape} are needed, as in "
            f"{of.source.name}"
        )
    return array


def _counts(sizes: Sequence[NpzArray], start: int, stop: int) -> np.ndarray:
    """The points of each of these events, on which the spacepoints and their labels must agree."""
    counts, *others = (each.take(stop - start) for each in sizes)
    for file, other in zip(sizes[1:], others, strict=True):
        if (bad := other != counts).any():
            event = int(np.argmax(bad))
            raise DataError(
                f"{file.source}: size of event {start + event} is {other[event]}, in {sizes[0].source.name} it is "
                f"{counts[event]}: the files are of different events, or damaged"
            )
    return counts


def _pieces(sizes: Sequence[NpzArray], data: NpzArray, step: int) -> Iterator[tuple[int, np.ndarray]]:
    """First event and offsets of each chunk: at most `step` events, and few enough points to keep in memory."""
    size = sizes[0]
    for start, stop in spans(size.left, step):
        counts = _counts(sizes, start, stop)
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
    if not labels:
        return Columns(POINTS, offsets, raw.values)
    return Columns((*POINTS, _NUMBERED, *TRUTH[1:]), offsets, raw.values | _truth(raw))


def _truth(raw: Raw) -> dict[str, np.ndarray]:
    """The checked labels in the types of TRUTH, the tracks of each event numbered from 0 on."""
    track, own = number_tracks(raw.values["track_id"], raw.offsets)
    truth = {"track_id": own}
    for column in TRUTH[1:]:
        given, most = raw.values[column.name], len(column.classes) - 1
        if (bad := (given < 0) | (given > most)).any():
            raw.refuse(column.name, "point", bad, f"is not from 0 to {most}")
        truth[column.name] = given.astype(column.dtype)
        _require_one(raw, column.name, truth[column.name], track)
    return truth


def _require_one(raw: Raw, name: str, label: np.ndarray, track: np.ndarray) -> None:
    """DataError where `label` differs between points of one track, which `track` counts through all events."""
    last = np.empty(int(track.max(initial=-1)) + 1, label.dtype)
    last[track] = label
    if (bad := last[track] != label).any():
        place = int(np.argmax(bad))
        one, two, which = label[place], last[track[place]], raw.values["track_id"][place]
        what = f"is {one} and {two} in track {which}, all points of which have the same: download the labels again"
        raw.refuse(_LABELS[name], "point", bad, what)
