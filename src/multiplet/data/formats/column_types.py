"""Column types: which types of somebody's columns can hold what they mean, and whole numbers in whatever type."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from multiplet.errors import DataError

# Beginnings of NumPy's names. float16 moves ids above 2048, and times of 10 µs by up to 4 ns; float32 ids above 2^24.
WHOLE = ("int", "uint", "float64")
REAL = ("int", "uint", "float32", "float64")
ROUGH = (*REAL, "float16")  # for what three digits say: charges, small codes
FLAG = ("bool", "int", "uint")


def require_types(source: Path, held: Mapping[str, str], wanted: Mapping[str, tuple[str, ...]]) -> None:
    """DataError, listing every fault, for wanted columns that are missing or whose type cannot hold what they mean."""
    faults = [
        f"{name} is {held[name]}, which cannot hold it" if name in held else f"{name} is missing"
        for name, types in wanted.items()
        if not held.get(name, "").startswith(types)
    ]
    if faults:
        raise DataError(
            f"{source}: {'; '.join(faults)}: is this another layout? Take the file as published, or write it anew from "
            "the original, with ids as integers and times, places, angles and energies in 32 bits or more"
        )


def whole(source: Path, name: str, values: np.ndarray) -> np.ndarray:
    """The same as int64; DataError where a number is not whole."""
    if values.dtype.kind == "f" and (bad := ~np.isfinite(values) | (values != np.trunc(values))).any():
        raise DataError(f"{source}: {name} is {values[np.argmax(bad)]} somewhere, no whole number: correct the file")
    return values.astype(np.int64)
