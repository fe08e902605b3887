"""Whole jets: what the constituents of a jet make together, as they are and with the hidden ones sampled back."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from multiplet.evaluation.sampling import SCALE, TRUE, Table
from multiplet.kinematics import mass_squared, p4, segment_sum

# name → unit; constituents count as massless, and angles from the jet axis
OBSERVABLES = {"pt_ratio": "", "mass": "GeV", "width": "", "pt_dispersion": ""}


def has_jets(columns: Collection[str]) -> bool:
    """Whether jets can be put together: from deta, dphi, and pt or pt_rel with the jet's own."""
    names = {TRUE + name for name in ("deta", "dphi")}
    return names <= set(columns) and (TRUE + "pt" in columns or {TRUE + "pt_rel", SCALE} <= set(columns))


def whole_jets(table: Table, prefix: str) -> Table:
    """Observables (jets,) of the jets in order, from the columns with this prefix, in double precision.

    `pt_ratio` Σ pT over its true value, `mass`, `width` Σ pT ΔR/Σ pT, `pt_dispersion` √(Σ pT²)/Σ pT.
    """
    offsets = np.append(np.flatnonzero(np.diff(table["index"], prepend=-1)), len(table["index"]))
    pt, true = (_pt(table, each) for each in (prefix, TRUE))
    deta, dphi = (table[prefix + name].astype(np.float64) for name in ("deta", "dphi"))
    momenta = p4(pt, deta, dphi, np.zeros_like(pt))
    squared = mass_squared(*(segment_sum(each, offsets) for each in momenta))
    total = segment_sum(pt, offsets)
    return {
        "pt_ratio": total / segment_sum(true, offsets),
        "mass": np.sqrt(np.maximum(squared, 0)),
        "width": segment_sum(pt * np.hypot(deta, dphi), offsets) / total,
        "pt_dispersion": np.sqrt(segment_sum(pt**2, offsets)) / total,
    }


def _pt(table: Table, prefix: str) -> np.ndarray:
    if prefix + "pt" in table:
        return table[prefix + "pt"].astype(np.float64)
    return table[prefix + "pt_rel"].astype(np.float64) * table[SCALE]
