"""Derivation: from the columns of a file to those of event files, as a mapping says, on flat arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from multiplet import kinematics
from multiplet.data.columns import Column, Columns
from multiplet.data.expressions import Expression
from multiplet.data.formats.constituents import (
    ANGLES,
    AXIS,
    COUNT,
    IDENTITY,
    P4,
    Level,
    Raw,
    around_sum,
    assemble,
    identity,
    owner,
    relative,
)
from multiplet.data.formats.fields import Jagged, same
from multiplet.data.formats.grouping import agreed
from multiplet.data.formats.linking import Batch
from multiplet.data.formats.mapping import FileMapping
from multiplet.data.formats.mapping_parts import FourVector
from multiplet.errors import DataError

_TYPES = {"b": "int8", "i": "int64", "u": "int64", "f": "float64"}  # by kind, where the mapping says none


class Derivation:
    """Some events of a file, their real points, and what a mapping makes of them."""

    def __init__(self, mapping: FileMapping, batch: Batch) -> None:
        self.mapping = mapping
        self.batch = self._with_defined(batch)
        if mapping.real is not None:
            real = self._value(mapping.real, "points.real", condition=True)
            if real.offsets is None:
                raise DataError(f"{batch.source}: points.real: {mapping.real.text} is one value an event, not a point")
            self.batch = self._with_defined(batch.only(real, mapping.needed(mapping.point_expressions())))

    def select(self) -> tuple[np.ndarray, dict[str, int]]:
        """Keep the events that pass all selections; gives their places, (kept,), and the cut flow."""
        kept, cuts = np.ones(len(self.batch.rows), bool), {"read": len(self.batch.rows)}
        for name, one in self.mapping.select.items():
            kept &= self._event(one, "select", condition=True)
            cuts[name] = int(kept.sum())
        places = np.flatnonzero(kept)
        self.batch = self.batch.take(places)
        return places, cuts

    def schema(self, classes: tuple[str, ...]) -> tuple[Column, ...]:
        """The columns of the event files; types that the mapping leaves open follow from those in the file."""
        mapping = self.mapping
        own = [one.column if one.typed else self._typed(one.column, one.value) for one in mapping.columns]
        points = [column for column in own if column.level == "point"]
        event = [column for column in own if column.level == "event"]
        if mapping.pdg_id:
            names = {column.name for column in own}
            points = [*(column for column in IDENTITY if column.name not in names), *points]
        if mapping.four_vector:
            points, event = [*P4, *ANGLES, *points], [*AXIS, COUNT, *event]
        if mapping.each:
            about = f"of the {mapping.each}"
            event.append(Column("file_entry", "", "event", dtype="int64", about=f"entry of the file, {about}"))
            event.append(Column(f"{mapping.each}_index", "", "event", dtype="int32", about=f"place in it, {about}"))
        if classes:
            event.append(Column("label", "", "event", True, "int16", classes, "the class"))
        return (*points, *event)

    def columns(self, schema: tuple[Column, ...], code: int | None) -> Columns:
        """The events, checked as `assemble` does; `code` is the label that their source has."""
        mapping, batch = self.mapping, self.batch
        given = _parts("points", mapping.four_vector) | ({"points.pdg_id": mapping.pdg_id} if mapping.pdg_id else {})
        given |= {one.column.name: one.value for one in mapping.columns if one.column.level == "point"}
        offsets, values = self._points(given)
        event = _parts("axis", mapping.axis)
        event |= {one.column.name: one.value for one in mapping.columns if one.column.level == "event"}
        values |= {name: self._event(one, name) for name, one in event.items()}
        texts = {name: one.text for name, one in (given | event).items()}
        raw = Raw(batch.source, 0, offsets, values, texts, batch.rows)
        if mapping.pdg_id:
            raw.require("point", "points.pdg_id")
            raw.values.update({k: v for k, v in identity(values["points.pdg_id"]).items() if k not in given})
        if mapping.four_vector:
            raw.values.update(self._kinematics(raw, mapping.four_vector))
        if mapping.each:
            raw.values.update({"file_entry": batch.rows, f"{mapping.each}_index": batch.objects})
        if code is not None:
            raw.values["label"] = np.full(len(batch.rows), code, np.int16)
        elif mapping.label:
            raw.values["label"] = self._labels(raw)
        return assemble(raw, schema, None if mapping.four_vector else np.zeros(offsets[-1]))

    def _kinematics(self, raw: Raw, four_vector: FourVector) -> dict[str, np.ndarray]:
        """P4, ANGLES, AXIS and COUNT."""
        p4 = _p4(raw, "points", "point", four_vector)
        if self.mapping.axis is None:
            return {**p4, **around_sum(p4, raw.offsets)}
        jet, given = _p4(raw, "axis", "event", self.mapping.axis), self.mapping.axis.parts
        with np.errstate(divide="ignore", invalid="ignore"):  # what has no direction is refused by assemble
            axis = {"jet_pt": kinematics.pt(jet["px"], jet["py"]), "jet_energy": jet["energy"]}
            axis["jet_eta"] = raw.values["axis.eta"] if "eta" in given else kinematics.eta(*list(jet.values())[:3])
            phi = raw.values["axis.phi"] if "phi" in given else kinematics.phi(jet["px"], jet["py"])
            axis["jet_phi"] = kinematics.wrap(phi.astype(np.float64))
            at = owner(raw.offsets)
            eta = kinematics.eta(p4["px"], p4["py"], p4["pz"])
            angles = relative(eta, kinematics.phi(p4["px"], p4["py"]), axis["jet_eta"][at], axis["jet_phi"][at])
        return {**p4, **angles, **axis, "jet_nparticles": np.diff(raw.offsets)}

    def _labels(self, raw: Raw) -> np.ndarray:
        """Codes, (events,); −1 where no condition is true and the mapping keeps such events."""
        names = list(self.mapping.label)
        true = np.stack([self._event(self.mapping.label[n], f"label.{n}", condition=True) for n in names], axis=1)
        count = true.sum(axis=1)
        if (bad := (count > 1) | ((count == 0) & (not self.mapping.keep_unlabelled))).any():
            labels = [name for name, is_one in zip(names, true[np.argmax(bad)], strict=True) if is_one]
            hint = "write conditions that exclude one another" if labels else "write one that is, or unlabelled: keep"
            which = f"are {' and '.join(labels)}" if labels else f"is none of {', '.join(names)}"
            raw.refuse("the label", "event", bad, f"{which}: {hint}")
        return np.where(count == 1, np.argmax(true, axis=1), -1).astype(np.int16)

    def _with_defined(self, batch: Batch) -> Batch:
        self.batch = batch
        used = self.mapping.needed(self.mapping.expressions())
        for name, one in self.mapping.define.items():
            if name in used:
                self.batch = self.batch.plus(name, self._value(one, f"define.{name}"))
        return self.batch

    def _typed(self, column: Column, value: Expression) -> Column:
        kind = self._event(value, column.name).dtype.kind
        return Column(column.name, column.unit, "event", column.truth, _TYPES[kind], (), column.about)

    def _value(self, one: Expression, where: str, condition: bool = False) -> Jagged:
        """What an expression gives; a condition gives booleans."""
        try:
            value = one.evaluate(self.batch.columns, len(self.batch.rows))
        except DataError as error:
            raise DataError(f"{self.batch.source}: {where}: {error}") from None
        if not condition or value.values.dtype == bool:
            return value
        if value.values.dtype.kind == "f":
            raise DataError(f"{self.batch.source}: {where}: {one.text} is a number: compare it, as in x > 0")
        return Jagged(value.values != 0, value.offsets)

    def _event(self, one: Expression, where: str, condition: bool = False) -> np.ndarray:
        """One value an event, with `group` that of all its rows; DataError where an expression gives a list."""
        value = self._value(one, where, condition)
        if value.offsets is not None and self.mapping.group:
            return self._agreed(value, one, where)
        if value.offsets is not None:
            how = "any(…), all(…) or count(…) > 0" if condition else "first(…), sum(…), max(…) …"
            raise DataError(f"{self.batch.source}: {where}: {one.text} is a list for each event: write {how}")
        return value.values

    def _agreed(self, value: Jagged, one: Expression, where: str) -> np.ndarray:
        """What all rows of an event say; DataError that names the first event whose rows differ, or that has none."""
        assert value.offsets is not None
        bad, what = np.diff(value.offsets) == 0, "has no real row in"
        if not np.any(bad):
            values, bad = agreed(value)
            what = "differs between the rows of"
        if np.any(bad):
            at, columns = int(np.argmax(bad)), self.batch.columns
            event = ", ".join(f"{name} {columns[name].values[at]}" for name in self.mapping.group)
            raise DataError(
                f"{self.batch.source}: {where}: {one.text} {what} the event with {event}: write first(…), max(…) …"
            )
        return values

    def _points(self, given: Mapping[str, Expression]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Offsets of the points, and the values of these for each; DataError where lists differ in length."""
        found = {name: self._value(one, name) for name, one in given.items()}
        first = next((name for name, value in found.items() if value.offsets is not None), None)
        if first is None:
            texts = ", ".join(one.text for one in given.values())
            hint = "if each row is a point, group says which rows are of one event, as in group: [run, event]"
            raise DataError(f"{self.batch.source}: points: none of {texts} is a list for each event; {hint}")
        offsets, values = found[first].offsets, {}
        assert offsets is not None
        for name, value in found.items():
            if value.offsets is not None and not same(value.offsets, offsets):
                event = self.batch.rows[np.argmax(np.diff(value.offsets) != np.diff(offsets))]
                texts = f"{given[name].text} and {given[first].text}"
                raise DataError(f"{self.batch.source}: {texts} of event {event} differ in length: points are in both")
            values[name] = value.values if value.offsets is not None else np.repeat(value.values, np.diff(offsets))
        return offsets, values


def _parts(prefix: str, four_vector: FourVector | None) -> dict[str, Expression]:
    return {f"{prefix}.{name}": one for name, one in four_vector.parts.items()} if four_vector else {}


def _p4(raw: Raw, prefix: str, level: Level, four_vector: FourVector) -> dict[str, np.ndarray]:
    """px, py, pz, energy in GeV, float64; DataError where a part is not finite, or pT or an energy negative."""
    for name in four_vector.parts:
        raw.require(level, f"{prefix}.{name}", least=0 if name in ("pt", "energy") else -np.inf)
    part = {name: raw.values[f"{prefix}.{name}"].astype(np.float64) for name in four_vector.parts}
    scaled = {name: one if name in ("eta", "phi") else one * four_vector.scale for name, one in part.items()}
    if "px" in scaled:
        return {column.name: scaled[column.name] for column in P4}
    with np.errstate(over="ignore", invalid="ignore"):  # too large values are refused in assemble
        mass = scaled.get("mass", np.zeros(len(scaled["pt"])))
        px, py, pz, energy = kinematics.p4(scaled["pt"], scaled["eta"], scaled["phi"], mass)
    return {"px": px, "py": py, "pz": pz, "energy": scaled.get("energy", energy)}
