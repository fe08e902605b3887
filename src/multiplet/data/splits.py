"""Splits: which event goes to training, validation or test: by its number, or as the files of a data set are published.

As published means by the names of folders or files, which begin with the split's: train_100M/HToBB_000.root,
labeled/validation/…, val.h5, test/00000.arrow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from multiplet.data.columns import ORIGIN, Columns
from multiplet.data.events import SPLITS, Split
from multiplet.errors import DataError

Fractions = tuple[float, float, float] | Literal["published"]  # of training, validation and test
AS_PUBLISHED: Final = "published"
_WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def check_fractions(fractions: Sequence[float] | str) -> None:
    """DataError where these are no fractions of three splits, and not "published" either."""
    if fractions == AS_PUBLISHED:
        return
    if isinstance(fractions, str) or len(fractions) != 3:
        raise DataError(f"the fractions are {fractions!r}: three numbers such as (0.8, 0.1, 0.1), or {AS_PUBLISHED!r}")
    if not min(fractions) >= 0 or not abs(sum(fractions) - 1) < 1e-9:
        raise DataError(
            f"the fractions of training, validation and test are {fractions}: none below 0, with a sum of 1"
        )


def published_splits(paths: Mapping[str, Path]) -> dict[str, Split]:
    """The split of each source, by its name: what the file's own name or its folder's begins with.

    Raises DataError, naming the sources, where neither says one, or each another.
    """
    said = {name: _said(path) for name, path in paths.items()}
    if odd := [f"{paths[name]} ({' and '.join(each) or 'none'})" for name, each in said.items() if len(each) != 1]:
        more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
        raise DataError(
            "the published split of a file is what its name or its folder's begins with, train, val or test, and these "
            f"say none or several: {', '.join(odd[:5])}{more}; rename the folders, or give fractions instead"
        )
    return {name: each[0] for name, each in said.items()}


def _said(path: Path) -> list[Split]:
    """The splits that a file's name and its folder's begin with, none twice."""
    words = (re.match("[a-z]*", name.lower()) for name in (path.name, path.parent.name))
    return list(dict.fromkeys(_WORDS[word[0]] for word in words if word and word[0] in _WORDS))


def splitter(settings: Mapping[str, Any]) -> Callable[[int, Columns], np.ndarray]:
    """From the number of the first of some events, and these, to the place of each one's split in SPLITS: (events,).

    `settings` are those of a conversion: `fractions`, and `sources` with the `split` of each where it is published.
    """
    if settings["fractions"] == AS_PUBLISHED:
        split = np.array([SPLITS.index(source["split"]) for source in settings["sources"]])
        return lambda first, batch: split[batch.values[ORIGIN[0]]]
    edges = np.cumsum(settings["fractions"])[:2]
    return lambda first, batch: np.searchsorted(edges, _chance(first, len(batch)), side="right")


_GOLDEN, _MIX1, _MIX2 = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _chance(first: int, events: int) -> np.ndarray:
    """A number in [0, 1) for each event, a function of its number alone: SplitMix64 (Steele, Lea, Flood, 2014)."""
    x = np.arange(first + 1, first + events + 1, dtype=np.uint64) * _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53
