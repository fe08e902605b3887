"""Metrics of tracks: how well points were grouped, per event and pooled, with sums that a bootstrap over events needs.

A point belongs to one true track and to one found track, or to none (-1). E events, n points of all of them, T true
tracks, F found tracks. Adjusted Rand index after Hubert and Arabie (1985); efficiency and purity by double majority.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multiplet.errors import DataError
from multiplet.intervals import like_weights, weight_rows

NONE = -1  # a point of no track


@dataclass(frozen=True, eq=False)
class Groups:
    """The tracks of one kind, true or found, of all events: event, id within it, number of points, (tracks,).

    `first` is the place of a point of each among all points.
    """

    event: np.ndarray
    id: np.ndarray
    size: np.ndarray
    first: np.ndarray


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Which tracks share how many points; groups of points without a track (id -1) are among the groups."""

    events: int
    points: np.ndarray  # (E,)
    true: Groups
    found: Groups
    pair: np.ndarray  # (P, 2): places in true and in found
    shared: np.ndarray  # (P,): points of each pair


def overlaps(event: np.ndarray, true: np.ndarray, found: np.ndarray, events: int) -> Overlaps:
    """Compare two groupings of the same points, given each point's event (0 … events - 1) and tracks, (n,) each.

    Raises DataError where the lengths differ, an event is out of range or an id is below -1.
    """
    if not len(event) == len(true) == len(found):
        raise DataError(f"{len(event)} events, {len(true)} true and {len(found)} found ids: each point needs all three")
    if len(event) and not (event.min() >= 0 and event.max() < events):
        raise DataError(f"events run from {event.min()} to {event.max()}; there are {events}")
    for name, ids in (("true", true), ("found", found)):
        if len(ids) and ids.min() < NONE:
            raise DataError(f"a {name} track id is {ids.min()}: ids are 0 or larger, or {NONE} for no track")
    sides = [_groups(event, ids) for ids in (true, found)]
    place = np.stack([side[1] for side in sides], axis=1)
    key = place[:, 0] * max(len(sides[1][0].size), 1) + place[:, 1]
    _, first, shared = np.unique(key, return_index=True, return_counts=True)
    return Overlaps(
        events, np.bincount(event, minlength=events), sides[0][0], sides[1][0], place[first].reshape(-1, 2), shared
    )


def _groups(event: np.ndarray, ids: np.ndarray) -> tuple[Groups, np.ndarray]:
    """The distinct groups, and the place of each point's group among them."""
    ids = ids.astype(np.int64)
    span = int(ids.max(initial=NONE)) + 2
    key, first, place, size = np.unique(event.astype(np.int64) * span + ids + 1, True, True, True)
    return Groups(key // span, key % span - 1, size, first), place


def pair_sums(of: Overlaps) -> np.ndarray:
    """(E, 4): pairs of points together in both groupings, in the true one, in the found one, and points."""
    together = np.bincount(of.true.event[of.pair[:, 0]], _pairs(of.shared), of.events)
    sides = [np.bincount(groups.event, _pairs(groups.size), of.events) for groups in (of.true, of.found)]
    return np.stack([together, *sides, of.points], axis=1)


def adjusted_rand(sums: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """The adjusted Rand index of all points pooled, ids of different events being different, from `pair_sums`."""
    rows = weight_rows(weights, len(sums))
    value = _adjusted(rows @ sums)
    return like_weights(weights, value)


def adjusted_rand_of_each(sums: np.ndarray) -> np.ndarray:
    """The adjusted Rand index of each event, (E,); NaN for events without points."""
    return np.where(sums[:, 3] > 0, _adjusted(sums), np.nan)


def _adjusted(sums: np.ndarray) -> np.ndarray:
    together, true, found, points = np.moveaxis(sums, -1, 0)
    pairs = np.maximum(_pairs(points), 1)
    expected, largest = true * found / pairs, (true + found) / 2
    with np.errstate(invalid="ignore"):
        return np.where(largest == expected, 1.0, (together - expected) / (largest - expected))


def _pairs(count: np.ndarray) -> np.ndarray:
    return count * (count - 1.0) / 2


@dataclass(frozen=True, eq=False)
class Matches:
    """Tracks judged by double majority.

    `match` (P,): pairs of a true and a found track that match. `efficient` (T,): true tracks that were found; `counted`
    (T,): those with enough points to count at all. `purity` (F,): the share of a found track's points that come from
    its most frequent true track; `good` (F,): found tracks that match a true one; `judged` (F,): found tracks with
    enough points to count.
    """

    match: np.ndarray
    efficient: np.ndarray
    counted: np.ndarray
    purity: np.ndarray
    good: np.ndarray
    judged: np.ndarray


def double_majority(of: Overlaps, fewest_true: int = 3, fewest_shared: int = 4) -> Matches:
    """Match tracks that share more than half of the points of both, and `fewest_shared` points at least.

    True tracks count from `fewest_true` points on, found ones from `fewest_shared` on.
    """
    true, found = of.pair.T
    real = (of.true.id[true] != NONE) & (of.found.id[found] != NONE)
    both = (2 * of.shared > of.true.size[true]) & (2 * of.shared > of.found.size[found])
    match = real & both & (of.shared >= fewest_shared)
    efficient, good = np.zeros(len(of.true.size), bool), np.zeros(len(of.found.size), bool)
    efficient[true[match]], good[found[match]] = True, True
    largest = np.zeros(len(of.found.size))
    np.maximum.at(largest, found, of.shared * (of.true.id[true] != NONE))
    return Matches(
        match,
        efficient,
        (of.true.id != NONE) & (of.true.size >= fewest_true),
        largest / of.found.size,
        good,
        (of.found.id != NONE) & (of.found.size >= fewest_shared),
    )


def sums_of_each(values: np.ndarray, chosen: np.ndarray, event: np.ndarray, events: int) -> np.ndarray:
    """(E, 2): for each event the sum of the chosen values, and how many were chosen: what `ratio` is made of."""
    above = np.bincount(event[chosen], np.asarray(values, float)[chosen], events)
    return np.stack([above, np.bincount(event[chosen], minlength=events)], axis=1)


def ratio(sums: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """Σ above / Σ below over events from (E, 2), as efficiency and mean purity are; NaN where nothing counts."""
    rows = weight_rows(weights, len(sums))
    above, below = np.moveaxis(rows @ sums, -1, 0)
    value = above / np.where(below > 0, below, np.nan)
    return like_weights(weights, value)
