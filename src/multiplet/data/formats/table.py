"""Tables with a mapping: somebody's own ROOT, HDF5, Parquet or npz files, read as a mapping says.

multiplet convert table mapping.yaml signal:'/data/signal*.root' background:'/data/qcd_*.root' --out data/mine
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from multiplet.data.columns import Column
from multiplet.data.formats.derived import Derivation
from multiplet.data.formats.grouping import grouped
from multiplet.data.formats.linking import file_columns, link, split_arrays
from multiplet.data.formats.mapping import FileMapping, read_mapping
from multiplet.data.formats.sources import STEP, Chunk
from multiplet.data.formats.tables import open_table
from multiplet.data.journal import name_sources
from multiplet.errors import DataError

_LABELLED = re.compile(r"(?!root:)([A-Za-z_][\w+-]*):(.+)")
_EACH_STEP = 1_000  # rows at a time where each has several objects with many points
_GROUP_STEP = 100_000  # where each is one point


@dataclass(frozen=True)
class TableFormat:
    """Files of any kind that holds tables, read as a mapping says; `labels` are the classes of labelled sources."""

    mapping: FileMapping
    labels: Mapping[Path, str] = field(default_factory=dict)
    step: int = 0  # rows at a time; 0: 10,000, or 1,000 with `each`, or 100,000 with `group`

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the codes 0, 1, …: in the mapping's order, or in that in which the sources were given."""
        return tuple(self.mapping.label) or tuple(dict.fromkeys(self.labels.values()))

    def provenance(self) -> dict[str, str]:
        """The whole mapping, and which file is of which class."""
        about = {"format": "table", "mapping": self.mapping.plain}
        if self.labels:
            named = {name: self.labels[path] for name, path in name_sources([*self.labels]).items()}
            about |= {"labels": json.dumps(named), "classes": json.dumps(self.classes)}
        return about

    def chunks(self, source: Path) -> Iterator[Chunk]:
        """The selected events of one file, points in descending pT where they have a four-vector.

        Raises DataError for what `open_table` and `grouped` refuse, for columns that the mapping names and the file
        lacks, for expressions that give a list where a number is needed, and where a selected event has a value that is
        not finite, out of its type's range, a negative pT or energy, or not exactly one label.
        """
        mapping = self.mapping
        points = mapping.needed(mapping.point_expressions())
        code = self.classes.index(self.labels[Path(os.path.abspath(source))]) if self.labels else None
        with open_table(source, mapping.tree) as table:
            wanted = file_columns(source, table.fields, mapping)
            schema: tuple[Column, ...] | None = None
            first = 0
            step = self.step or (_EACH_STEP if mapping.each else _GROUP_STEP if mapping.group else STEP)
            rows = (split_arrays(arrays, mapping) for arrays in table.iterate(wanted, step))
            for columns in grouped(source, rows, mapping.group) if mapping.group else rows:
                derived = Derivation(mapping, link(source, first, columns, mapping, points))
                first += next(iter(columns.values())).entries
                schema = schema or derived.schema(self.classes)
                places, cuts = derived.select()
                yield Chunk(derived.columns(schema, code), cuts, places)


def table(mapping: Path, sources: Sequence[str], labelled: bool = True) -> tuple[TableFormat, list[Path]]:
    """The format of a mapping, and the files that these sources name: paths, patterns, or LABEL:path and LABEL:pattern.

    Not `labelled`, as for files to predict, leaves out what only simulated or labelled files have (see read_mapping);
    labels of sources are left out too. Raises DataError for a pattern that no file matches, a file named twice, and
    labels that only some sources have or that the mapping gives as well.
    """
    read = read_mapping(mapping, labelled)
    found: list[tuple[Path, str]] = []
    for given in sources:
        matched = None if Path(given).exists() else _LABELLED.fullmatch(given)
        label, pattern = matched.groups() if matched else ("", given)
        paths = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern, recursive=True))
        if not paths:
            raise DataError(f"{pattern}: no file matches: correct the path or the pattern")
        found += [(Path(os.path.abspath(path)), label) for path in paths]
    if not found:
        raise DataError("no source is given: name files, or LABEL:pattern")
    bare = next((path for path, label in found if not label), None)
    labels = {path: label for path, label in found if label}
    if labels and bare:
        raise DataError(f"{bare} has no label and {next(iter(labels))} has one: give all sources one, or none")
    if labels and read.label:
        raise DataError(
            f"{mapping} gives labels ({', '.join(read.label)}) and so do the sources: leave one of them out"
        )
    named = name_sources([path for path, _ in found])
    return TableFormat(read, labels if labelled else {}), list(named.values())
