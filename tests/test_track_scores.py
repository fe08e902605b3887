"""Track scores: bins of efficiency and purity against slow loops, and what evaluation writes of them."""

from __future__ import annotations

import numpy as np
import pytest

from multiplet.tasks.track_scores import ETA, FEWEST, PT, measure_tracks


def table_of(seed: int = 0, events: int = 40) -> dict[str, np.ndarray]:
    """Tracks of 5 to 19 points with pT and η of their own, found with errors; some points are in no track."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in ("index", "track", "found", "pt", "eta")}
    for event in range(events):
        for track in range(rng.integers(1, 20)):
            points = rng.integers(5, 20)
            noise = track == 0
            found = np.where(rng.random(points) < rng.choice([0.3, 0.9]), track, rng.integers(-1, 20, points))
            rows["index"].append(np.full(points, 3 * event))
            rows["track"].append(np.full(points, -1 if noise else track * 7))
            rows["found"].append(found)
            rows["pt"].append(np.full(points, rng.exponential(1.0)))
            rows["eta"].append(np.full(points, rng.normal(0, 1.2)))
    order = rng.permutation(sum(map(len, rows["index"])))
    return {name: np.concatenate(values)[order] for name, values in rows.items()}


Judged = tuple[str, int, float, float, int, float]


def slow(table: dict[str, np.ndarray]) -> list[Judged]:
    """Of each track that counts: metric, event, pT, η, tracks in the event, and whether it was found, or its purity."""
    judged = []
    for event in np.unique(table["index"]):
        true, found, pt, eta = (table[name][table["index"] == event] for name in ("track", "found", "pt", "eta"))
        number = len(set(true) - {-1})
        for track in set(true) - {-1}:
            mine = true == track
            shared = {f: (mine & (found == f)).sum() for f in set(found) - {-1}}
            most = [n for f, n in shared.items() if 2 * n > mine.sum() and 2 * n > (found == f).sum() and n >= 4]
            judged.append(("track efficiency", event, pt[mine][0], eta[mine][0], number, float(bool(most))))
        for track in set(found) - {-1}:
            mine = found == track
            shares = {t: (mine & (true == t)).sum() for t in set(true[mine]) - {-1}}
            if mine.sum() < 4:
                continue
            owner = max(shares, key=lambda t: (shares[t], t), default=None)
            place = np.argmax(true == owner) if shares else 0
            values = (pt[place], eta[place]) if shares else (np.nan, np.nan)
            judged.append(("track purity", event, *values, number, shares.get(owner, 0) / mine.sum()))
    return judged


@pytest.mark.parametrize("seed", range(3))
def test_bins_hold_what_a_slow_search_puts_there(seed: int) -> None:
    table = table_of(seed)
    judged = slow(table)
    binned = measure_tracks(table, "track", ("pt", "eta")).binned
    assert [(b.metric, b.quantity) for b in binned] == [
        (metric, quantity) for quantity in ("pt", "eta", "tracks") for metric in ("track efficiency", "track purity")
    ]
    for one in binned:
        column = {"pt": 2, "eta": 3, "tracks": 4}[one.quantity]
        mine = [track for track in judged if track[0] == one.metric]
        for low, high, count, estimate in zip(one.edges[:-1], one.edges[1:], one.counts, one.estimates, strict=True):
            here = [track for track in mine if low <= track[column] < high]
            assert count == len(here)
            assert (estimate is not None) == (len({track[1] for track in here}) >= FEWEST)
            if estimate is not None:
                assert estimate.value == pytest.approx(np.mean([track[5] for track in here]))
                assert estimate.low <= estimate.value <= estimate.high
        assert one.outside + sum(one.counts) == len(mine)
    edges = {one.quantity: one.edges for one in binned}
    assert edges["pt"] == tuple(PT.tolist())
    assert (len(PT), PT[0], PT[-1]) == (16, 0, 3)
    assert edges["eta"] == tuple(ETA.tolist())
    assert any(one.outside for one in binned if one.quantity == "pt")
    assert not any(one.outside for one in binned if one.quantity == "tracks")


def test_intervals_resample_events_not_tracks() -> None:
    """Events in which all tracks are found, or none: as uncertain as so many events, however many tracks they have."""
    events, tracks, points = 50, 40, 5
    index = np.repeat(np.arange(events), tracks * points)
    true = np.tile(np.repeat(np.arange(tracks), points), events)
    table = {"index": index, "track": true, "found": np.where(index % 2, true, -1), "pt": np.full(len(true), 0.5)}
    (here,) = (e for b in measure_tracks(table, "track", ("pt",)).binned[:1] for e in b.estimates if e is not None)
    assert here.value == 0.5
    assert (here.high - here.low) / 2 == pytest.approx(0.5 / np.sqrt(events), rel=0.3)


@pytest.mark.parametrize("most", [1, 14, 15, 31, 200])
def test_tracks_in_an_event_have_up_to_fifteen_whole_bins_that_hold_all(most: int) -> None:
    sizes = np.array([most] * 5)
    index = np.repeat(np.arange(5), 4 * sizes)
    true = np.concatenate([np.repeat(np.arange(size), 4) for size in sizes])
    (efficiency, purity) = measure_tracks({"index": index, "track": true, "found": true}, "track", ("pt",)).binned
    assert efficiency.quantity == "tracks"
    assert len(efficiency.counts) <= 15
    assert sum(efficiency.counts) == sum(purity.counts) == 5 * most
    assert len(set(np.diff(efficiency.edges))) == 1
    assert float(np.diff(efficiency.edges)[0]).is_integer()


def test_a_model_that_found_nothing_is_measured_all_the_same() -> None:
    table = table_of()
    table["found"] = np.full_like(table["found"], -1)
    measured = measure_tracks(table, "track", ("pt", "eta"))
    assert set(measured.metrics) == {"adjusted Rand index, pooled", "adjusted Rand index, mean", "track efficiency"}
    assert measured.metrics["track efficiency"].value == 0
    assert all(estimate is None for b in measured.binned if b.metric == "track purity" for estimate in b.estimates)
    table["track"] = np.full_like(table["track"], -1)
    assert "track efficiency" not in measure_tracks(table, "track").metrics
