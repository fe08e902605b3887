"""Proton-proton collisions at 200 GeV for the time projection chamber: Pythia 8 with the Detroit tune.

Pythia is a GPL-2+ tool; this module is imported only when events are made. The tune is that of arXiv 2110.09447
(Aguilar and others, 2022), which the sPHENIX collaboration uses for its minimum-bias events.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import awkward as ak
import numpy as np
import pythia8mc

from multiplet.errors import DataError
from multiplet.simulation.tpc_matter import CHARGE, ELECTRON, KAON, KIND, MASS, OTHER, PARTICLE, PION, PROTON, PX, X

_COMMON = (
    "Print:quiet = on",
    "Beams:eCM = 200",
    "PDF:pSet = 17",
    "MultipartonInteractions:bProfile = 2",
    "MultipartonInteractions:ecmRef = 200",
    "MultipartonInteractions:pT0Ref = 1.40",
    "MultipartonInteractions:ecmPow = 0.135",
    "MultipartonInteractions:coreRadius = 0.56",
    "MultipartonInteractions:coreFraction = 0.78",
    "ColourReconnection:range = 5.4",
    # What decays before it leaves the chamber does; pions, kaons and muons are left to the tracking.
    "ParticleDecays:limitCylinder = on",
    "ParticleDecays:xyMax = 780",
    "ParticleDecays:zMax = 1050",
    "130:mayDecay = on",
    "Next:numberShowEvent = 0",
)
PROCESSES = {
    "minimum_bias": ("SoftQCD:inelastic = on",),
    "hard": ("HardQCD:all = on", "PhaseSpace:pTHatMin = 7.5"),
}
_KINDS = {11: ELECTRON, 13: OTHER, 211: PION, 321: KAON, 2212: PROTON, 22: OTHER}
_POSITIVE = (-11, -13, 211, 321, 2212)
_MM = 0.1  # in cm


@cache
def generator(name: str) -> pythia8mc.Pythia:
    """Pythia for one process, made once a process of the machine: one to four seconds."""
    pythia = pythia8mc.Pythia("", False)
    for setting in (*_COMMON, *PROCESSES[name]):
        if not pythia.readString(setting):
            raise DataError(f"Pythia refuses the setting {setting!r}")
    if not pythia.init():
        raise DataError(f"Pythia could not be initialised for {name}")
    return pythia


@dataclass(frozen=True)
class Batch:
    """Generated collisions, flat: what the chamber may see."""

    particles: np.ndarray  # (P, PARTICLE)
    offsets: np.ndarray  # (events + 1,)

    def __len__(self) -> int:
        return len(self.offsets) - 1


def generate(name: str, events: int) -> Batch:
    """The next collisions of a process: stable charged particles and photons; Pythia leaves out those it fails at."""
    record = ak.drop_none(generator(name).nextBatch(events), axis=0).prt
    edges = np.concatenate([[0], np.cumsum(ak.to_numpy(ak.num(record)))]).astype(np.int64)
    flat = ak.flatten(record)
    pid = ak.to_numpy(flat.id)
    seen = np.flatnonzero((ak.to_numpy(flat.status) > 0) & np.isin(abs(pid), list(_KINDS)))
    flat, pid = flat[seen], pid[seen]
    particles = np.empty((len(seen), PARTICLE))
    for axis, key in enumerate(("px", "py", "pz")):
        particles[:, PX + axis] = ak.to_numpy(flat.p[key])
        particles[:, X + axis] = ak.to_numpy(ak.fill_none(flat.vProd[key], 0.0)) * _MM
    particles[:, MASS] = np.maximum(ak.to_numpy(flat.m), 0.0)
    particles[:, CHARGE] = np.where(pid == 22, 0, np.where(np.isin(pid, _POSITIVE), 1, -1))
    codes = np.array(sorted(_KINDS))
    particles[:, KIND] = np.array([_KINDS[code] for code in codes.tolist()])[np.searchsorted(codes, abs(pid))]
    return Batch(particles, np.searchsorted(seen, edges).astype(np.int64))
