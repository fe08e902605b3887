"""Guesses: what columns of somebody's file may mean, from their names and values. Each is to be checked by a person."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import pi

_MEMBERS = {
    "pt": "pt", "eta": "eta", "phi": "phi", "mass": "mass", "m": "mass", "e": "energy", "energy": "energy",
    "px": "px", "py": "py", "pz": "pz",
}  # fmt: skip
COMPLETE = (
    ("pt", "eta", "phi", "mass"),
    ("pt", "eta", "phi", "energy"),
    ("px", "py", "pz", "energy"),
    ("px", "py", "pz", "mass"),
)
_IDENTIFIERS = {
    "run", "runnumber", "run_number", "run_id", "lumi", "luminosityblock", "lumiblock", "event", "eventnumber",
    "event_number", "event_id", "event_no", "eventid", "mcchannelnumber", "bunchcrossing", "entry", "batch_id",
}  # fmt: skip
_LABEL = re.compile(
    r"(^|[._])(labels?|class|target|y|truth_?label|is_?signal\w*|flavou?r|hadronflavou?r)($|[._])", re.I
)
_FLAG = re.compile(r"^(label_|is_?[A-Za-z]|truth_is)")
_INDEX = re.compile(r"(idx|_index|indices)$", re.I)
_WEIGHT = re.compile(r"weight", re.I)
_MOST_PT = 14_000  # no momentum at the LHC is larger in GeV


@dataclass(frozen=True)
class Summary:
    """Numbers of a column that a guess rests on."""

    low: float
    median: float
    high: float
    whole: bool  # only whole numbers
    distinct: int  # different values, counted up to 1,000


def split(name: str) -> tuple[str, str]:
    """A column's name as (stem, member): Jet_pt and Jet.PT are ("Jet", "pt"); px1 is ("1", "px")."""
    stem, mark, member = max((name.rpartition(mark) for mark in "._"), key=lambda parts: len(parts[0]))
    if not mark and (found := re.fullmatch(r"(\D+)(\d+)", name)):
        return found[2], found[1]
    return stem, member


def member(name: str) -> str:
    """pt, eta, phi, mass, energy, px, py or pz where a name says that it is one of them; else empty."""
    last = split(name)[1]
    found = _MEMBERS.get(last.lower(), "")
    return "" if last == "y" else found


def four_vectors(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Stem → {member: column} of all stems that have a whole four-vector."""
    stems: dict[str, dict[str, str]] = {}
    for name in names:
        if found := member(name):
            stems.setdefault(split(name)[0], {}).setdefault(found, name)
    whole = {}
    for stem, known in stems.items():
        choice = next((names for names in COMPLETE if set(names) <= set(known)), None)
        if choice:
            whole[stem] = {name: known[name] for name in choice}
    return whole


def unit(name: str, seen: Summary) -> str:
    """GeV or MeV of a momentum and rad or degrees of an angle, as far as the values decide; else empty."""
    last, size = split(name)[1].lower(), max(abs(seen.low), abs(seen.high))
    if member(name) in ("pt", "px", "py", "pz", "energy", "mass"):
        if member(name) in ("pt", "px", "py"):
            jet = "jet" in split(name)[0].lower()
            return "MeV" if size > _MOST_PT else "GeV" if size and (jet or abs(seen.median) <= 200) else ""
        return ""
    if last.endswith(("phi", "azimuth", "theta", "zenith")):
        if size <= 2 * pi + 1e-3:
            return "rad" if size > 0.5 else ""
        return "degrees" if size <= 360.01 else ""
    return ""


def role(name: str, depth: int, seen: Summary) -> str:
    """What a column may be for: identifier, weight, label, index, flag, a member of a four-vector; else empty."""
    last = split(name)[1].lower()
    if depth == 0 and (name.lower() in _IDENTIFIERS or last in _IDENTIFIERS) and seen.whole:
        return "identifier"
    if _WEIGHT.search(name):
        return "weight"
    zero_one = seen.whole and seen.low >= 0 and seen.high <= 1
    if depth == 0 and zero_one and _FLAG.search(name):
        return "label? 0 or 1"
    if depth == 0 and _LABEL.search(name) and seen.whole and seen.distinct <= 300:
        return f"label? {seen.distinct} codes"
    if _INDEX.search(name) and seen.whole:
        return "index"
    return member(name) or ("flag" if zero_one and seen.distinct <= 2 else "")
