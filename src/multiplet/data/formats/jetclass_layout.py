"""JetClass's layout: which column lies in which of the 41 branches, its type there, and the order of the classes.

From the published files (Zenodo 6619768): p4 in GeV, impact parameters in mm (Delphes's own unit).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from multiplet.data.columns import Column
from multiplet.data.formats.constituents import ANGLES, AXIS, COUNT, IDENTITY, P4, Level, Raw
from multiplet.data.formats.fields import Jagged, Table, same
from multiplet.errors import DataError

LABELS = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
_PREFIXES = ("ZJetsToNuNu", "HToBB", "HToCC", "HToGG", "HToWW4Q", "HToWW2Q1L", "ZToQQ", "WToQQ", "TTBar", "TTBarLep")
PREFIXES = dict(zip(LABELS, _PREFIXES, strict=True))  # of the published files, HToBB_000.root …: one class a file

FLAGS = {
    "is_charged_hadron": "isChargedHadron",
    "is_neutral_hadron": "isNeutralHadron",
    "is_photon": "isPhoton",
    "is_electron": "isElectron",
    "is_muon": "isMuon",
}
POINTS = (
    *P4,
    *ANGLES,
    Column("d0", "mm", about="transverse impact parameter (x p_y − y p_x)/pT; 0 for neutrals"),
    Column("d0_err", "mm", about="its resolution; 0 for neutrals and below pT = 0.18 GeV"),
    Column("dz", "mm", about="longitudinal impact parameter; 0 for neutrals"),
    Column("dz_err", "mm", about="its resolution; 0 for neutrals and below pT = 0.18 GeV"),
    *IDENTITY,
)
JET = (
    *AXIS,
    COUNT,
    Column("jet_sdmass", "GeV", "event", about="mass after soft drop, z_cut = 0.1, β = 0"),
    *(Column(f"jet_tau{n}", "", "event", about=f"{n}-subjettiness, β = 1, R = 0.8, kT axes") for n in (1, 2, 3, 4)),
)
LABEL = Column("label", "", "event", True, "int16", LABELS, "the class")
TRUTH = (
    Column("genpart_eta", "", "event", True, about="of the particle the jet comes from"),
    Column("genpart_phi", "rad", "event", True, about="of the particle the jet comes from"),
    Column(
        "genpart_pid",
        "",
        "event",
        True,
        "int32",
        about="PDG id of the particle the jet comes from; QCD: the hard parton",
    ),
    Column("genpart_pt", "GeV", "event", True, about="of the particle the jet comes from"),
    Column(
        "truth_match",
        "",
        "event",
        True,
        "int16",
        about="JetClass's code of the match: 11-16 top, 21-22 W, 31-33 Z, 41-46 H, 50 QCD",
    ),
)
SCHEMA = (*POINTS, *JET, LABEL, *TRUTH)  # the same as the simulation's

PART = {
    **{name: f"part_{name}" for name in ("px", "py", "pz", "energy", "deta", "dphi", "charge")},
    **{"d0": "part_d0val", "d0_err": "part_d0err", "dz": "part_dzval", "dz_err": "part_dzerr"},
    **{name: f"part_{flag}" for name, flag in FLAGS.items()},
}
BRANCH = PART | {column.name: column.name for column in JET} | {column.name: f"aux_{column.name}" for column in TRUTH}
LABEL_TYPES: dict[str, type] = dict(zip(LABELS, (np.float32, *5 * (np.bool_,), *4 * (np.int32,)), strict=True))


def read_layout(
    table: Table, names: Mapping[str, str], more: Sequence[str], step: int
) -> Iterator[tuple[Raw, dict[str, Jagged]]]:
    """Jets of a table as columns, by `names` (column → what the file calls it), and what else it calls `more`.

    Raises DataError for names that the table lacks, for columns that have not one number for each point or event as
    they should, and where the points of two columns do not agree in number.
    """
    wanted, first = [*names.values(), *more], 0
    if lacking := sorted({*wanted} - {*table.fields, *table.unreadable}):
        where = f"tree {table.name} " if table.name else ""
        raise DataError(f"{table.source}: {where}lacks {', '.join(lacking)}: is this another layout?")
    for arrays in table.iterate(wanted, step):
        offsets = arrays[names["px"]].offsets
        for name, called in names.items():
            _check(table, first, called, arrays[called], "point" if name in PART else "event", offsets)
        assert offsets is not None  # as the check of px says
        yield Raw(table.source, first, offsets, {n: arrays[one].values for n, one in names.items()}, names), arrays
        first += len(offsets) - 1


def _check(table: Table, first: int, called: str, one: Jagged, level: Level, offsets: np.ndarray | None) -> None:
    held = table.fields[called]
    if held.width or held.depth != (level == "point"):
        given = f"{'a list of ' * held.depth}{held.dtype} {list(held.width) or ''}".strip()
        raise DataError(f"{table.source}: {called} is {given}, not one number for each {level}")
    if one.offsets is not None and offsets is not None and not same(one.offsets, offsets):
        event = first + int(np.argmax(np.diff(one.offsets) != np.diff(offsets)))
        raise DataError(f"{table.source}: {called} of event {event} has not as many values as part_px")
