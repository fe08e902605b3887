"""Tables of ROOT files: TTrees and RNTuples, wherever in the file they lie."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from multiplet.data.formats.fields import Field, Held, Jagged, Opened, Table, choose, numeric
from multiplet.data.formats.root import open_root, tools
from multiplet.data.formats.sources import reading

_PROJECTED = re.compile(r"_collection\d+")  # what ROOT's importer keeps beside the fields that show the same numbers


@dataclass(frozen=True)
class _Leaf:
    """Where a column comes from: the name uproot reads it by, and the members of records on the way to it."""

    branch: str
    way: tuple[str, ...]
    held: Field | str


@contextmanager
def root_tables(source: Path) -> Iterator[Opened]:
    """A ROOT file and the trees in it."""
    with open_root(source) as file:
        with reading(source, "the list of its trees"):
            kinds = file.classnames(recursive=True, cycle=False)
            trees = {n: kind for n, kind in kinds.items() if kind == "TTree" or kind.endswith("RNTuple")}
            found = {name: file[name] for name in trees}
            held = tuple(Held(n, trees[n].split("::")[-1], int(tree.num_entries)) for n, tree in found.items())
        yield Opened(held, lambda name: _table(source, choose(source, held, name), found[name]))


def _table(source: Path, held: Held, tree: Any) -> Table:
    with reading(source, f"the columns of {held.name}"):
        leaves = dict(_branches(tree) if held.kind == "TTree" else _fields(tree))

    def chunks(names: Sequence[str], step: int) -> Iterator[dict[str, Jagged]]:
        wanted = {leaves[name].branch for name in names}
        how = {"filter_name": wanted.__contains__, "step_size": step, "library": "ak", "how": dict}
        with reading(source, f"entries of {held.name}"):
            arrays = tree.iterate(**how)
        while True:
            with reading(source, f"entries of {held.name}"):
                read = next(arrays, None)
                if read is None:
                    return
                chunk = {name: _flat(read[leaves[name].branch].layout, leaves[name].way) for name in names}
            yield chunk

    fields = {name: leaf.held for name, leaf in leaves.items() if isinstance(leaf.held, Field)}
    other = {name: leaf.held for name, leaf in leaves.items() if isinstance(leaf.held, str)}
    return Table(source, held.name, held.kind, held.entries, fields, other, chunks)


def _branches(tree: Any) -> Iterator[tuple[str, _Leaf]]:
    """Columns of a TTree's branches without branches of their own, by their short names where those are unique."""
    branches = [(path, branch) for path, branch in tree.items(recursive=True) if not len(branch.branches)]
    short = Counter(branch.name for _, branch in branches)
    for path, branch in branches:
        name = branch.name if short[branch.name] == 1 else path
        try:
            form = branch.interpretation.awkward_form(tree.file)
        except Exception:  # uproot knows no array for this class: dozens of reasons, and the column is then only named
            yield name, _Leaf(path, (), str(branch.typename))
        else:
            yield from _leaves(form, name, path)


def _fields(ntuple: Any) -> Iterator[tuple[str, _Leaf]]:
    """Columns of an RNTuple's fields at the top."""
    form = ntuple.to_akform()
    form = form[0] if isinstance(form, tuple) else form
    for name, content in zip(form.fields, form.contents, strict=True):
        if not _PROJECTED.fullmatch(name):
            yield from _leaves(content, name, name)


def _leaves(
    form: Any, name: str, branch: str, way: tuple[str, ...] = (), depth: int = 0
) -> Iterator[tuple[str, _Leaf]]:
    """The columns below a form of awkward."""
    if form.is_record and not form.is_tuple:
        for member, content in zip(form.fields, form.contents, strict=True):
            yield from _leaves(content, f"{name}.{member}", branch, (*way, member), depth)
    elif form.is_list and not form.is_regular and form.parameter("__array__") is None and depth == 0:
        yield from _leaves(form.content, name, branch, way, 1)
    else:
        width, inner = _width(form)
        dtype = np.dtype(inner.primitive) if inner.is_numpy else np.dtype(object)
        held = Field(name, dtype.name, depth, width) if numeric(dtype) else "var * " * depth + str(form.type)
        yield name, _Leaf(branch, way, held)


def _width(form: Any) -> tuple[tuple[int, ...], Any]:
    width: tuple[int, ...] = ()
    while form.is_regular and form.parameter("__array__") is None:
        width, form = (*width, int(form.size)), form.content
    return (*width, *form.inner_shape) if form.is_numpy else width, form


def _flat(layout: Any, way: tuple[str, ...]) -> Jagged:
    """The values of one column of an array's layout."""
    _, awkward = tools()
    offsets, members = None, list(way)
    while True:
        if layout.is_indexed:
            layout = layout.project()
        elif layout.is_record:
            layout = layout.content(members.pop(0))
        elif layout.is_list and not layout.is_regular:
            layout = layout.to_ListOffsetArray64(True)
            offsets = np.asarray(layout.offsets.data).astype(np.int64)
            layout = layout.content[: int(offsets[-1])]
        else:
            return Jagged(np.asarray(awkward.to_numpy(layout, allow_missing=False)), offsets)
