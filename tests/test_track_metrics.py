"""Metrics of tracks: against scikit-learn, slow loops and cases written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from multiplet.errors import DataError
from multiplet.intervals import bootstrap
from multiplet.track_metrics import (
    adjusted_rand,
    adjusted_rand_of_each,
    double_majority,
    overlaps,
    pair_sums,
    ratio,
    sums_of_each,
)


def sample(seed: int, events: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Events of 0 to 60 points in up to 6 tracks, found with errors; some points in no track."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 60, events)
    event = np.repeat(np.arange(events), counts)
    true = generator.integers(-1, 6, len(event))
    found = np.where(generator.random(len(event)) < 0.7, (true * 7) % 11, generator.integers(-1, 9, len(event)))
    return event, true, found


@pytest.mark.parametrize("seed", range(20))
def test_the_adjusted_rand_index_is_scikit_learns_for_each_event_and_pooled(seed: int) -> None:
    event, true, found = sample(seed)
    sums = pair_sums(overlaps(event, true, found, 8))
    each = adjusted_rand_of_each(sums)
    for number in range(8):
        here = event == number
        if here.any():
            assert each[number] == pytest.approx(adjusted_rand_score(true[here], found[here]), abs=1e-12)
        else:
            assert np.isnan(each[number])
    assert adjusted_rand(sums) == pytest.approx(adjusted_rand_score(event * 99 + true, event * 99 + found), abs=1e-12)


def test_weights_are_copies_of_events() -> None:
    event, true, found = sample(3)
    weights = np.array([2, 0, 1, 3, 1, 1, 0, 1])
    copies = np.repeat(np.arange(8), weights)
    points = [np.flatnonzero(event == number) for number in copies]
    again = np.repeat(np.arange(len(copies)), [len(rows) for rows in points])
    rows = np.concatenate(points)
    expected = adjusted_rand(pair_sums(overlaps(again, true[rows], found[rows], len(copies))))
    sums = pair_sums(overlaps(event, true, found, 8))
    assert adjusted_rand(sums, weights) == pytest.approx(expected, abs=1e-12)
    assert bootstrap(adjusted_rand, sums).low < adjusted_rand(sums) < bootstrap(adjusted_rand, sums).high


@pytest.mark.parametrize("same", [True, False])
def test_one_group_and_single_points(same: bool) -> None:
    """The index of a perfect grouping is 1, also where chance could do no worse; of one group against singles 0."""
    true = np.zeros(5, int) if same else np.arange(5)
    sums = pair_sums(overlaps(np.zeros(5, int), true, true, 1))
    assert adjusted_rand(sums) == 1.0
    sums = pair_sums(overlaps(np.zeros(5, int), true, np.arange(5)[::-1] if same else np.zeros(5, int), 1))
    assert adjusted_rand(sums) == 0.0


def test_double_majority_by_hand() -> None:
    tracks = {  # true track: (points, what they were found as)
        0: [7] * 6,  # found
        1: [8] * 5 + [9] * 5,  # split in halves: no majority of its own points
        2: [10] * 4,  # merged with track 3, half of the found points: not a strict majority
        3: [10] * 4,
        4: [11] * 3,  # found whole, but with fewer than four shared points
        5: [-1] * 5,  # missed
        6: [12, 12],  # too short to count
        -1: [13] * 4 + [7],  # noise, found as a track; one noise point inside track 7
    }
    true = np.concatenate([[track] * len(found) for track, found in tracks.items()])
    found = np.concatenate(list(tracks.values()))
    of = overlaps(np.zeros(len(true), int), true, found, 1)
    match = double_majority(of)
    assert dict(zip(of.true.id.tolist(), match.efficient.tolist(), strict=True)) == {
        track: track == 0 for track in range(-1, 7)
    }
    assert of.true.id[match.counted].tolist() == [0, 1, 2, 3, 4, 5]
    purity = dict(zip(of.found.id.tolist(), match.purity.tolist(), strict=True))
    assert purity == pytest.approx({-1: 1, 7: 6 / 7, 8: 1, 9: 1, 10: 0.5, 11: 1, 12: 1, 13: 0})
    assert of.found.id[match.judged].tolist() == [7, 8, 9, 10, 13]
    assert of.found.id[match.good].tolist() == [7]
    assert ratio(sums_of_each(match.efficient, match.counted, of.true.event, 1)) == pytest.approx(1 / 6)
    assert ratio(sums_of_each(match.purity, match.judged, of.found.event, 1)) == pytest.approx((6 / 7 + 2.5) / 5)


@pytest.mark.parametrize("seed", range(5))
def test_double_majority_is_that_of_a_slow_search(seed: int) -> None:
    event, true, found = sample(seed)
    of = overlaps(event, true, found, 8)
    match = double_majority(of)
    for place in range(len(of.true.size)):
        mine = (event == of.true.event[place]) & (true == of.true.id[place])
        expected = False
        for track in set(found[mine]) - {-1}:
            theirs = (event == of.true.event[place]) & (found == track)
            shared = int((mine & theirs).sum())
            expected |= shared >= 4 and shared > mine.sum() / 2 and shared > theirs.sum() / 2
        assert match.efficient[place] == (expected and of.true.id[place] != -1)
        assert of.true.size[place] == mine.sum()


def test_no_points_and_bad_ids() -> None:
    none = np.zeros(0, int)
    of = overlaps(none, none, none, 2)
    assert np.isnan(adjusted_rand_of_each(pair_sums(of))).all()
    match = double_majority(of)
    assert np.isnan(ratio(sums_of_each(match.efficient, match.counted, of.true.event, 2)))
    with pytest.raises(DataError, match="found track id is -2"):
        overlaps(np.zeros(1, int), np.zeros(1, int), np.array([-2]), 1)
    with pytest.raises(DataError, match="events run from 0 to 3; there are 3"):
        overlaps(np.array([0, 3]), np.zeros(2, int), np.zeros(2, int), 3)
    with pytest.raises(DataError, match="1 events, 2 true"):
        overlaps(np.zeros(1, int), np.zeros(2, int), np.zeros(2, int), 3)
