"""Track numbers: whatever names the tracks of an event have, 0, 1, … in their place; no loop over events."""

from __future__ import annotations

import numpy as np

_SLOTS = 8  # a point: where ids lie further apart, a table of them would need more memory than sorting


def number_tracks(ids: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each point's track, counted through all events, and counted from 0 in its own event: (points,) int32 both.

    Tracks count in ascending order of their `ids` (points,), which are integers of any kind, and names inside an event
    alone; `offsets` (events + 1,) say which points are an event's.
    """
    counts = np.diff(offsets)
    counts = counts[counts > 0]
    if not len(counts):
        return np.zeros(0, np.int32), np.zeros(0, np.int32)
    starts = np.cumsum(counts) - counts
    low, high = np.minimum.reduceat(ids, starts), np.maximum.reduceat(ids, starts)
    slots = (high.astype(np.float64) - low.astype(np.float64) + 1).sum()
    number = _by_sorting(ids, counts) if slots > _SLOTS * len(ids) else _by_table(ids, low, high, counts)
    return number, number - np.repeat(np.minimum.reduceat(number, starts), counts)


def _by_table(ids: np.ndarray, low: np.ndarray, high: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """One slot for every id between the lowest and the highest of each event; those that are there are counted."""
    ids, low, high = (each.astype(np.int64) for each in (ids, low, high))
    ends = np.cumsum(high - low + 1)
    slot = ids + np.repeat(ends - high - 1, counts)
    seen = np.zeros(int(ends[-1]), bool)
    seen[slot] = True
    return (np.cumsum(seen, dtype=np.int32) - 1)[slot]


def _by_sorting(ids: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Ids as far apart as they like."""
    names, code = np.unique(ids, return_inverse=True)
    event = np.repeat(np.arange(len(counts)), counts)
    return np.unique(event * len(names) + code, return_inverse=True)[1].astype(np.int32)
