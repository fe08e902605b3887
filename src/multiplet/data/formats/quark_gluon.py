"""Quark and gluon jets: npz files of 100,000 jets (Zenodo 3164691 with Pythia 8, 3066475 with Herwig 7.1).

X (jets, slots, 4) holds pT in GeV, rapidity, φ and PDG id; what has pT > 0 is a particle. y is 1 for quarks, 0 for
gluons. Masses are set to 0, so that η is the rapidity, and the jet's axis is the sum of the four-momenta.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from multiplet import kinematics
from multiplet.data.columns import Column, Columns
from multiplet.data.formats.constituents import (
    ANGLES,
    AXIS,
    COUNT,
    IDENTITY,
    KINDS,
    P4,
    Raw,
    around_sum,
    assemble,
    count_offsets,
    identity,
)
from multiplet.data.formats.sources import STEP, Chunk, present, reading, spans
from multiplet.errors import DataError

LABELS = ("gluon", "quark")  # codes 0 and 1

SCHEMA = (
    *P4,
    *ANGLES,
    *IDENTITY,
    Column("pid", dtype="int32", about="PDG id"),
    *AXIS,
    COUNT,
    Column("label", "", "event", True, "int16", LABELS, "the class"),
)
_NAMES = {"pt": "pT in X", "rapidity": "rapidity in X", "phi": "φ in X", "pid": "PDG id in X", "label": "y"}
_ROW_BYTES = 16 << 20


@dataclass(frozen=True)
class QuarkGluon:
    """npz files in the layout of the quark/gluon data sets, compressed or not."""

    step: int = STEP

    def provenance(self) -> dict[str, str]:
        """Nothing but the format's name."""
        return {"format": "quark_gluon"}

    def chunks(self, source: Path) -> Iterator[Chunk]:
        """All jets of one file, particles in descending pT; nothing in the file is unpickled or unpacked to disk.

        Raises DataError for a file that is damaged, of another layout or with objects in it, and for values that no
        jet has: not finite, a negative pT, a PDG id of no kind in KINDS, a y other than 0 and 1.
        """
        with reading(present(source), "the npz file"):
            archive = zipfile.ZipFile(source)
        with archive, _member(source, archive, "X") as points, _member(source, archive, "y") as labels:
            shape, kind = _header(source, points, archive.getinfo("X.npy"))
            events, code_kind = _header(source, labels, archive.getinfo("y.npy"))
            if len(shape) != 3 or shape[2] != 4 or events != shape[:1]:
                raise DataError(
                    f"{source}: X has shape {shape} and y {events} where (jets, slots, 4) and (jets,) are needed"
                )
            for start, stop in spans(shape[0], self.step):
                x = _take(source, points, (stop - start, *shape[1:]), kind)
                y = _take(source, labels, (stop - start,), code_kind)
                yield Chunk(_columns(source, start, x, y))
            with reading(source, "the end of its arrays"):  # where the checksum of the archive is compared
                if points.read(1) or labels.read(1):
                    raise DataError(f"{source}: its arrays are longer than their headers say")


def _member(source: Path, archive: zipfile.ZipFile, name: str) -> zipfile.ZipExtFile:
    if f"{name}.npy" not in archive.namelist():
        held = ", ".join(archive.namelist()[:20]) or "nothing"
        raise DataError(f"{source} has no array {name}; it holds {held}")
    with reading(source, f"array {name}"):
        file = archive.open(f"{name}.npy")
    assert isinstance(file, zipfile.ZipExtFile)
    return file


def _header(source: Path, file: zipfile.ZipExtFile, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array; DataError where it holds objects or is not as large as it says."""
    with reading(source, f"header of {info.filename}"):
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, kind = read(file)
    if kind.hasobject or kind.kind not in "biuf":
        raise DataError(f"{source}: {info.filename} holds {kind} where numbers are needed; objects are never unpickled")
    if fortran and len(shape) > 1:
        raise DataError(f"{source}: {info.filename} is stored by columns: save it again with np.ascontiguousarray")
    if prod(shape) * kind.itemsize != info.file_size - file.tell() or prod(shape[1:]) * kind.itemsize > _ROW_BYTES:
        raise DataError(
            f"{source}: {info.filename} declares shape {shape}, which its {info.file_size} bytes do not hold"
        )
    return shape, kind


def _take(source: Path, file: zipfile.ZipExtFile, shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    """The next rows of an array, in the machine's byte order."""
    size = prod(shape) * kind.itemsize
    with reading(source, "its arrays"):
        data = file.read(size)
        if len(data) != size:
            raise DataError(f"{source}: an array ends {size - len(data)} bytes too early: the file is truncated")
    return np.frombuffer(data, kind).reshape(shape).astype(kind.newbyteorder("="), copy=False)


def _columns(source: Path, first: int, x: np.ndarray, y: np.ndarray) -> Columns:
    every = Raw(source, first, np.arange(len(x) + 1) * x.shape[1], {"pt": x[:, :, 0].reshape(-1)}, _NAMES)
    if (bad := ~(every.values["pt"] >= 0)).any():
        every.refuse("pt", "point", bad, "is negative or not a number")
    real = x[:, :, 0] > 0
    offsets = count_offsets(real.sum(axis=1))
    pt, eta, phi, pid = (x[:, :, n][real].astype(np.float64) for n in range(4))
    raw = Raw(source, first, offsets, {"pt": pt, "rapidity": eta, "phi": phi, "pid": pid, "label": y}, _NAMES)
    raw.require("point", "pt", "rapidity", "phi", "pid")
    raw.require("event", "label")
    with np.errstate(over="ignore", invalid="ignore"):  # too large values are refused in assemble
        p4 = dict(zip(("px", "py", "pz", "energy"), kinematics.p4(pt, eta, phi, np.zeros(len(pt))), strict=True))
        raw.values.update(p4 | around_sum(p4, offsets))
    raw.values.update(identity(pid))
    if (bad := np.sum([raw.values[name] for name in KINDS], axis=0) != 1).any():
        raw.refuse("pid", "point", bad, "is the PDG id of no kind of particle known here")
    if (bad := (y != 0) & (y != 1)).any():
        raw.refuse("label", "event", bad, "is neither 0 (gluon) nor 1 (quark)")
    return assemble(raw, SCHEMA)
