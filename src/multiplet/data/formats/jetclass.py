"""JetClass: ROOT files of 100,000 jets of one class (arXiv 2202.03772, Zenodo 6619768), read and written.

Labels are taken by name. TTrees and RNTuples are read; the writer makes TTrees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from multiplet.data.columns import Column, Columns
from multiplet.data.formats.constituents import P4, Raw, assemble, to_read
from multiplet.data.formats.jetclass_layout import BRANCH, LABEL_TYPES, LABELS, PART, SCHEMA, read_layout
from multiplet.data.formats.root import open_root, tools
from multiplet.data.formats.root_tables import root_tables
from multiplet.data.formats.sources import STEP, Chunk, reading, spans
from multiplet.errors import DataError
from multiplet.files import write_atomically

_LABEL_BRANCHES = tuple(f"label_{name}" for name in LABELS)


@dataclass(frozen=True)
class JetClass:
    """ROOT files in JetClass's layout; only the branches behind `columns` are read (all where empty).

    p4 and label always come along; truth that a file lacks is left out where files need not be `labelled`. Raises
    DataError where a column is not one of this layout.
    """

    columns: tuple[str, ...] = ()
    tree: str = "tree"
    step: int = STEP
    labelled: bool = True

    def __post_init__(self) -> None:
        known = [column.name for column in SCHEMA]
        if strange := sorted(set(self.columns) - set(known)):
            raise DataError(f"JetClass has no column {', '.join(strange)}; it has {', '.join(known)}")

    @property
    def schema(self) -> tuple[Column, ...]:
        """The columns read, in the order of the layout."""
        wanted = {*self.columns, *(column.name for column in P4), "label"}
        return tuple(column for column in SCHEMA if column.name in wanted or not self.columns)

    def provenance(self) -> dict[str, str]:
        """The format, and the columns where not all of them are read."""
        return {"format": "jetclass"} | ({"columns": " ".join(self.columns)} if self.columns else {})

    def chunks(self, source: Path) -> Iterator[Chunk]:
        """All jets of one file, constituents in descending pT.

        Raises DataError for a file that is damaged (CorruptError where it is shorter than it says), without the tree
        or a branch, or with values that no jet has: not finite, a negative energy, not exactly one label.
        MissingExtraError without the extra `root`.
        """
        with root_tables(source) as opened:
            table = opened.open(self.tree)
            held = {name for name, branch in BRANCH.items() if branch in table.fields}
            held |= {"label"} if any(branch in table.fields for branch in _LABEL_BRANCHES) else set()
            schema = to_read(self.schema, self.labelled, held)
            flags = _LABEL_BRANCHES if any(column.name == "label" for column in schema) else ()
            names = {column.name: BRANCH[column.name] for column in schema if column.name != "label"}
            for raw, arrays in read_layout(table, names, flags, self.step):
                if flags:
                    raw.values["label"] = _labels(raw, [arrays[branch].values for branch in flags])
                yield Chunk(assemble(raw, schema))


def _labels(raw: Raw, flags: Sequence[np.ndarray]) -> np.ndarray:
    """Class codes, by name: (events,) int16; DataError where not exactly one label is 1 and the others 0."""
    with reading(raw.source, "its labels"):
        given = np.stack(flags, axis=1)
    bad = (np.count_nonzero(given == 1, axis=1) != 1) | (np.count_nonzero(given == 0, axis=1) != len(LABELS) - 1)
    if bad.any():
        raw.refuse("the label", "event", bad, f"is not exactly one of {', '.join(_LABEL_BRANCHES)}")
    return np.argmax(given == 1, axis=1).astype(np.int16)


def write_root(path: Path, columns: Columns | Iterable[Columns], step: int = STEP, about: str = "") -> int:
    """Write jets as a TTree `tree` in JetClass's layout, LZ4-compressed; gives their number.

    The 41 branches have JetClass's names and types. Constituents lie in counted arrays (with a counter `npart`) where
    JetClass has vectors; readers make the same arrays of both. Columns beyond the layout are left out. Reading the
    file gives equal arrays; its bytes differ each time, as ROOT keeps the time of writing. `about` is kept as a text of
    that name beside the tree. Raises DataError for a column that is missing or does not fit the type of its branch,
    MissingExtraError without the extra `root`.
    """
    uproot, awkward = tools()
    written = 0

    def write(aside: Path) -> None:
        nonlocal written
        with uproot.recreate(str(aside), compression=uproot.LZ4(4)) as file:
            tree = file.mktree("tree", _branch_types(awkward))
            for part in [columns] if isinstance(columns, Columns) else columns:
                _check(part)
                for start, stop in spans(len(part), step) if len(part) else ():
                    tree.extend(_branches(awkward, part, start, stop))
                written += len(part)
            if about:
                file["about"] = about

    write_atomically(path, write)
    return written


def read_about(path: Path) -> tuple[int, str]:
    """The number of jets in a file that `write_root` made, and its `about`, empty where it has none."""
    with open_root(path) as file, reading(path, "its tree, or its text about"):
        return int(file["tree"].num_entries), str(file["about"]) if "about" in file else ""


def _branch_type(name: str) -> np.dtype[Any]:
    return np.dtype(np.int32 if name.startswith("is_") else np.float32)


def _branch_types(awkward: Any) -> dict[str, Any]:
    part = {BRANCH[name].removeprefix("part_"): np.zeros(0, _branch_type(name)) for name in PART}
    event = {branch: _branch_type(name) for name, branch in BRANCH.items() if name not in PART}
    labels = {f"label_{name}": np.dtype(kind) for name, kind in LABEL_TYPES.items()}
    return {"part": _lists(awkward, np.zeros(1, np.int64), part).type.content, **labels, **event}


def _lists(awkward: Any, offsets: np.ndarray, part: dict[str, np.ndarray]) -> Any:
    """One list of records for each event."""
    contents = [awkward.contents.NumpyArray(np.ascontiguousarray(value)) for value in part.values()]
    record = awkward.contents.RecordArray(contents, list(part))
    return awkward.Array(awkward.contents.ListOffsetArray(awkward.index.Index64(offsets), record))


def _check(columns: Columns) -> None:
    """DataError where a column of the layout is missing, or its type or its classes are others."""
    held = {column.name: column for column in columns.schema}
    faults = [f"{column.name} is missing" for column in SCHEMA if column.name not in held]
    if not faults and (strange := sorted(set(held["label"].classes) - set(LABELS))):
        faults = [f"label has classes that JetClass has not: {', '.join(strange)}"]
    if faults:
        raise DataError(f"these jets do not fit JetClass's layout: {'; '.join(faults)}")


def _branches(awkward: Any, columns: Columns, start: int, stop: int) -> dict[str, Any]:
    """The values of a chunk of events, in the types of the branches."""
    low, high = columns.offsets[start], columns.offsets[stop]
    part = {BRANCH[name].removeprefix("part_"): _exactly(name, columns.values[name][low:high]) for name in PART}
    out = {"part": _lists(awkward, columns.offsets[start : stop + 1] - low, part)}
    classes = next(column.classes for column in columns.schema if column.name == "label")
    code = columns.values["label"][start:stop]
    for name, kind in LABEL_TYPES.items():
        out[f"label_{name}"] = np.asarray(code == (classes.index(name) if name in classes else -1), kind)
    for name, branch in BRANCH.items():
        if name not in PART:
            out[branch] = _exactly(name, columns.values[name][start:stop])
    return out


def _exactly(name: str, values: np.ndarray) -> np.ndarray:
    """The values in the type of their branch; DataError where that would change one."""
    cast: np.ndarray = values.astype(_branch_type(name))
    if (bad := cast != values).any():
        raise DataError(f"{name} is {values[np.argmax(bad)]}, which {cast.dtype} cannot hold exactly, or not a number")
    return cast
