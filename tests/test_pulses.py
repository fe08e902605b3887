"""Photons as pulses, and local coincidence: the same as slow loops find."""

from __future__ import annotations

import numpy as np
import pytest

from multiplet.data.formats.pulses import coincident, merge_photons, reverse
from multiplet.kinematics import unit_vector


def photons(number: int, seed: int) -> tuple[np.ndarray, ...]:
    """Event, string, place and time of photons, crowded, in no order; times in eighths of ns, some equal."""
    rng = np.random.default_rng(seed)
    event, string, place = rng.integers(0, 4, number), rng.integers(3, 6, number), rng.integers(0, 7, number)
    return event, string, place, rng.integers(-400, 1200, number) / 8 * rng.choice([1, 40], number)


def merged_by_loop(event: np.ndarray, sensor: np.ndarray, time: np.ndarray, window: float) -> list[tuple[int, ...]]:
    """(event, sensor, time, count) of each pulse."""
    pulses: list[list[int]] = []
    for e, s, t in sorted(zip(event.tolist(), sensor.tolist(), time.tolist(), strict=True)):
        if pulses and pulses[-1][:2] == [e, s] and t - pulses[-1][2] <= window:
            pulses[-1][3] += 1
        else:
            pulses.append([e, s, t, 1])
    return [tuple(pulse) for pulse in pulses]


@pytest.mark.parametrize("window", [0, 0.125, 5, 25, 1e6])
@pytest.mark.parametrize("number", [0, 1, 2, 700])
def test_photons_are_merged_as_a_loop_merges_them(number: int, window: float) -> None:
    event, string, place, time = photons(number, number)
    sensor = 10 * string + place
    first, count = merge_photons(event, sensor, time, window)
    found = list(zip(*(a[first].tolist() for a in (event, sensor, time)), count.tolist(), strict=True))
    assert found == merged_by_loop(event, sensor, time, window)
    assert count.sum() == number


def test_a_window_begins_anew_with_each_pulse() -> None:
    """A steady train of photons, 3 ns apart, is no single pulse: 0 3 | 6 9 | 12 15."""
    zero = np.zeros(6, np.int64)
    first, count = merge_photons(zero, zero, 3.0 * np.arange(6), 5.0)
    assert first.tolist() == [0, 2, 4]
    assert count.tolist() == [2, 2, 2]


def test_times_at_both_ends_of_what_is_allowed() -> None:
    event = np.repeat(np.arange(1000), 2)
    first, count = merge_photons(event, np.zeros(2000, np.int64), np.tile([-(2.0**24), 2.0**24], 1000), 5.0)
    assert first.tolist() == list(range(2000))
    assert count.tolist() == [1] * 2000


@pytest.mark.parametrize("number", [0, 1, 2, 40, 400])
def test_coincidence_as_a_loop_finds_it(number: int) -> None:
    event, string, place, time = photons(number, 5 + number)
    rows = list(zip(event.tolist(), string.tolist(), place.tolist(), time.tolist(), strict=True))
    expected = [
        any(e == f and s == u and abs(p - q) in (1, 2) and abs(t - v) < 1000 for f, u, q, v in rows)
        for e, s, p, t in rows
    ]
    assert coincident(event, string, place, time).tolist() == expected
    if number >= 40:
        assert 0 < sum(expected) < number


@pytest.mark.parametrize(
    ("place", "time", "near"),
    [
        ((3, 4), (0.0, 999.0), True),
        ((3, 5), (999.0, 0.0), True),
        ((3, 6), (0.0, 0.0), False),  # three places apart
        ((3, 3), (0.0, 10.0), False),  # the same module
        ((3, 4), (0.0, 1000.0), False),  # 1 µs
    ],
)
def test_edges_of_coincidence(place: tuple[int, int], time: tuple[float, float], near: bool) -> None:
    zero = np.zeros(2, np.int64)
    assert coincident(zero, zero, np.array(place), np.array(time)).tolist() == [near, near]
    assert not coincident(np.arange(2), zero, np.array(place), np.array(time)).any()  # of two events
    assert not coincident(zero, np.arange(2), np.array(place), np.array(time)).any()  # of two strings


def test_reversed_directions_are_opposite() -> None:
    rng = np.random.default_rng(1)
    azimuth, zenith = rng.uniform(-np.pi, 2 * np.pi, 50), rng.uniform(0, np.pi, 50)
    assert unit_vector(*reverse(azimuth, zenith)) == pytest.approx(-unit_vector(azimuth, zenith))
