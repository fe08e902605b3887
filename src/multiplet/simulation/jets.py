"""JetClass-like jets: Pythia 8, a fast CMS-like detector and anti-kT jets, in the columns of JetClass.

JetClass is arXiv 2202.03772. These jets are *like* it, not it: leading-order Pythia 8 in place of MadGraph.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from types import ModuleType
from typing import ClassVar

from multiplet.data.columns import Column, Columns
from multiplet.data.formats.jetclass_layout import LABELS, SCHEMA
from multiplet.errors import DataError, MissingExtraError
from multiplet.simulation.blocks import block_seed

PT_MIN, PT_MAX, ETA_MAX = 500.0, 1000.0, 2.0
_REVISION = "1"  # raised whenever the same seed gives other jets

KINDS = {
    "is_charged_hadron": (211, 321, 2212),
    "is_neutral_hadron": (0,),
    "is_photon": (22,),
    "is_electron": (11,),
    "is_muon": (13,),
}


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
