"""JetNet: HDF5 files of jets of one class, up to 30 or 150 particles (Zenodo 6975118, 6975117).

particle_features (jets, slots, 4) holds η − η_jet, φ − φ_jet, pT / pT of the jet and a mask, which alone says what is a
particle; jet_features (jets, 4) the jet's pT, η, mass and number of particles. The class is in the file's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from multiplet import kinematics
from multiplet.data.columns import Column, Columns, count_offsets
from multiplet.data.formats.constituents import ANGLES, COUNT, P4, Raw, assemble, flip, owner, to_read
from multiplet.data.formats.hdf5 import dataset, open_hdf5, rows
from multiplet.data.formats.sources import STEP, Chunk, spans
from multiplet.errors import DataError

LABELS = ("g", "t", "q", "w", "z")

SCHEMA = (
    *(Column(c.name, c.unit, about="massless, in the frame where the jet has φ = 0: JetNet has no φ") for c in P4),
    *ANGLES,
    Column("pt_rel", about="pT of the particle / pT of the jet"),
    Column("jet_pt", "GeV", "event"),
    Column("jet_eta", "", "event"),
    Column("jet_energy", "GeV", "event", about="of its pT, η and mass"),
    Column("jet_mass", "GeV", "event"),
    COUNT,
    Column("label", "", "event", True, "int16", LABELS, "the class"),
)
_NAMES = {
    "deta": "particle_features (ηrel)",
    "dphi": "particle_features (φrel)",
    "pt_rel": "particle_features (pTrel)",
    "mask": "particle_features (mask)",
    "jet_pt": "jet_features (pT)",
    "jet_eta": "jet_features (η)",
    "jet_mass": "jet_features (mass)",
    "jet_nparticles": "jet_features (number of particles)",
}


@dataclass(frozen=True)
class JetNet:
    """HDF5 files in JetNet's layout; `label` names the class where the file's name (t.hdf5, t150.hdf5 …) does not.

    Files that need not be `labelled` have no label where neither does.
    """

    label: str = ""
    step: int = STEP
    labelled: bool = True

    def __post_init__(self) -> None:
        if self.label and self.label not in LABELS:
            raise DataError(f"JetNet has no class {self.label!r}; it has {', '.join(LABELS)}")

    def provenance(self) -> dict[str, str]:
        """The format, and the class where it was given."""
        return {"format": "jetnet"} | ({"label": self.label} if self.label else {})

    def chunks(self, source: Path) -> Iterator[Chunk]:
        """All jets of one file, particles in descending pT.

        Raises DataError for a file that is damaged, of another layout, with a mask that is neither 0 nor 1 or values
        that are not finite or negative, MissingExtraError without the extra `hdf5`.
        """
        label = self.label or _label(source, self.labelled)
        with open_hdf5(source) as file:
            particles, jets = dataset(source, file, "particle_features"), dataset(source, file, "jet_features")
            if particles.ndim != 3 or particles.shape[2] != 4 or jets.shape != (len(particles), 4):
                raise DataError(
                    f"{source}: particle_features has shape {particles.shape} and jet_features {jets.shape} where "
                    "(jets, slots, 4) and (jets, 4) are needed"
                )
            for start, stop in spans(len(jets), self.step):
                points, event = rows(source, particles, start, stop), rows(source, jets, start, stop)
                yield Chunk(_columns(source, start, points, event, label))


def _label(source: Path, needed: bool) -> str:
    """The class that a file's name gives; empty where it gives none and none is needed."""
    found = re.fullmatch(rf"([{''.join(LABELS)}])(30|150)?\.(hdf5|h5)", source.name)
    if found is None and needed:
        raise DataError(
            f"{source}: no class is in its name (t.hdf5, t30.hdf5, t150.hdf5 …): say which with JetNet(label)"
        )
    return found[1] if found else ""


def _columns(source: Path, first: int, points: np.ndarray, event: np.ndarray, label: str) -> Columns:
    mask = points[:, :, 3]
    every = Raw(source, first, np.arange(len(mask) + 1) * mask.shape[1], {"mask": mask.reshape(-1)}, _NAMES)
    if (bad := (every.values["mask"] != 0) & (every.values["mask"] != 1)).any():
        every.refuse("mask", "point", bad, "is neither 0 nor 1")
    real = mask == 1
    offsets = count_offsets(real.sum(axis=1))
    at = owner(offsets)
    eta_rel, phi_rel, pt_rel = (points[:, :, n][real].astype(np.float64) for n in range(3))
    pt, eta, mass, count = (event[:, n].astype(np.float64) for n in range(4))
    raw = Raw(source, first, offsets, {"deta": eta_rel, "dphi": phi_rel, "pt_rel": pt_rel}, _NAMES)
    raw.values.update(jet_pt=pt, jet_eta=eta, jet_mass=mass, jet_nparticles=count)
    raw.require("point", "deta", "dphi")
    raw.require("point", "pt_rel", least=0)
    raw.require("event", "jet_eta")
    raw.require("event", "jet_pt", "jet_mass", "jet_nparticles", least=0)
    with np.errstate(over="ignore", invalid="ignore"):  # too large values are refused in assemble
        px, py, pz, energy = kinematics.p4(pt_rel * pt[at], eta[at] + eta_rel, phi_rel, np.zeros(len(at)))
        jet_energy = kinematics.p4(pt, eta, np.zeros(len(pt)), mass)[3]
    raw.values.update(deta=flip(eta_rel, eta[at]), dphi=kinematics.wrap(phi_rel), px=px, py=py, pz=pz, energy=energy)
    raw.values.update(jet_energy=jet_energy, jet_nparticles=np.minimum(count, mask.shape[1]))
    if label:
        raw.values["label"] = np.full(len(pt), LABELS.index(label), np.int16)
    return assemble(raw, to_read(SCHEMA, False, raw.values), pt_rel)
