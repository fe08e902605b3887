"""Drafting: a mapping for somebody's files, with what an inspection guessed marked so and the rest left to fill in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from multiplet.data.expressions import quote
from multiplet.data.formats.constituents import COMPUTED
from multiplet.data.formats.jetclass_layout import JET, PART, POINTS
from multiplet.data.guesses import four_vectors, split
from multiplet.data.inspection import FileLook
from multiplet.data.inspection_text import plain
from multiplet.data.samples import Collection, ColumnLook
from multiplet.errors import DataError
from multiplet.files import flush

_KNOWN = {column.name: column for column in (*POINTS, *JET)}
_SPELLED = {branch.removeprefix("part_").lower(): name for name, branch in PART.items()}  # JetClass's spelling of ours
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}  # which YAML does not take for texts
_PDG = {"pdgid", "pdg_id", "pid", "pdg"}
_MOST = 40  # event columns that are offered
_FEW = 4  # numbers beside one another that are rather a vector than slots
_GENERATED = re.compile(r"^(aux|gen|mc|lhe)|generated|truth", re.I)


def draft(look: FileLook, path: Path) -> None:
    """Write a mapping for a file and those like it; DataError where `path` exists, or no column can be of points."""
    text = draft_text(look)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise DataError(f"{path} exists, and a draft writes over nothing: name another file") from None
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}): correct the path") from error
    flush(path)


def draft_text(look: FileLook) -> str:
    """The mapping's text; DataError where no column can be of points: no lists, and no arrays with slots."""
    if look.kind == "Arrow":
        raise DataError(f"{look.source} is an event file already: it needs no mapping")
    table = look.table
    columns = {name: one for name, one in table.columns.items() if name.isprintable() and "`" not in name}
    lines = [
        f"# Drafted from {plain(look.source.name)}. What is marked as guessed comes from names and values: check it."
    ]
    if len(look.held) > 1 or look.kind == "ROOT":
        lines.append(f"tree: {_yaml(table.held.name)}")
    linked = _linked(table.collections)
    if linked:
        each, points, link = linked
        pairs = f"{{object: {_yaml(link[0])}, point: {_yaml(link[1])}}}"
        lines += [
            f"each: {_yaml(each.name)}  # guessed: one event for each entry of it",
            "points:",
            f"  link: {pairs}  # guessed",
        ]
    else:
        each, points = None, _points(look, columns)
        lines += [*_arrays(points, columns), "points:"]
    lines += _point_lines(points, columns)
    lines += _event_lines(each, points, columns)
    lines += _label_lines(columns)
    lines += ['# select: ["…"]  # expressions of the columns of the file, all of which must hold', ""]
    return "\n".join(lines)


def _yaml(text: str) -> str:
    simple = re.fullmatch(r"[A-Za-z_][\w.]*", text, re.ASCII) and text.lower() not in _WORDS
    return text if simple else json.dumps(text, ensure_ascii=False)


def _word(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _refer(name: str) -> str:
    """A column of the file as an expression in YAML."""
    return _yaml(name if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", name, re.ASCII) else quote(name))


def _vector(columns: Mapping[str, ColumnLook], names: Sequence[str]) -> tuple[str, list[str]]:
    """The four-vector that these columns hold, as YAML, and its columns; empty where they hold none."""
    found = [known for known in four_vectors(names).values() if not {"px", "mass"} <= set(known)]
    if not found:
        return "", []
    known = found[0]
    unit = next((columns[name].unit for name in known.values() if columns[name].unit in ("GeV", "MeV")), "GeV")
    parts = ", ".join(f"{key}: {_refer(name)}" for key, name in known.items())
    return f"{{{parts}, unit: {unit}}}", list(known.values())


def _linked(collections: Sequence[Collection]) -> tuple[Collection, Collection, tuple[str, str]] | None:
    """NanoAOD's way: pairs of an index of a jet and one of a particle, in a collection called after both."""
    known = {one.name: one for one in collections if four_vectors(one.columns)}
    found = []
    for pairs in collections:
        of_jet = [name for name in pairs.columns if split(name)[1].lower() == "jetidx"]
        of_point = [name for name in pairs.columns if re.fullmatch(r"pf_?cands?_?idx", split(name)[1], re.I)]
        jet, mark, rest = pairs.name.partition("PFCand")
        if of_jet and of_point and mark and jet in known and mark + rest in known:
            found.append((known[jet], known[mark + rest], (of_jet[0], of_point[0])))
    return max(found, key=lambda one: "Fat" in one[0].name, default=None)


def _points(look: FileLook, columns: Mapping[str, ColumnLook]) -> Collection:
    """The longest lists, or arrays with slots, if possible with four-momenta."""
    slots: dict[tuple[int, ...], list[str]] = {}
    for name, one in columns.items():
        if not one.field.depth and one.field.width and one.field.width[0] > _FEW:
            slots.setdefault(one.field.width, []).append(name)
    wide = [
        Collection(split(names[0])[0] or names[0], tuple(names), width[0], width[0]) for width, names in slots.items()
    ]
    lists = [
        one for one in look.table.collections if all(n in columns and not columns[n].field.width for n in one.columns)
    ]
    if not (lists or wide):
        raise DataError(
            f"{look.source}: {look.table.held.name or 'it'} has neither lists nor slots, so no column can be of "
            "points: where a row is a point, bring the points of each event together first"
        )
    return max(
        lists or wide,
        key=lambda one: (not _GENERATED.search(one.name), bool(_vector(columns, one.columns)[0]), one.mean),
    )


def _arrays(points: Collection, columns: Mapping[str, ColumnLook]) -> list[str]:
    """Names for the last axis of arrays with slots and features."""
    deep = [name for name in points.columns if len(columns[name].field.width) == 2]
    lines = []
    for name in deep:
        members = ", ".join(_yaml(one) for one in _members(name, columns[name]))
        lines.append(f"arrays: {{{_yaml(name)}: [{members}]}}  # give what lies on the last axis its names")
    return lines[:1]


def _members(name: str, one: ColumnLook) -> list[str]:
    return [f"{_word(name)}_{number}" for number in range(one.field.width[-1])]


def _point_lines(points: Collection, columns: Mapping[str, ColumnLook]) -> Iterator[str]:
    names = [name for name in points.columns if name in columns]
    if any(columns[name].field.width for name in names):
        yield '  # real: "…"  # which slots hold a point, such as pt > 0'
    vector, taken = _vector(columns, names)
    if vector:
        yield f"  four_vector: {vector}  # guessed"
    pdg = next((name for name in names if split(name)[1].lower() in _PDG), None)
    if pdg and vector:
        yield f"  pdg_id: {_refer(pdg)}  # guessed: gives charge and kind of the particles"
    rest = [name for name in names if name not in (*taken, pdg)]
    lines: list[str] = []
    used = set(COMPUTED)
    for name in rest:
        one = columns[name]
        members = _members(name, one) if len(one.field.width) == 2 else [name]
        for part in members[:_MOST]:
            short = part.removeprefix("" if points.name in points.columns else points.name).lstrip("_.") or part
            lines += _column(part, short, one, used, bool(pdg and vector))
        if len(one.field.width) == 2:
            break
    if lines:
        yield "  columns:" if any(not line.lstrip().startswith("#") for line in lines) else "  # columns:"
    yield from lines


def _column(name: str, short: str, one: ColumnLook, used: set[str], identified: bool) -> Iterator[str]:
    """A column of points under our name for it; a comment where its unit or its values want a person first."""
    ours = _SPELLED.get(short.lower(), short.lower() if short.lower() in _KNOWN else _word(short))
    known = _KNOWN.get(ours)
    if known is not None and known.dtype == "int8" and not one.whole:
        ours, known = f"measured_{ours}", None  # in another unit than ours, which has whole numbers
    if ours in used or (identified and known is not None and known.dtype == "int8"):
        return
    used.add(ours)
    first = []  # what is to be seen to before the column is of use
    if one.nonfinite or not one.values:
        first.append("has values that are not finite, or none at all")
    if one.repeated and one.repeated[0] != 0 and abs(one.repeated[0]) >= 9:
        first.append(f"{one.repeated[0]:g} stands for something else in {one.repeated[1]:.1%}: where(…, …, 0)")
    if known is not None and known.unit not in ("", "e"):
        first.append(f"is in {known.unit} everywhere: convert it here if need be")
    kind = "int8" if one.field.dtype == "bool" else one.field.dtype
    typed = "" if known is not None else f", type: {kind}"
    given = f"{_yaml(ours)}: {{from: {_refer(name)}{typed}}}"
    yield f"    # {given}  # {'; '.join(first)}" if first else f"    {given}"


def _event_lines(each: Collection | None, points: Collection, columns: Mapping[str, ColumnLook]) -> Iterator[str]:
    """Axis and columns of the event, the latter as comments: which of them are truth is for a person to say."""
    single = [n for n, one in columns.items() if not (one.field.depth or one.field.width)]
    of_jet = [name for name in single if "jet" in split(name)[0].lower() and not re.search("gen|truth|aux", name, re.I)]
    own = [name for name in each.columns if name in columns] if each else of_jet
    axis, taken = _vector(columns, own)
    has_momenta = bool(_vector(columns, [name for name in points.columns if name in columns])[0])
    mark = "" if has_momenta else "# "
    yield f"{mark}event:"
    if has_momenta:
        yield (
            f"  axis: {axis}  # guessed" if axis else "  axis: sum  # of the points; or a four-vector, as of the points"
        )
    yield "#  columns:  # what the network may see of an event; what is simulated needs truth: true"
    for name in [n for n in (own if each else single) if n not in taken and not columns[n].role][:_MOST]:
        yield f"#    {_yaml(_word(name))}: {{from: {_refer(name)}}}"
    identifiers = [name for name in single if columns[name].role == "identifier"]
    if identifiers:
        yield f"spectators: [{', '.join(map(_yaml, identifiers))}]  # guessed: carried along, never seen"
    for name in [name for name in single if columns[name].role == "weight"][:3]:
        yield f"# weight: {_refer(name)}  # guessed"


def _label_lines(columns: Mapping[str, ColumnLook]) -> Iterator[str]:
    """Flags of which one is set are a label; codes and single flags are only offered."""
    hot = [name for name, one in columns.items() if one.role.startswith("label? one of")]
    stems = {split(name)[0] for name in hot}
    if len(stems) == 1:
        yield "label:  # guessed: one of these is set in every entry"
        yield from (f"  {_yaml(split(name)[1])}: {_yaml(_told(name, 1))}" for name in hot)
        return
    yield '# label: {signal: "…", background: "…"}  # to fill in; or give each source one: signal:/data/s*.root'
    for name in [name for name, one in columns.items() if one.role.startswith("label?")][:10]:
        yield f"#   {_yaml(_told(name, 1))}  # guessed"


def _told(name: str, code: int) -> str:
    return f"{quote(name)} == {code}"
