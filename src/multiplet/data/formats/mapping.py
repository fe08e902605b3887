"""Mappings: what a YAML file says of somebody's own files: which branch, or expression of branches, is which column.

    tree: Events                         # of a ROOT file, or a group of an HDF5 file; left out where there is only one
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
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from multiplet.data.columns import DTYPES, Column
from multiplet.data.expressions import Expression, parse, quote
from multiplet.data.formats.constituents import COMPUTED
from multiplet.data.formats.jetclass_layout import SCHEMA
from multiplet.data.formats.plain_yaml import items, keyed, load, named, text
from multiplet.data.formats.sources import present
from multiplet.data.formats.weaver import from_weaver, is_weaver
from multiplet.errors import DataError
from multiplet.spec import did_you_mean

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_FOUR_VECTORS = (("px", "py", "pz", "energy"), ("pt", "eta", "phi", "mass"), ("pt", "eta", "phi", "energy"))
_UNITS = {"GeV": 1.0, "MeV": 1e-3, "TeV": 1e3}


@dataclass(frozen=True)
class Derived:
    """A column and the expression it comes from; not `typed`, its type is that of the values."""

    column: Column
    value: Expression
    typed: bool = True


@dataclass(frozen=True)
class FourVector:
    """Four expressions by the names of what they give, and the factor from their unit to GeV."""

    parts: Mapping[str, Expression]
    scale: float = 1.0


@dataclass(frozen=True)
class Link:
    """Two lists of one length: which object of the entry has which of its points; by themselves without `point`."""

    object: str
    point: str | None = None


@dataclass(frozen=True)
class FileMapping:
    """What a mapping says, checked as far as that goes without the files; `plain` is the text of it."""

    tree: str | None
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
        keys = ("tree", "each", "arrays", "define", "points", "event", "spectators", "weight", "label", "unlabelled")
        keyed(given, "", (*keys, "select"), ("points",))
        points = keyed(given["points"], "points", ("real", "link", "four_vector", "pdg_id", "columns"))
        event = keyed(given.get("event", {}), "event", ("axis", "columns"))
        four_vector = _four_vector(points["four_vector"], "points.four_vector") if "four_vector" in points else None
        axis = event.get("axis", "sum")
        if four_vector is None and ("axis" in event or not points.get("columns")):
            raise DataError("points.four_vector is missing: with columns alone, events have points and no axis")
        link = keyed(points.get("link", {}), "points.link", ("object", "point"))
        each = text(given["each"], "each") if "each" in given else None
        if (each is not None) != ("object" in link):
            raise DataError("each and points.link.object belong together: whose the points are")
        define = _expressions(given.get("define", {}), "define")
        for number, (name, one) in enumerate(define.items()):
            if later := [other for other in one.names if other in [*define][number:]]:
                raise DataError(f"define.{name} uses {later[0]}: a name is defined before it is used")
        unlabelled = given.get("unlabelled", "refuse")
        if unlabelled not in ("refuse", "keep"):
            raise DataError(f"unlabelled is {unlabelled!r}: refuse or keep")
        return FileMapping(
            tree=text(given["tree"], "tree") if "tree" in given else None,
            each=each,
            arrays=_arrays(given.get("arrays", {})),
            define=define,
            real=_expression(points["real"], "points.real") if "real" in points else None,
            link=Link(**{key: text(name, f"points.link.{key}") for key, name in link.items()}) if link else None,
            four_vector=four_vector,
            pdg_id=_expression(points["pdg_id"], "points.pdg_id") if "pdg_id" in points else None,
            axis=None if axis == "sum" else _four_vector(axis, "event.axis"),
            columns=self.columns(given, points, event, each),
            label=_expressions(given.get("label", {}), "label") if self.labelled else {},
            keep_unlabelled=unlabelled == "keep",
            select=_select(given.get("select", [])),
            notes=notes,
            plain=json.dumps(given),  # in order, which decides the codes of classes and the order of columns
        )

    def columns(self, given: Any, points: Any, event: Any, each: str | None) -> tuple[Derived, ...]:
        spectators = given.get("spectators", [])
        if isinstance(spectators, list):
            spectators = {text(name, "spectators"): {"from": quote(name)} for name in spectators}
        found = [
            *_derived(points.get("columns", {}), "points.columns", "point"),
            *_derived(event.get("columns", {}), "event.columns", "event"),
            *_derived(spectators, "spectators", "event", typed=False),
        ]
        if "weight" in given:
            about = f"of the event: {given['weight']}"
            found.append(Derived(Column("weight", "", "event", about=about), _expression(given["weight"], "weight")))
        taken = [*COMPUTED, "label", *((f"{each}_index", "file_entry") if each else ())]
        names = [*taken, *(one.column.name for one in found)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"{', '.join(twice)}: named twice, or always there: {', '.join(sorted(taken))}")
        return tuple(one for one in found if self.labelled or not (one.column.truth or one.column.name == "weight"))


def _expression(value: Any, where: str) -> Expression:
    """An expression, or a column's name with dots in it; a number stands for itself."""
    plain = isinstance(value, str) or type(value) in (int, float)
    written = text(" ".join(str(value).split()) if plain else value, where)
    try:
        return parse(quote(written) if _DOTTED.fullmatch(written) else written)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _expressions(value: Any, where: str) -> dict[str, Expression]:
    return {text(name, where): _expression(one, f"{where}.{name}") for name, one in named(value, where).items()}


def _arrays(value: Any) -> dict[str, tuple[str, ...]]:
    found = {key: items(names, f"arrays.{key}") for key, names in named(value, "arrays").items()}
    names = [text(one, f"arrays.{key}") for key, held in found.items() for one in held]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"arrays: {', '.join(twice)} is named twice")
    return {key: tuple(held) for key, held in found.items()}


def _select(value: Any) -> dict[str, Expression]:
    """Conditions by their text, which names the step of the cut flow; "read" names its beginning."""
    found = [_expression(one, f"select[{n}]") for n, one in enumerate(items(value, "select"))]
    return {one.text if one.text != "read" else "(read)": one for one in found}


def _four_vector(value: Any, where: str) -> FourVector:
    parts = {key: one for key, one in named(value, where).items() if key != "unit"}
    unit = text(value.get("unit", "GeV"), f"{where}.unit")
    if unit not in _UNITS:
        raise DataError(f"{where}.unit is {unit!r}: {did_you_mean(unit, _UNITS)}")
    if set(parts) not in map(set, _FOUR_VECTORS):
        sets = ", or ".join(" ".join(names) for names in _FOUR_VECTORS)
        raise DataError(f"{where} has {', '.join(parts) or 'nothing'}: it needs {sets}")
    return FourVector({key: _expression(one, f"{where}.{key}") for key, one in parts.items()}, _UNITS[unit])


def _derived(value: Any, where: str, level: Literal["point", "event"], typed: bool = True) -> Iterator[Derived]:
    for name, one in named(value, where).items():
        at = f"{where}.{text(name, where)}"
        given = keyed(one if isinstance(one, dict) else {"from": one}, at, ("from", "unit", "type", "truth", "about"))
        known = next((c for c in SCHEMA if (c.name, c.level) == (name, level)), None) or Column(name, level=level)
        unit, dtype, truth = given.get("unit", known.unit), given.get("type", known.dtype), given.get("truth", False)
        if dtype not in DTYPES:
            raise DataError(f"{at}.type is {dtype!r}: {did_you_mean(str(dtype), DTYPES)}")
        if not isinstance(unit, str) or (unit != known.unit and known in SCHEMA):
            held = f"this column is in {known.unit!r} everywhere: convert it in from" if known in SCHEMA else "a text"
            raise DataError(f"{at}.unit is {unit!r}, but {held}")
        if not isinstance(truth, bool):
            raise DataError(f"{at}.truth is {truth!r}: true or false")
        source = _expression(given.get("from", quote(name)), f"{at}.from")
        about = text(given.get("about", f"= {source.text}"), f"{at}.about")
        yield Derived(Column(name, unit, level, truth, dtype, (), about), source, typed or "type" in given)
