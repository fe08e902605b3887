"""JetClass-like jets: Pythia 8, a fast CMS-like detector and anti-kT jets, in the columns of JetClass.

JetClass is arXiv 2202.03772. These jets are *like* it, not it: leading-order Pythia 8 in place of MadGraph.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from types import ModuleType
from typing import ClassVar

from multiplet.data.columns import Column, Columns
from multiplet.errors import DataError, MissingExtraError
from multiplet.simulation.blocks import block_seed

LABELS = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")

PT_MIN, PT_MAX, ETA_MAX = 500.0, 1000.0, 2.0
_REVISION = "1"  # raised whenever the same seed gives other jets

KINDS = {
    "is_charged_hadron": (211, 321, 2212),
    "is_neutral_hadron": (0,),
    "is_photon": (22,),
    "is_electron": (11,),
    "is_muon": (13,),
}


def _point(name: str, unit: str = "", about: str = "", dtype: str = "float32") -> Column:
    return Column(name, unit, dtype=dtype, about=about)


def _event(name: str, unit: str = "", about: str = "", dtype: str = "float32", truth: bool = False) -> Column:
    return Column(name, unit, "event", truth, dtype, about=about)


SCHEMA: tuple[Column, ...] = (
    _point("px", "GeV"),
    _point("py", "GeV"),
    _point("pz", "GeV"),
    _point("energy", "GeV"),
    _point("deta", "", "η − η of the jet, times the sign of the latter (−1 at 0)"),
    _point("dphi", "rad", "φ − φ of the jet, in [−π, π)"),
    _point("d0", "mm", "transverse impact parameter (x p_y − y p_x)/pT; 0 for neutrals"),
    _point("d0_err", "mm", "its resolution; 0 for neutrals and below pT = 0.18 GeV"),
    _point("dz", "mm", "longitudinal impact parameter; 0 for neutrals"),
    _point("dz_err", "mm", "its resolution; 0 for neutrals and below pT = 0.18 GeV"),
    _point("charge", "e", dtype="int8"),
    *(_point(name, dtype="int8", about="1 if so, else 0") for name in KINDS),
    _event("jet_pt", "GeV"),
    _event("jet_eta"),
    _event("jet_phi", "rad"),
    _event("jet_energy", "GeV"),
    _event("jet_nparticles", dtype="int16", about="how many points the jet has"),
    _event("jet_sdmass", "GeV", "mass after soft drop, z_cut = 0.1, β = 0"),
    *(_event(f"jet_tau{n}", about=f"{n}-subjettiness, β = 1, R = 0.8, kT axes") for n in (1, 2, 3, 4)),
    Column("label", "", "event", True, "int16", LABELS, "the class"),
    _event("genpart_eta", about="of the particle the jet comes from", truth=True),
    _event("genpart_phi", "rad", "of the particle the jet comes from", truth=True),
    _event(
        "genpart_pid",
        about="PDG id of the particle the jet comes from; QCD: the hard parton",
        dtype="int32",
        truth=True,
    ),
    _event("genpart_pt", "GeV", "of the particle the jet comes from", truth=True),
    _event(
        "truth_match",
        about="JetClass's code of the match: 11-16 top, 21-22 W, 31-33 Z, 41-46 H, 50 QCD",
        dtype="int16",
        truth=True,
    ),
)


@dataclass(frozen=True)
class Jets:
    """Jets of these classes, in equal numbers: 500 < pT < 1000 GeV, |η| < 2, R = 0.8, the whole decay inside.

    With jetclass_compatible, two facts of JetClass's detector are kept: tracks yield to the calorimeter wherever it
    sees no significant excess, and the stored η of a charged particle is that of its impact on the calorimeter, while
    jets are made with its true direction. Without, tracks have a momentum resolution and are combined with the
    calorimeter by their errors. Raises DataError for classes that do not exist.
    """

    processes: tuple[str, ...] = LABELS
    jetclass_compatible: bool = True

    schema: ClassVar[tuple[Column, ...]] = SCHEMA

    def __post_init__(self) -> None:
        for name in self.processes:
            if name not in LABELS:
                near = get_close_matches(name, LABELS, 1, 0.0)
                raise DataError(
                    f"there is no jet class {name!r}: did you mean {near[0]!r}? Classes: {', '.join(LABELS)}"
                )
        if not self.processes or len(set(self.processes)) < len(self.processes):
            raise DataError(f"processes are {self.processes}: name at least one class, and each once")

    @property
    def streams(self) -> tuple[str, ...]:
        """The classes, in the order in which their jets alternate."""
        return self.processes

    def provenance(self) -> dict[str, str]:
        """What decides the jets but the seed."""
        return {
            "generator": "JetClass-like jets: Pythia 8, fast CMS-like detector, FastJet",
            "revision": _REVISION,
            **_tools().versions(),
            "processes": " ".join(self.processes),
            "jetclass_compatible": str(self.jetclass_compatible),
        }

    def block(self, stream: str, number: int, seed: int, events: int) -> Columns:
        """So many accepted jets of one class; MissingExtraError without the extra `simulate`."""
        if stream not in self.processes:
            raise DataError(f"there is no stream {stream!r} here: {', '.join(self.processes)}")
        return _tools().make_jets(stream, block_seed(seed, stream, number), self.jetclass_compatible, events)


def _tools() -> ModuleType:
    """The module that needs the extra; imported here, so that everything else works without."""
    try:
        from multiplet.simulation import jet_events
    except ImportError as error:
        raise MissingExtraError(
            f'making jets needs Pythia 8, FastJet, awkward and numba ({error}): pip install "multiplet[simulate]" '
            "(Pythia and FastJet are under the GPL)"
        ) from error
    return jet_events
