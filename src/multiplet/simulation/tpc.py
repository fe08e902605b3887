"""sPHENIX-like events of a time projection chamber: Pythia 8 and a fast response, in the columns of TPCpp-10M.

TPCpp-10M is arXiv 2509.05792. These events are *like* it, not it: a fast simulation in place of Geant4, without nuclear
interactions, bremsstrahlung, noise of the electronics, dead pads, distortions of the drift or other collisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

from multiplet.data.columns import Column, Columns
from multiplet.data.formats.tpcpp import POINTS, TRUTH
from multiplet.errors import DataError, MissingExtraError
from multiplet.simulation.blocks import block_seed

PROCESSES = ("minimum_bias", "hard")
_REVISION = "1"  # raised whenever the same seed gives other events

SCHEMA = (
    *POINTS,
    *TRUTH,
    Column("track_pt", "GeV", truth=True, about="of the particle at its birth"),
    Column("track_eta", truth=True, about="of the particle at its birth"),
    Column("track_charge", "e", truth=True, dtype="int8"),
    Column("process", "", "event", True, "int16", PROCESSES, "the kind of collision"),
    Column("vertex_z", "cm", "event", True, about="where the protons met"),
)


@dataclass(frozen=True)
class Tpc:
    """Proton-proton collisions at 200 GeV, of these kinds in equal numbers, that leave a spacepoint at least.

    "minimum_bias" is all inelastic collisions; "hard" has two partons of more than 7.5 GeV. One to one they have as
    many points an event as TPCpp-10M. Raises DataError for kinds that do not exist.
    """

    processes: tuple[str, ...] = PROCESSES

    schema: ClassVar[tuple[Column, ...]] = SCHEMA

    def __post_init__(self) -> None:
        if not self.processes or set(self.processes) - set(PROCESSES) or len(set(self.processes)) < len(self.processes):
            raise DataError(
                f"processes are {self.processes}: name at least one of {', '.join(PROCESSES)}, and each once"
            )

    @property
    def streams(self) -> tuple[str, ...]:
        """The kinds of collision, in the order in which their events alternate."""
        return self.processes

    def provenance(self) -> dict[str, str]:
        """What decides the events but the seed."""
        return {
            "generator": "sPHENIX-like TPC events: Pythia 8 (Detroit tune), fast drift chamber without Geant4",
            "revision": _REVISION,
            **_tools().versions(),
            "processes": " ".join(self.processes),
        }

    def block(self, stream: str, number: int, seed: int, events: int) -> Columns:
        """So many events of one kind; MissingExtraError without the extra `simulate`."""
        if stream not in self.processes:
            raise DataError(f"there is no stream {stream!r} here: {', '.join(self.processes)}")
        return _tools().make_events(stream, block_seed(seed, stream, number, "tpc"), events)


def _tools() -> ModuleType:
    """The module that needs the extra; imported here, so that everything else works without."""
    try:
        from multiplet.simulation import tpc_events
    except ImportError as error:
        raise MissingExtraError(
            f'making collisions needs Pythia 8, awkward and numba ({error}): pip install "multiplet[simulate]" '
            "(Pythia is under the GPL)"
        ) from error
    return tpc_events
