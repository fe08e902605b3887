"""The ten JetClass-like processes in Pythia 8: settings, early veto, and the truth a jet is matched to.

Pythia is a GPL-2+ tool; this module is imported only when jets are made. Events that cannot give an accepted jet are
dropped as early as it is certain enough: the decay mode when the hard process is known, the transverse momentum,
direction and opening of the decay when the shower has come down to a few GeV, before the costly multiparton
interactions and the hadronisation. The margins are measured (`docs/log.md`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import hypot, pi, remainder

import awkward as ak
import numpy as np
import pythia8mc

from multiplet.errors import DataError
from multiplet.simulation.jet_truth import candidates

QUARKS = (1, 2, 3, 4, 5)
_PLUS, _MINUS = (211, 321, 2212, 3222), (11, 13, 15, 3112, 3312, 3334)  # charge of the particle with a positive id
_INVISIBLE_Z = ("23:onMode = off", "23:onIfAny = 12 14 16")
_HADRONIC_W = ("24:onMode = off", "24:onIfAny = 1 2 3 4 5")
_LEPTONIC_W = ("24:onMode = off", "24:onIfAny = 11 13")
_HIGGS = ("HiggsSM:ffbar2HZ = on", "25:m0 = 125", "25:onMode = off", *_INVISIBLE_Z)
_TOP = ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on")


@dataclass(frozen=True)
class Process:
    """How Pythia makes the jets of one class; a jet holds `partons` quarks or gluons and `leptons` e or μ.

    In as many as `jets` of the two partners of the hard process the decay is the one asked for, else it is invisible.
    """

    settings: tuple[str, ...]
    parents: tuple[int, ...]  # |PDG id| of the hard-process particle that becomes the jet
    partons: int
    leptons: int = 0
    jets: int = 1


PROCESSES: dict[str, Process] = {
    "QCD": Process(
        ("WeakBosonAndParton:qqbar2gmZg = on", "WeakBosonAndParton:qg2gmZq = on", *_INVISIBLE_Z), (*QUARKS, 21), 1
    ),
    "Hbb": Process((*_HIGGS, "25:onIfMatch = 5 -5"), (25,), 2),
    "Hcc": Process((*_HIGGS, "25:onIfMatch = 4 -4"), (25,), 2),
    "Hgg": Process((*_HIGGS, "25:onIfMatch = 21 21"), (25,), 2),
    "H4q": Process((*_HIGGS, "25:onIfMatch = 24 -24", *_HADRONIC_W), (25,), 4),
    # W decays to quarks or to e, μ at random: the veto keeps H → ℓν qq', 37 % of them, at no cost to speak of.
    "Hqql": Process((*_HIGGS, "25:onIfMatch = 24 -24", *_HADRONIC_W, "24:onIfAny = 11 13"), (25,), 2, 1),
    "Zqq": Process(("WeakDoubleBoson:ffbar2gmZgmZ = on", *_INVISIBLE_Z, "23:onIfAny = 1 2 3 4 5"), (23,), 2),
    "Wqq": Process(("WeakDoubleBoson:ffbar2ZW = on", *_INVISIBLE_Z, *_HADRONIC_W), (24,), 2),
    "Tbqq": Process((*_TOP, *_HADRONIC_W), (6,), 3, jets=2),
    "Tbl": Process((*_TOP, *_LEPTONIC_W), (6,), 1, 1, jets=2),
}

_COMMON = (
    "Print:quiet = on",
    "Beams:eCM = 13000",
    "PhaseSpace:pTHatMin = 440",
    "PhaseSpace:pTHatMax = 1200",
    "WeakZ0:gmZmode = 2",  # Z alone, without the photon
    "Next:numberShowEvent = 0",
)

# When the shower has come down to this scale, an accepted jet (pT > 500 GeV, |η| < 2, products within ΔR < 0.8) has
# these properties but for 5 in 7071 (docs/log.md). All partons within _NEAR of the decay count towards its pT.
_SCALE, _PT_MIN, _ETA_MAX, _SPREAD_MAX, _NEAR = 10.0, 440.0, 2.4, 1.4, 1.6


class Veto(pythia8mc.UserHooks):
    """Drops events in which nothing can become an accepted jet. Method names are Pythia's."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process
        self._hopes: list[tuple[int, list[pythia8mc.Vec4]]] = []

    def canVetoProcessLevel(self) -> bool:  # noqa: N802
        """Yes: look at the hard process and its decays."""
        return True

    def doVetoProcessLevel(self, event: pythia8mc.Event) -> bool:  # noqa: N802
        """Whether the partners do not decay to what the class asks for."""
        self._hopes = [(partner, products) for partner in (5, 6) if (products := self._decay(event, partner))]
        return len(self._hopes) != self._process.jets

    def canVetoPT(self) -> bool:  # noqa: N802
        """Yes: look again when the shower has come down to a scale."""
        return True

    def scaleVetoPT(self) -> float:  # noqa: N802
        """The scale in GeV."""
        return _SCALE

    def doVetoPT(self, place: int, event: pythia8mc.Event) -> bool:  # noqa: N802
        """Whether no partner can become an accepted jet; place 5 is the shower of a resonance, later."""
        return place < 5 and not any(self._hope(event, *hope) for hope in self._hopes)

    def _decay(self, event: pythia8mc.Event, partner: int) -> list[pythia8mc.Vec4]:
        """Momenta of the visible products in the rest frame of a resonance (or the parton itself); empty if others."""
        if event[partner].idAbs() not in self._process.parents:
            return []
        if event[partner].isFinal():
            return [event[partner].p()]
        products, partons, leptons, stack = [], 0, 0, [partner]
        while stack:
            particle = event[stack.pop()]
            kind = particle.idAbs()
            if not particle.isFinal():
                stack.extend(particle.daughterList())
            elif kind in QUARKS or kind == 21:
                partons += 1
                products.append(particle.p())
            elif kind in (11, 13):
                leptons += 1
                products.append(particle.p())
        if (partons, leptons) != (self._process.partons, self._process.leptons):
            return []
        for product in products:
            product.bstback(event[partner].p())
        return products

    def _hope(self, event: pythia8mc.Event, partner: int, products: list[pythia8mc.Vec4]) -> bool:
        axis = pythia8mc.Vec4(0.0, 0.0, 0.0, 0.0)
        last, visible = -1, 0.0
        if self._process.partons + self._process.leptons == 1:
            axis = products[0]  # a light parton: what it radiated is among the partons near by
        else:
            last = event[partner].iBotCopyId()
            moved = [pythia8mc.Vec4(product) for product in products]
            for product in moved:
                product.bst(event[last].p())
                axis += product
            if max(_delta_r(product, axis) for product in moved) > _SPREAD_MAX:
                return False
            visible = axis.pT()
        if abs(axis.eta()) > _ETA_MAX:
            return False
        if visible > _PT_MIN:
            return True
        others = (event[i] for i in range(5, event.size()) if i != last)
        return visible + sum(o.pT() for o in others if _counts(o) and _delta_r(o.p(), axis) < _NEAR) > _PT_MIN


def _counts(particle: pythia8mc.Particle) -> bool:
    return particle.isFinal() and (particle.idAbs() in QUARKS or particle.idAbs() == 21)


def _delta_r(a: pythia8mc.Vec4, b: pythia8mc.Vec4) -> float:
    return hypot(a.eta() - b.eta(), remainder(a.phi() - b.phi(), 2.0 * pi))


def generator(name: str) -> pythia8mc.Pythia:
    """Pythia for one class, made once a process: about 0.3 s."""
    return _generator(name)[0]


@cache
def _generator(name: str) -> tuple[pythia8mc.Pythia, Veto]:
    process = PROCESSES[name]
    pythia = pythia8mc.Pythia("", False)
    for setting in (*_COMMON, *process.settings):
        if not pythia.readString(setting):
            raise DataError(f"Pythia refuses the setting {setting!r}")
    veto = Veto(process)
    pythia.setUserHooksPtr(veto)
    if not pythia.init():
        raise DataError(f"Pythia could not be initialised for {name}")
    return pythia, veto  # both: Pythia itself does not keep the Python half of the veto alive


@dataclass(frozen=True)
class Batch:
    """Generated events, flat: stable particles for the detector, and what may become a jet."""

    particles: np.ndarray  # (P, 7): px, py, pz, E in GeV, production point x, y, z in mm
    pid: np.ndarray  # (P,) PDG ids
    charge: np.ndarray  # (P,) in e
    offsets: np.ndarray  # (events + 1,)
    candidates: np.ndarray  # (events, PARTNERS, WIDTH)

    def __len__(self) -> int:
        return len(self.offsets) - 1


def generate(name: str, events: int) -> Batch:
    """The next events of a class that pass the veto; Pythia leaves out those it fails to finish."""
    process = PROCESSES[name]
    record = ak.drop_none(generator(name).nextBatch(events), axis=0).prt
    edges = np.concatenate([[0], np.cumsum(ak.to_numpy(ak.num(record)))]).astype(np.int64)
    flat = ak.flatten(record)
    pid, first, last, status = (ak.to_numpy(flat[key]) for key in ("id", "daughter1", "daughter2", "status"))
    momenta = np.stack([ak.to_numpy(flat.p[key]) for key in ("px", "py", "pz", "e")], axis=1)
    hopes = candidates(pid, first, last, momenta, edges, np.array(process.parents), process.partons, process.leptons)
    stable = np.flatnonzero(status > 0)
    born = flat.vProd[stable]
    point = [ak.to_numpy(ak.fill_none(born[key], 0.0))[:, None] for key in ("px", "py", "pz")]
    offsets = np.searchsorted(stable, edges).astype(np.int64)
    particles = np.concatenate([momenta[stable], *point], axis=1)
    return Batch(particles, pid[stable], _charge(pid[stable]), offsets, hopes)


def _charge(pid: np.ndarray) -> np.ndarray:
    """Charge in e of stable particles."""
    code = abs(pid)
    charge = np.isin(code, _PLUS).astype(np.int64) - np.isin(code, _MINUS).astype(np.int64)
    return charge * np.sign(pid)
