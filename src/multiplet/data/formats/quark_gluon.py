"""Quark and gluon jets: npz files of 100,000 jets (Zenodo 3164691 with Pythia 8, 3066475 with Herwig 7.1).

X (jets, slots, 4) holds pT in GeV, rapidity, φ and PDG id; what has pT > 0 is a particle. y is 1 for quarks, 0 for
gluons. Masses are set to 0, so that η is the rapidity, and the jet's axis is the sum of the four-momenta.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from multiplet import kinematics
from multiplet.data.columns import Column, Columns, count_offsets
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
    identity,
    to_read,
)
from multiplet.data.formats.npz import open_npz
from multiplet.data.formats.sources import STEP, Chunk, spans
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


@dataclass(frozen=True)
class QuarkGluon:
    """npz files in the layout of the quark/gluon data sets; they may lack y where they need not be `labelled`."""

    step: int = STEP
    labelled: bool = True

    def provenance(self) -> dict[str, str]:
        """Nothing but the format's name."""
        return {"format": "quark_gluon"}

    def chunks(self, source: Path) -> Iterator[Chunk]:
        """All jets of one file, particles in descending pT; nothing in the file is unpickled or unpacked to disk.

        Raises DataError for a file that is damaged, of another layout or with objects in it, and for values that no
        jet has: not finite, a negative pT, a PDG id of no kind in KINDS, a y other than 0 and 1.
        """
        with open_npz(source) as file:
            points, labels = file.array("X"), file.array("y") if self.labelled or "y" in file.names else None
            if len(points.shape) != 3 or points.shape[2] != 4:
                raise DataError(f"{source}: X has shape {points.shape} where (jets, slots, 4) is needed")
            if labels is not None and labels.shape != points.shape[:1]:
                raise DataError(f"{source}: y has shape {labels.shape} where {points.shape[:1]} is needed")
            for one in (points, labels):
                if one is not None and one.dtype.kind not in "biuf":
                    raise DataError(f"{source}: {one.name} holds {one.dtype} where numbers are needed")
            for start, stop in spans(points.left, self.step):
                code = None if labels is None else labels.take(stop - start)
                yield Chunk(_columns(source, start, points.take(stop - start), code))


def _columns(source: Path, first: int, x: np.ndarray, y: np.ndarray | None) -> Columns:
    every = Raw(source, first, np.arange(len(x) + 1) * x.shape[1], {"pt": x[:, :, 0].reshape(-1)}, _NAMES)
    if (bad := ~(every.values["pt"] >= 0)).any():
        every.refuse("pt", "point", bad, "is negative or not a number")
    real = x[:, :, 0] > 0
    offsets = count_offsets(real.sum(axis=1))
    pt, eta, phi, pid = (x[:, :, n][real].astype(np.float64) for n in range(4))
    raw = Raw(source, first, offsets, {"pt": pt, "rapidity": eta, "phi": phi, "pid": pid}, _NAMES)
    raw.require("point", "pt", "rapidity", "phi", "pid")
    with np.errstate(over="ignore", invalid="ignore"):  # too large values are refused in assemble
        p4 = dict(zip(("px", "py", "pz", "energy"), kinematics.p4(pt, eta, phi, np.zeros(len(pt))), strict=True))
        raw.values.update(p4 | around_sum(p4, offsets))
    raw.values.update(identity(pid))
    if (bad := np.sum([raw.values[name] for name in KINDS], axis=0) != 1).any():
        raw.refuse("pid", "point", bad, "is the PDG id of no kind of particle known here")
    if y is not None:
        raw.values["label"] = y
        if (bad := (y != 0) & (y != 1)).any():
            raw.refuse("label", "event", bad, "is neither 0 (gluon) nor 1 (quark)")
    return assemble(raw, to_read(SCHEMA, False, raw.values))
