"""The top-tagging landscape: pandas HDF5 files of jets with up to 200 constituents (Zenodo 2603256).

One table `table` with columns E_i, PX_i, PY_i, PZ_i for i = 0 … 199 in GeV, 0 where there is no constituent, the true
top's four-momentum, ttv (0 train, 1 validation, 2 test) and is_signal_new. The axis is the sum of the constituents.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from multiplet.data.columns import Column, Columns, count_offsets
from multiplet.data.formats.constituents import ANGLES, AXIS, COUNT, P4, Raw, around_sum, assemble, to_read
from multiplet.data.formats.hdf5 import open_hdf5
from multiplet.data.formats.pandas_table import find_table
from multiplet.data.formats.sources import STEP, Chunk, spans
from multiplet.errors import DataError

LABELS = ("QCD", "top")  # codes 0 and 1
_PREFIX = {"px": "PX", "py": "PY", "pz": "PZ", "energy": "E"}

SCHEMA = (
    *P4,
    *ANGLES,
    *AXIS,
    COUNT,
    Column("label", "", "event", True, "int16", LABELS, "the class"),
    *(Column(f"truth_{name}", "GeV", "event", True, about="of the true top quark; 0 for QCD") for name in _PREFIX),
    Column("ttv", "", "event", True, "int8", about="the publishers' split: 0 train, 1 validation, 2 test"),
)
_EVENT = {"label": "is_signal_new", "ttv": "ttv"} | {f"truth_{name}": f"truth{k}" for name, k in _PREFIX.items()}
_NAMES = _EVENT | {name: f"{prefix}_*" for name, prefix in _PREFIX.items()}


@dataclass(frozen=True)
class Top:
    """HDF5 files in the landscape's layout, as pandas writes them with format "table" or "fixed".

    Truth that a file lacks is left out where files need not be `labelled`.
    """

    key: str = "table"
    step: int = STEP
    labelled: bool = True

    def provenance(self) -> dict[str, str]:
        """Nothing but the format's name."""
        return {"format": "top"}

    def chunks(self, source: Path) -> Iterator[Chunk]:
        """All jets of one file, constituents in descending pT.

        Raises DataError for a file that is damaged or of another layout, and for values that no jet has: not finite, a
        negative energy, momentum without direction; MissingExtraError without the extra `hdf5`.
        """
        with open_hdf5(source) as file:
            table = find_table(source, file, self.key)
            slots = sum(name.startswith("E_") for name in table.columns)
            held = {name for name, branch in _EVENT.items() if branch in table.columns}
            schema = to_read(SCHEMA, self.labelled, held)
            wanted = [f"{prefix}_{n}" for prefix in _PREFIX.values() for n in range(slots)]
            wanted += [_EVENT[column.name] for column in schema if column.truth]
            if not slots or (lacking := sorted(set(wanted) - set(table.columns))):
                raise DataError(f"{source}: table {self.key} lacks {', '.join(lacking[:8]) if slots else 'E_0 …'}")
            for start, stop in spans(table.rows, self.step):
                yield Chunk(_columns(source, start, table.read(start, stop, wanted), slots, schema))


def _columns(source: Path, first: int, given: dict[str, np.ndarray], slots: int, schema: tuple[Column, ...]) -> Columns:
    wide = {name: np.stack([given[f"{prefix}_{n}"] for n in range(slots)], axis=1) for name, prefix in _PREFIX.items()}
    real = np.any([value != 0 for value in wide.values()], axis=0)
    offsets = count_offsets(real.sum(axis=1))
    p4: dict[str, Any] = {name: value[real] for name, value in wide.items()}
    truth = {column.name: given[_EVENT[column.name]] for column in schema if column.truth}
    raw = Raw(source, first, offsets, {**p4, **around_sum(p4, offsets), **truth}, _NAMES)
    code = truth.get("label", np.zeros(0))
    if (bad := (code != 0) & (code != 1)).any():
        raw.refuse("label", "event", bad, "is neither 0 (QCD) nor 1 (top)")
    return assemble(raw, schema)
