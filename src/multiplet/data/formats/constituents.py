"""Constituents: the checks and the kinematics that readers of all jet formats share, on flat arrays and offsets.

A fault is looked for in all events at once; only where there is one is its event looked up, for the message.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np

from multiplet import kinematics
from multiplet.data.columns import Column, Columns
from multiplet.errors import DataError

Level = Literal["point", "event"]

P4 = (
    Column("px", "GeV"),
    Column("py", "GeV"),
    Column("pz", "GeV"),
    Column("energy", "GeV"),
)
ANGLES = (
    Column("deta", about="η − η of the jet, times the sign of the latter (−1 at 0)"),
    Column("dphi", "rad", about="φ − φ of the jet, in [−π, π)"),
)
KINDS = {  # of particle, by PDG id
    "is_charged_hadron": (211, -211, 321, -321, 2212, -2212),
    "is_neutral_hadron": (130, 2112, -2112),
    "is_photon": (22,),
    "is_electron": (11, -11),
    "is_muon": (13, -13),
}
_POSITIVE, _NEGATIVE = (211, 321, 2212, -11, -13), (-211, -321, -2212, 11, 13)
IDENTITY = (
    Column("charge", "e", dtype="int8"),
    *(Column(name, dtype="int8", about="1 if so, else 0") for name in KINDS),
)
AXIS = (
    Column("jet_pt", "GeV", "event"),
    Column("jet_eta", "", "event"),
    Column("jet_phi", "rad", "event"),
    Column("jet_energy", "GeV", "event"),
)
COUNT = Column("jet_nparticles", "", "event", dtype="int16", about="how many points the jet has")


COMPUTED = {column.name for column in (*P4, *ANGLES, *AXIS, COUNT)}  # of every event with momenta


def to_read(schema: tuple[Column, ...], labelled: bool, held: Collection[str]) -> tuple[Column, ...]:
    """The columns of a layout to look for in a file: all; where it need not be labelled, of truth only what it has."""
    return tuple(column for column in schema if labelled or not column.truth or column.name in held)


@dataclass(frozen=True, eq=False)
class Raw:
    """Events as a file gave them, of any type of number, not yet checked.

    `values` has one entry a column: (offsets[-1],) where it belongs to points, (events,) where to events.
    """

    source: Path
    first: int  # the number of the first of these events in the file
    offsets: np.ndarray  # (events + 1,) int64
    values: dict[str, np.ndarray] = field(repr=False)
    names: Mapping[str, str] = field(default_factory=dict)  # column → what the file calls it
    entries: np.ndarray | None = None  # (events,) their numbers in the file, where not first, first + 1, …

    def refuse(self, column: str, level: Level, bad: np.ndarray, what: str) -> NoReturn:
        """DataError that names file, column and event of the first place where `bad` is true."""
        place = int(np.argmax(bad))
        event = int(np.searchsorted(self.offsets, place, side="right")) - 1 if level == "point" else place
        given = f" ({self.values[column][place]})" if column in self.values else ""
        number = self.first + event if self.entries is None else self.entries[event]
        fix = "" if ":" in what else ": correct the file, or let a mapping select such events away"
        raise DataError(f"{self.source}: {self.names.get(column, column)} of event {number} {what}{given}{fix}")

    def require(self, level: Level, *columns: str, least: float = -np.inf) -> None:
        """DataError where one of these is not finite, or less than `least`: before anything is computed from them."""
        for column in columns:
            if (bad := ~np.isfinite(self.values[column])).any():
                self.refuse(column, level, bad, "is not finite")
            if (bad := self.values[column] < least).any():
                self.refuse(column, level, bad, "is negative" if least == 0 else f"is less than {least}")


def assemble(raw: Raw, schema: tuple[Column, ...], pt: np.ndarray | None = None) -> Columns:
    """Checked columns, constituents in descending `pt` (by default √(px² + py²)), equal ones in the file's order.

    Raises DataError for what is not a number, not finite, out of range or not whole where the schema's type is, for a
    negative energy beside px, and for a constituent without transverse momentum, which has no direction.
    """
    momenta = [column for column in schema if column.level == "point" and column.name in ("px", "py", "energy")]
    first = {column.name: _cast(raw, column) for column in momenta}
    if "px" in first and "energy" in first and (bad := first["energy"] < 0).any():
        raw.refuse("energy", "point", bad, "is negative")
    if pt is None:
        pt = np.hypot(first["px"].astype(np.float64), first["py"])
        if (bad := pt == 0).any():
            raw.refuse("px", "point", bad, "and its py are both 0: there is no direction")
    values = {column.name: first[column.name] if column.name in first else _cast(raw, column) for column in schema}
    order = _descending(pt, raw.offsets)
    if order is not None:
        values |= {column.name: values[column.name][order] for column in schema if column.level == "point"}
    return Columns(schema, raw.offsets, values)


def _cast(raw: Raw, column: Column) -> np.ndarray:
    """The values in the schema's type; DataError where that would change them by more than rounding."""
    given = raw.values[column.name]
    if given.dtype.kind not in "biuf":
        raise DataError(f"{raw.source}: {raw.names.get(column.name, column.name)} is {given.dtype}: numbers are needed")
    if given.dtype == column.dtype and given.dtype.kind != "f":
        return np.ascontiguousarray(given)
    if given.dtype.kind == "f" and (bad := ~np.isfinite(given)).any():
        raw.refuse(column.name, column.level, bad, "is not finite")
    kind = np.dtype(column.dtype)
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            cast = given.astype(kind)
        if given.dtype.itemsize > kind.itemsize and (bad := ~np.isfinite(cast)).any():
            raw.refuse(column.name, column.level, bad, f"is too large for {kind}")
        return np.ascontiguousarray(cast)
    if given.dtype.kind != "b":
        bad = (given < np.iinfo(kind).min) | (given > np.iinfo(kind).max)
        bad |= given != np.trunc(given)
        if bad.any():
            raw.refuse(column.name, column.level, bad, f"is not a whole number in the range of {kind}")
    return np.ascontiguousarray(given.astype(kind))


def _descending(pt: np.ndarray, offsets: np.ndarray) -> np.ndarray | None:
    """The stable order that makes pT fall inside each event; None where it falls already."""
    rises = pt[1:] > pt[:-1]
    edges = offsets[1:-1]
    rises[edges[(edges > 0) & (edges < len(pt))] - 1] = False
    return np.lexsort((-pt, owner(offsets))) if rises.any() else None


def owner(offsets: np.ndarray) -> np.ndarray:
    """The event of each point: (offsets[-1],)."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def relative(eta: np.ndarray, phi: np.ndarray, jet_eta: np.ndarray, jet_phi: np.ndarray) -> dict[str, np.ndarray]:
    """deta and dphi as JetClass defines them; all arguments of the length of the points."""
    return {"deta": flip(eta - jet_eta, jet_eta), "dphi": kinematics.delta_phi(phi, jet_phi)}


def flip(difference: np.ndarray, jet_eta: np.ndarray) -> np.ndarray:
    """η − η_jet times +1 where η_jet > 0 and −1 elsewhere, 0 too; its own inverse."""
    return np.where(jet_eta > 0, difference, -difference)


def around_sum(p4: dict[str, np.ndarray], offsets: np.ndarray) -> dict[str, np.ndarray]:
    """Angles and axis of jets whose axis is the sum of their constituents' four-momenta: ANGLES, AXIS, COUNT.

    Computed in float64. An event without points has a jet of four-momentum 0, with η = φ = 0.
    """
    px, py, pz, energy = (p4[column.name].astype(np.float64) for column in P4)
    jet = [kinematics.segment_sum(value, offsets) for value in (px, py, pz, energy)]
    with np.errstate(divide="ignore", invalid="ignore"):  # a pT of 0 is refused when the columns are put together
        eta = kinematics.eta(px, py, pz)
        jet_pt = kinematics.pt(jet[0], jet[1])
        jet_eta = np.where(np.diff(offsets) > 0, kinematics.eta(*jet[:3]), 0.0)
        jet_phi = kinematics.phi(jet[0], jet[1])
        at = owner(offsets)
        angles = relative(eta, kinematics.phi(px, py), jet_eta[at], jet_phi[at])
    axis = {"jet_pt": jet_pt, "jet_eta": jet_eta, "jet_phi": jet_phi, "jet_energy": jet[3]}
    return {**angles, **axis, "jet_nparticles": np.diff(offsets)}


def identity(pid: np.ndarray) -> dict[str, np.ndarray]:
    """The columns IDENTITY of PDG ids; all 0 where an id is of no kind in KINDS."""
    charge = np.isin(pid, _POSITIVE).astype(np.int8) - np.isin(pid, _NEGATIVE).astype(np.int8)
    return {"charge": charge, **{name: np.isin(pid, ids).astype(np.int8) for name, ids in KINDS.items()}}
