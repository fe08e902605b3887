"""OmniLearned: HDF5 files `<set>/{train,val,test}/*.h5` of its pretraining and fine-tuning sets (arXiv 2510.24066).

data (jets, slots, F) holds Δη, Δφ, ln pT, ln E, mostly a particle code, and extras in its last columns; pid (jets,) the
class; global (jets, C) what is known of the jet. Slots that are 0 throughout are padding. OmniLearned takes those with
ln pT = 0 for padding; a real constituent of pT = 1 GeV exactly is kept here, and counted in the column unit_pt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from multiplet.data.columns import Column, Columns, count_offsets
from multiplet.data.formats.constituents import COUNT, IDENTITY, Raw, assemble, identity, to_read
from multiplet.data.formats.hdf5 import dataset, names, open_hdf5, rows
from multiplet.data.formats.sources import STEP, Chunk, spans
from multiplet.errors import DataError

CODES = (-211, -13, -11, 11, 13, 22, 130, 211)  # PDG ids of the codes 1 to 8; K±, p → ±211, n → 130; 0 is padding

_POINTS = (
    Column("deta", about="Δη of particle and jet; its sign is the source's"),
    Column("dphi", "rad", about="Δφ of particle and jet"),
    Column("pt", "GeV"),
    Column("energy", "GeV"),
)
_EXTRAS = (
    Column("tanh_d0", about="tanh of the transverse impact parameter"),
    Column("d0_err", "mm"),
    Column("tanh_dz", about="tanh of the longitudinal impact parameter"),
    Column("dz_err", "mm"),
)


@dataclass(frozen=True)
class OmniLearned:
    """HDF5 files in OmniLearned's layout.

    `pid_column` is the column of data with the particle code (None: there is none), `extras` whether its last four are
    the impact parameters. Labels have `shift` subtracted, which is the source's first global id (jetclass 2, jetclass2
    12, aspen 200, cms_qcd 201, cms_bsm 202, others 0), and `classes` names them. With `targets` > 0, pid holds so many
    numbers to regress instead. With `point_targets` > 0, data_pid holds so many numbers for each point. Truth that a
    file lacks is left out where files need not be `labelled`.
    """

    pid_column: int | None = 4
    extras: bool = False
    shift: int = 0
    classes: tuple[str, ...] = ()
    targets: int = 0
    point_targets: int = 0
    step: int = STEP
    labelled: bool = True

    def __post_init__(self) -> None:
        if (self.pid_column is not None and self.pid_column < 4) or self.targets < 0 or self.point_targets < 0:
            raise DataError(
                f"the particle code stands in column 4 or later, and counts are not negative; given: {self}"
            )

    def provenance(self) -> dict[str, str]:
        """The format, its settings and the PDG ids of the particle codes."""
        codes = " ".join(map(str, CODES)) if self.pid_column is not None else ""
        settings = f"pid_column={self.pid_column} extras={self.extras} shift={self.shift}"
        counts = f"targets={self.targets} point_targets={self.point_targets}"
        about = {"format": "omnilearned", "settings": f"{settings} {counts}", "pdg_ids_of_codes_from_1": codes}
        return about | ({"classes": " ".join(self.classes)} if self.classes else {})

    def schema(self, conditions: int) -> tuple[Column, ...]:
        """The columns of files whose `global` has so many entries a jet."""
        code = (*IDENTITY, Column("pid_code", dtype="int8", about="0 where unknown"))
        label = (Column("label", "", "event", True, "int16", self.classes, "the class"),)
        about = "entry of `global`; the last is the multiplicity / 100"
        return (
            *_POINTS,
            *(code if self.pid_column is not None else ()),
            *(_EXTRAS if self.extras else ()),
            *(Column(f"point_target_{n}", "", truth=True) for n in range(self.point_targets)),
            COUNT,
            Column("unit_pt", "", "event", dtype="int16", about="constituents with ln pT = 0 exactly"),
            *(Column(f"global_{n}", "", "event", about=about) for n in range(conditions)),
            *(Column(f"target_{n}", "", "event", True) for n in range(self.targets)),
            *(label if not self.targets else ()),
        )

    def chunks(self, source: Path) -> Iterator[Chunk]:
        """All jets of one file, constituents in descending pT.

        Raises DataError for a file that is damaged or of another layout than the settings say, and for values that are
        not finite, codes beyond CODES and labels beyond the classes; MissingExtraError without the extra `hdf5`.
        """
        with open_hdf5(source) as file:
            data = dataset(source, file, "data")
            width = 4 + (self.pid_column is not None) + 4 * self.extras
            if data.ndim != 3 or data.shape[2] != width or (self.pid_column or 0) >= width:
                raise DataError(
                    f"{source}: data has shape {data.shape} where (jets, slots, {width}) is needed by {self}"
                )
            parts = {"data": data}
            wanted: dict[str, tuple[int, ...]] = {}
            if self.labelled or "pid" in names(file):
                parts["pid"] = dataset(source, file, "pid")
                wanted["pid"] = (self.targets,) if self.targets > 1 else ()
            if "global" in names(file):
                parts["global"] = dataset(source, file, "global")
                wanted["global"] = parts["global"].shape[1:2]
            if self.point_targets and (self.labelled or "data_pid" in names(file)):
                parts["data_pid"] = dataset(source, file, "data_pid")
                wanted["data_pid"] = (data.shape[1], self.point_targets)
            for name, shape in wanted.items():
                if _squeezed(parts[name].shape) != _squeezed((len(data), *shape)):
                    raise DataError(
                        f"{source}: {name} has shape {parts[name].shape} where {(len(data), *shape)} is needed"
                    )
            for start, stop in spans(len(data), self.step):
                given = {name: rows(source, part, start, stop) for name, part in parts.items()}
                yield Chunk(self._columns(source, start, given))

    def _columns(self, source: Path, first: int, given: dict[str, np.ndarray]) -> Columns:
        data = given["data"]
        real = (data != 0).any(axis=2)
        offsets, points = count_offsets(real.sum(axis=1)), data[real]
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
            pt, energy = np.exp(points[:, 2].astype(np.float64)), np.exp(points[:, 3].astype(np.float64))
        values = {"deta": points[:, 0], "dphi": points[:, 1], "pt": pt, "energy": energy}
        values["jet_nparticles"] = real.sum(axis=1)
        values["unit_pt"] = (real & (data[:, :, 2] == 0)).sum(axis=1)
        values |= {f"global_{n}": column for n, column in enumerate(_columns_of(given.get("global"), len(data)))}
        raw = Raw(source, first, offsets, values, {"pt": "ln pT in data", "energy": "ln E in data", "label": "pid"})
        if self.pid_column is not None:
            values |= _identified(raw, points[:, self.pid_column])
        if self.extras:
            values |= {column.name: points[:, n - 4] for n, column in enumerate(_EXTRAS)}
        for n in range(self.point_targets if "data_pid" in given else 0):
            values[f"point_target_{n}"] = given["data_pid"].reshape(*real.shape, self.point_targets)[:, :, n][real]
        if "pid" in given:
            values |= self._labels(raw, given["pid"])
        conditions = sum(name.startswith("global_") for name in values)
        return assemble(raw, to_read(self.schema(conditions), False, values), pt)

    def _labels(self, raw: Raw, pid: np.ndarray) -> dict[str, np.ndarray]:
        if self.targets:
            return {f"target_{n}": column for n, column in enumerate(_columns_of(pid, len(pid)))}
        raw.values["label"] = pid.reshape(len(pid))
        label = raw.values["label"] - self.shift
        bad = (label < 0) | ((label >= len(self.classes)) if self.classes else False)
        if bad.any():
            raw.refuse(
                "label", "event", bad, f"less the shift of {self.shift} is no class of {len(self.classes) or 'any'}"
            )
        return {"label": label}


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the last dimensions of 1, which some files have and others have not."""
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _columns_of(array: Any, events: int) -> list[np.ndarray]:
    return [] if array is None else list(array.reshape(events, prod(array.shape[1:])).T)


def _identified(raw: Raw, code: np.ndarray) -> dict[str, np.ndarray]:
    """Code, charge and flags of particle codes; DataError for a code that is not one."""
    raw.values["pid_code"] = code
    if (bad := ~np.isin(code, np.arange(len(CODES) + 1))).any():
        raw.refuse("pid_code", "point", bad, f"is none of the codes 0 to {len(CODES)}")
    return {"pid_code": code, **identity(np.array((0, *CODES))[code.astype(np.int64)])}
