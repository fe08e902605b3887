"""An inspection for the terminal. Names are a stranger's: control characters are escaped and markup is text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isnan

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from multiplet.data.guesses import four_vectors, member
from multiplet.data.inspection import Alike, FileLook, Inspection
from multiplet.data.protection import Protection
from multiplet.data.samples import Collection, ColumnLook, TableLook

_ROWS, _OTHERS, _SECTIONS = 16, 12, 6  # without `everything`: columns of a section, names in a list, sections


def inspection_text(inspection: Inspection, everything: bool = False) -> Iterator[RenderableType]:
    """What to print, file by file; every column only where `everything` is asked for."""
    for number, (look, others) in enumerate(inspection.files):
        if number:
            yield Text()
        yield from _file(look, others, everything)
    kinds = {look.kind for look, _ in inspection.files}
    if kinds != {"Arrow"}:
        yield Text("What ends in ? is guessed from names and values: check it.", style="dim")


def plain(name: str) -> str:
    """A name with what does not print escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def _file(look: FileLook, others: Sequence[Alike], everything: bool) -> Iterator[RenderableType]:
    table = look.table
    kind = "event file" if look.kind == "Arrow" else look.kind
    yield Text.assemble((plain(str(look.source)), "bold"), f"  {kind}, {_size(look.size)}")
    yield _line(_protected(look.protection), "" if look.protection.noticed > 0.5 else "yellow")
    yield from (_line(f"damaged: {plain(fault)}", "red") for fault in look.protection.faults[:_OTHERS])
    if look.provenance:
        yield _line(", ".join(f"{plain(key)}: {plain(value)}" for key, value in look.provenance.items()))
    tables = [f"{plain(held.name)} ({held.kind}, {held.entries:,} entries)" for held in look.held if held.name]
    if len(tables) > 1:
        yield _line("tables: " + _cut(tables, everything) + f"; below: {plain(table.held.name)}, --tree shows another")
    yield from (_line(f"like it: {line}") for line in _alike(others, look.protection, everything))
    yield from _columns(table, everything)
    if table.unreadable:
        names = [f"{plain(name)} ({plain(what)[:60]})" for name, what in table.unreadable.items()]
        yield _line("not numbers: " + _cut(names, everything))


def _line(text: str, style: str = "") -> Padding:
    return Padding(Text(text, style=style), (0, 0, 0, 2))


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.{0 if unit == 'bytes' else 1}f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _protected(found: Protection) -> str:
    """Whether a changed byte would be noticed, and why."""
    total = sum(found.stored.values())
    how = ", ".join(f"{one.how} {size / total:.0%}" for one, size in found.stored.items() if total) or "no values"
    compared = f"; {found.compared} page checksums compared just now" if found.compared else ""
    agree = ", all agree" if found.compared and not found.faults else ""
    if not found.noticed < 1:
        return f"reading notices a changed byte of the values ({how}){compared}{agree}"
    what = "no changed byte" if found.noticed == 0 else f"a changed byte in {found.noticed:.1%}"
    return f"reading notices {what} of the values ({how}){compared}{agree}: keep a checksum beside the file"


def _alike(others: Sequence[Alike], first: Protection, everything: bool) -> Iterator[str]:
    for one in others[: None if everything else _OTHERS]:
        differences = list(map(plain, (*one.protection.faults, *one.differences)))
        if abs(one.protection.noticed - first.noticed) > 0.05:
            differences.append(_protected(one.protection))
        yield f"{plain(str(one.source))}, {one.entries:,} entries" + "".join(f"; {text}" for text in differences)
    if len(others) > _OTHERS and not everything:
        yield f"{len(others) - _OTHERS} more (--all lists them)"


def _cut(texts: Sequence[str], everything: bool) -> str:
    if everything or len(texts) <= _OTHERS:
        return ", ".join(texts)
    return ", ".join(texts[:_OTHERS]) + f" and {len(texts) - _OTHERS} more"


def _columns(look: TableLook, everything: bool) -> Iterator[RenderableType]:
    """One line a column, in sections: what there is once an entry, then every collection of lists."""
    listed = {name for one in look.collections for name in one.columns}
    single = [name for name in look.columns if name not in listed]
    sections = [(_title(look, len(single)), single)]
    best = sorted(look.collections, key=lambda one: (bool(four_vectors(one.columns)), one.mean), reverse=True)
    detailed = best[: None if everything else _SECTIONS]
    sections += [(_about(one), list(one.columns) if one in detailed else []) for one in look.collections]
    rows = [(title, list(_rows(look, names, everything))) for title, names in sections]
    width = max([len(row[0]) for _, few in rows for row in few], default=0)
    kinds = max([len(row[1]) for _, few in rows for row in few], default=0)
    for number, (title, few) in enumerate(rows):
        yield Text(title, style="bold")
        if few:
            yield _grid(few, min(width, 40), min(kinds, 16), header=not number)


def _title(look: TableLook, columns: int) -> str:
    sampled = f", {look.sampled:,} of them looked at" if look.sampled < look.held.entries else ""
    name = f"{plain(look.held.name)}: " if look.held.name else ""
    return f"{name}{look.held.entries:,} entries{sampled}; {columns} columns with one value an entry"


def _about(one: Collection) -> str:
    """A collection in a line: how many there are, and whether they have four-momenta."""
    like = f"; as many as {', '.join(one.like[:3])}" if one.like else ""
    whole = four_vectors(one.columns)
    momenta = "; four-momenta from " + ", ".join(next(iter(whole.values()))) if whole else ""
    lists = f"{len(one.columns)} columns of lists of {one.mean:.1f}, at most {one.most}"
    return plain(f"{one.name}: {lists}{momenta}{like}")


def _grid(rows: Sequence[tuple[str, ...]], width: int, kinds: int, header: bool) -> Table:
    grid = Table(box=None, show_header=header, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column("  ", width=2)
    grid.add_column("", width=width, no_wrap=True)
    grid.add_column("", width=kinds)
    for name in ("min", "median", "max"):
        grid.add_column(name, justify="right", width=10, no_wrap=True)
    grid.add_column("")
    for row in rows:
        grid.add_row("", *map(Text, row))
    return grid


def _rows(look: TableLook, names: Sequence[str], everything: bool) -> Iterator[tuple[str, ...]]:
    """Name, type, numbers and notes; of many columns those of which something can be said."""
    notes = {name: _note(look.columns[name]) for name in names}
    shown = set(names)
    if not everything and len(names) > _ROWS:
        telling = [name for name in names if notes[name] not in ("", "constant")]
        shown = {*telling[:_ROWS], *[name for name in names if name not in telling][: max(0, _ROWS - len(telling))]}
    for name in names:
        if name in shown:
            one = look.columns[name]
            kind = one.field.dtype + (f" {list(one.field.width)}" if one.field.width else "")
            numbers = ["" if isnan(value) else _number(value) for value in (one.low, one.median, one.high)]
            yield plain(name), kind, *numbers, notes[name]
    if len(shown) < len(names):
        yield f"{len(names) - len(shown)} more: --all", "", "", "", "", ""


def _number(value: float) -> str:
    if value == int(value):
        return f"{int(value)}" if abs(value) < 1e10 else f"{value:.5g}"
    return f"{value:.4g}"


def _note(one: ColumnLook) -> str:
    """Unit, role, and what should make one suspicious. That a column called pt is one goes without saying."""
    sure = one.told or one.role.startswith("number of")
    parts = [one.unit + "?" * (not one.told)] if one.unit else []
    if one.role and (one.told or one.role not in (member(one.field.name), "flag")):
        parts.append(one.role + "?" * (not sure and "?" not in one.role))
    if one.nonfinite:
        parts.append("all NaN or inf" if one.nonfinite == 1 else f"NaN or inf in {one.nonfinite:.2%}")
    if one.repeated:
        parts.append(f"{_number(one.repeated[0])} in {one.repeated[1]:.1%}")
    if one.values > 1 and one.low == one.high and one.role != "identifier":
        parts.append("constant")
    if not one.values:
        parts.append(one.fault or "no values")
    return plain("; ".join(parts))
