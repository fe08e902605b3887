"""Track scores: what found tracks are worth, over all events and in bins of pT, pseudorapidity and tracks an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from multiplet.intervals import Binned, Estimate, Measured, bootstrap
from multiplet.track_metrics import (
    NONE,
    Matches,
    Overlaps,
    adjusted_rand,
    adjusted_rand_of_each,
    double_majority,
    overlaps,
    pair_sums,
    ratio,
    sums_of_each,
)

PT, ETA = np.arange(16) / 5, np.arange(-8, 9) / 4  # edges in GeV; no unit
FEWEST = 5  # events in a bin for a bootstrap over them
_AXES = (("track pT [GeV]", PT), ("track η", ETA))  # of the first and the second of Tracks.by
_MOST = 15  # bins of the tracks in an event


def measure_tracks(table: Mapping[str, np.ndarray], label: str, by: Sequence[str] = ()) -> Measured:
    """Adjusted Rand index, efficiency and purity by double majority, with 68 % bootstrap intervals over events.

    The table holds of each point the event's `index`, its true track in the column `label`, below 0 where it has none,
    the track it was `found` in, or -1, and the columns `by` of `track_curves`. A metric of true or of found tracks is
    left out where there are none.
    """
    _, event = np.unique(table["index"], return_inverse=True)
    events = int(event.max(initial=-1)) + 1
    of = overlaps(event, np.maximum(table[label], NONE), table["found"], events)
    match, pairs = double_majority(of), pair_sums(of)
    metrics = {
        "adjusted Rand index, pooled": bootstrap(adjusted_rand, pairs),
        "adjusted Rand index, mean": bootstrap(np.mean, adjusted_rand_of_each(pairs)),
    }
    for name, values, chosen, side in (
        ("track efficiency", match.efficient, match.counted, of.true),
        ("track purity", match.purity, match.judged, of.found),
        ("share of found tracks that match", match.good, match.judged, of.found),
    ):
        if chosen.any():
            metrics[name] = bootstrap(ratio, sums_of_each(values, chosen, side.event, events))
    return Measured(metrics, binned=track_curves(of, match, by, table))


def track_curves(
    of: Overlaps, match: Matches, by: Sequence[str], table: Mapping[str, np.ndarray]
) -> tuple[Binned, ...]:
    """Efficiency and purity in bins, with bootstrap intervals over events, as `double_majority` counts them.

    Bins with tracks of fewer than FEWEST events have no value.

    `by` are the columns of pT in GeV and of pseudorapidity, (n,) of all points, where the table has them; the edges are
    PT and ETA. A true track's values are those of one of its points, a found track's those of the true track that has
    most of its points; found tracks all of whose points are of no track have none. Tracks in the event are the true
    ones that count, and have up to 15 bins of equal whole width.
    """
    owner = _owner(of)
    tracks = np.bincount(of.true.event[match.counted], minlength=of.events)
    width = 1 + int(tracks.max(initial=0)) // _MOST
    edges = np.arange(0, tracks.max(initial=0) + width + 1, width, dtype=float)
    found = []
    for column, (label, here) in zip(by, _AXES, strict=False):
        if column in table:
            true = table[column][of.true.first].astype(float)
            given = np.where(owner == NONE, np.nan, np.append(true, np.nan)[owner])
            found += _both(of, match, column, label, here, true, given)
    found += _both(
        of, match, "tracks", "true tracks in the event", edges, tracks[of.true.event], tracks[of.found.event]
    )
    return tuple(found)


def _owner(of: Overlaps) -> np.ndarray:
    """(F,): the place of the true track with most points of each found one, NONE where no true track has any."""
    true, found = of.pair.T
    real = np.flatnonzero(of.true.id[true] != NONE)
    rising = real[np.argsort(of.shared[real], kind="stable")]
    owner = np.full(len(of.found.size), NONE)
    owner[found[rising]] = true[rising]  # the last one written has most
    return owner


def _both(
    of: Overlaps,
    match: Matches,
    quantity: str,
    label: str,
    edges: np.ndarray,
    true: np.ndarray,
    found: np.ndarray,
) -> list[Binned]:
    """Efficiency by the values of true tracks (T,), purity by those of found tracks (F,)."""
    sides = (
        ("track efficiency", "true tracks", match.efficient, match.counted, of.true.event, true),
        ("track purity", "found tracks", match.purity, match.judged, of.found.event, found),
    )
    binned = []
    for metric, counted, values, chosen, event, place in sides:
        bins = np.digitize(place, edges) - 1  # NaN comes after the last edge
        masks = [chosen & (bins == number) for number in range(len(edges) - 1)]
        counts = tuple(int(mask.sum()) for mask in masks)
        estimates = tuple(_estimate(values, mask, event, of.events) for mask in masks)
        outside = int(chosen.sum()) - sum(counts)
        binned.append(Binned(metric, quantity, label, tuple(edges.tolist()), estimates, counted, counts, outside))
    return binned


def _estimate(values: np.ndarray, chosen: np.ndarray, event: np.ndarray, events: int) -> Estimate | None:
    sums = sums_of_each(values, chosen, event, events)
    return bootstrap(ratio, sums) if np.count_nonzero(sums[:, 1]) >= FEWEST else None
