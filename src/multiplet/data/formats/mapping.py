"""Mappings: what a YAML file says of somebody's own files: which branch, or expression of branches, is which column.

    tree: Events                         # of a ROOT file, or a group of an HDF5 file; left out where there is only one
    group: [run, event]                  # consecutive rows with equal values are the points of one event
    each: FatJet                         # one event for each entry of this collection; left out: one for each row
    arrays: {jets: [px, py, pz, E]}      # names for what lies on the last axis of an array
    define: {far: "abs(PFCands_dz) > 1"} # names for use in the expressions below
    points:
      real: "PFCands_pt > 0"             # which points there are: what pads an array is not
      link: {object: FatJetPFCands_jetIdx, point: FatJetPFCands_pFCandsIdx}    # with `each`: whose the points are
      four_vector: {pt: PFCands_pt, eta: PFCands_eta, phi: PFCands_phi, mass: PFCands_mass, unit: GeV}
      pdg_id: PFCands_pdgId              # gives charge and the five flags of the kind of particle
      columns: {d0: {from: "10 * PFCands_d0", unit: mm}, quality: {from: PFCands_trkQuality, type: int16}}
    event:
      axis: {pt: FatJet_pt, eta: FatJet_eta, phi: FatJet_phi, mass: FatJet_mass}    # or sum, which is the default
      columns: {jet_sdmass: FatJet_msoftdrop, n_b: {from: FatJet_nBHadrons, truth: true}}
    spectators: [run, luminosityBlock, event, genWeight]
    weight: genWeight
    label: {QCD: "FatJet_nBHadrons == 0", b: "FatJet_nBHadrons > 0"}    # or by source, signal:/data/s*.root
    unlabelled: refuse                   # or keep: code -1
    select: ["FatJet_pt > 300", "abs(FatJet_eta) < 2.4"]

All but `points` may be left out. A four-vector is px py pz energy, or pt eta phi with mass or energy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multiplet.data.columns import Column
from multiplet.data.expressions import Expression, quote
from multiplet.data.formats.constituents import COMPUTED
from multiplet.data.formats.jetclass_layout import SCHEMA
from multiplet.data.formats.mapping_parts import (
    Derived,
    FourVector,
    array_members,
    columns_of_file,
    conditions,
    derived_columns,
    expression,
    expressions,
    vector,
)
from multiplet.data.formats.plain_yaml import keyed, load, text
from multiplet.data.formats.sources import present
from multiplet.data.formats.weaver import from_weaver, is_weaver
from multiplet.errors import DataError


@dataclass(frozen=True)
class Link:
    """Two lists of one length: which object of the entry has which of its points; by themselves without `point`."""

    object: str
    point: str | None = None


@dataclass(frozen=True)
class FileMapping:
    """What a mapping says, checked as far as that goes without the files; `plain` is the text of it."""

    tree: str | None
    group: tuple[str, ...]  # () where a row is an event
    each: str | None
    arrays: Mapping[str, tuple[str, ...]]
    define: Mapping[str, Expression]
    real: Expression | None
    link: Link | None
    four_vector: FourVector | None
    pdg_id: Expression | None
    axis: FourVector | None  # None: the sum of the points
    columns: tuple[Derived, ...]  # of points, then of events, spectators and the weight
    label: Mapping[str, Expression]
    keep_unlabelled: bool
    select: Mapping[str, Expression]
    notes: tuple[str, ...] = ()
    plain: str = field(default="", repr=False)

    def expressions(self) -> Iterator[Expression]:
        """All that must be known of an event."""
        yield from self.point_expressions()
        yield from self.axis.parts.values() if self.axis else ()
        yield from (one.value for one in self.columns if one.column.level == "event")
        yield from (*self.label.values(), *self.select.values())

    def point_expressions(self) -> Iterator[Expression]:
        """What is said of points."""
        yield from self.four_vector.parts.values() if self.four_vector else ()
        yield from (one for one in (self.real, self.pdg_id) if one is not None)
        yield from (one.value for one in self.columns if one.column.level == "point")

    def needed(self, expressions: Iterable[Expression]) -> tuple[str, ...]:
        """The names that these need, those of the file and those defined, in the order of their use."""
        names: dict[str, None] = {}
        waiting = [name for one in expressions for name in one.names][::-1]
        while waiting:
            if (name := waiting.pop()) not in names:
                names[name] = None
                waiting += reversed(self.define[name].names if name in self.define else ())
        return tuple(names)


def read_mapping(path: Path, labelled: bool = True) -> FileMapping:
    """A mapping, or a data config of weaver as one; DataError that names the file, the key and what is allowed.

    Not `labelled` leaves out what files without truth lack: the label, the weight and what is marked as truth. The
    selection stays. Nothing in the file is run: YAML's tags and aliases are refused, and expressions are parsed.
    """
    present(path)
    try:
        given = load(path)
        given, notes = from_weaver(given) if is_weaver(given) else (given, ())
        return _Reader(labelled).read(given, notes)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


@dataclass(frozen=True)
class _Reader:
    """From plain values to a mapping; every fault names the key it is in."""

    labelled: bool

    def read(self, given: dict[str, Any], notes: tuple[str, ...]) -> FileMapping:
        keys = ("tree", "group", "each", "arrays", "define", "points", "event", "spectators", "weight", "label")
        keyed(given, "", (*keys, "unlabelled", "select"), ("points",))
        points = keyed(given["points"], "points", ("real", "link", "four_vector", "pdg_id", "columns"))
        event = keyed(given.get("event", {}), "event", ("axis", "columns"))
        four_vector = vector(points["four_vector"], "points.four_vector") if "four_vector" in points else None
        axis = event.get("axis", "sum")
        if four_vector is None and ("axis" in event or not points.get("columns")):
            raise DataError("points.four_vector is missing: with columns alone, events have points and no axis")
        link = keyed(points["link"], "points.link", ("object", "point"), ("object",)) if "link" in points else {}
        each = text(given["each"], "each") if "each" in given else None
        if (each is not None) != ("object" in link):
            raise DataError("each and points.link.object belong together: whose the points are")
        group = columns_of_file(given["group"], "group") if "group" in given else ()
        if group and each is not None:
            raise DataError("group and each exclude one another: rows are points, or each has several events")
        define = expressions(given.get("define", {}), "define")
        for number, (name, one) in enumerate(define.items()):
            if later := [other for other in one.names if other in [*define][number:]]:
                raise DataError(f"define.{name} uses {later[0]}: a name is defined before it is used")
        if made := [name for name in group if name in define]:
            raise DataError(f"group names {made[0]}, which is defined: rows are grouped by columns of the file")
        unlabelled = given.get("unlabelled", "refuse")
        if unlabelled not in ("refuse", "keep"):
            raise DataError(f"unlabelled is {unlabelled!r}: refuse or keep")
        return FileMapping(
            tree=text(given["tree"], "tree") if "tree" in given else None,
            group=group,
            each=each,
            arrays=array_members(given.get("arrays", {})),
            define=define,
            real=expression(points["real"], "points.real") if "real" in points else None,
            link=Link(**{key: text(name, f"points.link.{key}") for key, name in link.items()}) if link else None,
            four_vector=four_vector,
            pdg_id=expression(points["pdg_id"], "points.pdg_id") if "pdg_id" in points else None,
            axis=None if axis == "sum" else vector(axis, "event.axis"),
            columns=self.columns(given, points, event),
            label=expressions(given.get("label", {}), "label") if self.labelled else {},
            keep_unlabelled=unlabelled == "keep",
            select=conditions(given.get("select", [])),
            notes=notes,
            plain=json.dumps(given),  # in order, which decides the codes of classes and the order of columns
        )

    def columns(self, given: Any, points: Any, event: Any) -> tuple[Derived, ...]:
        spectators = given.get("spectators", [])
        if isinstance(spectators, list):
            spectators = {text(name, "spectators"): {"from": quote(name)} for name in spectators}
        jets = "four_vector" in points or "pdg_id" in points  # elsewhere a charge is not one of particles
        known = SCHEMA if jets else ()
        found = [
            *derived_columns(points.get("columns", {}), "points.columns", "point", known),
            *derived_columns(event.get("columns", {}), "event.columns", "event", known),
            *derived_columns(spectators, "spectators", "event", known, typed=False),
        ]
        if "weight" in given:
            about = f"of the event: {given['weight']}"
            found.append(Derived(Column("weight", "", "event", about=about), expression(given["weight"], "weight")))
        each = (f"{given['each']}_index", "file_entry") if "each" in given else ()
        taken = [*(COMPUTED if "four_vector" in points else ()), "label", *each]
        names = [*taken, *(one.column.name for one in found)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"{', '.join(twice)}: named twice, or always there: {', '.join(sorted(taken))}")
        return tuple(one for one in found if self.labelled or not (one.column.truth or one.column.name == "weight"))
