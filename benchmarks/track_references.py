"""Track references: DBSCAN and HDBSCAN on spacepoints, without training, scored as `multiplet evaluate` scores tracks.

    python benchmarks/track_references.py data/tpc

Each on two sets of coordinates: direction (η, cos φ, sin φ), and the conformal map (x, y)/r² with η, in which a track
from the beam is a straight line. Their parameters are those with the best mean adjusted Rand index on 100 training
events; the table is of the test split.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
from sklearn.cluster import DBSCAN, HDBSCAN

from multiplet.data.events import EventFiles, Events, Split
from multiplet.intervals import Measured
from multiplet.tasks.track_scores import measure_tracks
from multiplet.track_metrics import adjusted_rand_of_each, overlaps, pair_sums

TUNED_ON = 100  # training events
INNERMOST = 31.4  # cm: conformal coordinates are 1 on the first row of the chamber
AT_ONCE = 100  # events in memory
Points = tuple[np.ndarray, np.ndarray]  # x, y, z in cm (n, 3) and true tracks (n,) of an event


def direction(xyz: np.ndarray, weight: float) -> np.ndarray:
    """(η, cos φ, sin φ), η times a weight: φ has no edge."""
    r = np.hypot(xyz[:, 0], xyz[:, 1])
    return np.stack([weight * np.arcsinh(xyz[:, 2] / r), xyz[:, 0] / r, xyz[:, 1] / r], axis=1)


def conformal(xyz: np.ndarray, weight: float) -> np.ndarray:
    """(η, x/r², y/r²), η times a weight, the others in units of the innermost row's."""
    square = xyz[:, 0] ** 2 + xyz[:, 1] ** 2
    eta = np.arcsinh(xyz[:, 2] / np.sqrt(square))
    return np.stack([weight * eta, INNERMOST * xyz[:, 0] / square, INNERMOST * xyz[:, 1] / square], axis=1)


def dbscan(eps: float, least: int) -> Callable[[np.ndarray], np.ndarray]:
    """Coordinates (n, 3) → clusters (n,), -1 for none."""
    return DBSCAN(eps=eps, min_samples=least).fit_predict


def hdbscan(least: int, neighbours: int) -> Callable[[np.ndarray], np.ndarray]:
    """The same; events with fewer points than neighbours are one cluster."""
    cluster = HDBSCAN(min_cluster_size=least, min_samples=neighbours, copy=True).fit_predict
    return lambda x: cluster(x) if len(x) > max(least, neighbours) else np.zeros(len(x), np.int64)


ETA = (1.0, 3.0, 6.0, 12.0)  # weights
WAYS = {
    "DBSCAN": (dbscan, {"eps": (0.02, 0.04, 0.08, 0.16, 0.32), "least": (2, 3, 5)}),
    "HDBSCAN": (hdbscan, {"least": (4, 8, 16), "neighbours": (2, 4, 8)}),
}


def read(files: EventFiles, split: Split, events: int) -> Iterator[Points]:
    """Events one after the other."""
    for start in range(0, events, AT_ONCE):
        cloud = files.read(split, np.arange(start, min(start + AT_ONCE, events)))
        for place, mask in enumerate(cloud.mask.numpy()):
            xyz = np.stack([cloud.points[name][place].numpy()[mask] for name in ("x", "y", "z")], axis=1)
            yield xyz.astype(float), cloud.truth["track_id"][place].numpy()[mask]


def tune(events: list[Points], coordinates: Callable[..., np.ndarray], way: str) -> dict[str, float]:
    """The parameters of the grid, and the weight of η, with the best mean adjusted Rand index."""
    make, grid = WAYS[way]
    index = np.repeat(np.arange(len(events)), [len(true) for _, true in events])
    truth = np.concatenate([true for _, true in events])
    scores = {}
    for weight, *values in product(ETA, *grid.values()):
        cluster = make(**dict(zip(grid, values, strict=True)))
        found = np.concatenate([cluster(coordinates(xyz, weight)) for xyz, _ in events])
        each = adjusted_rand_of_each(pair_sums(overlaps(index, np.maximum(truth, -1), found, len(events))))
        scores[weight, *values] = float(np.nanmean(each))
    best = max(scores, key=scores.__getitem__)
    return dict(zip(("weight", *grid), best, strict=True))


def test(
    events: Iterator[Points], coordinates: Callable[..., np.ndarray], way: str, chosen: dict[str, float]
) -> tuple[Measured, float]:
    """Metrics of these events, and milliseconds an event."""
    cluster = WAYS[way][0](**{name: value for name, value in chosen.items() if name != "weight"})
    parts, seconds = [], 0.0
    for number, (xyz, true) in enumerate(events):
        start = time.perf_counter()
        found = cluster(coordinates(xyz, chosen["weight"]))
        seconds += time.perf_counter() - start
        parts.append((np.full(len(true), number), true, found))
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    return measure_tracks(dict(zip(("index", "track", "found"), columns, strict=True)), "track"), 1e3 * seconds / len(
        parts
    )


def main() -> None:
    """Tune, test, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder of event files of spacepoints with track_id")
    files = Events(str(parser.parse_args().data)).open()
    some = list(read(files, "train", min(TUNED_ON, files.size("train"))))
    print(
        f"tuned on {len(some)} training events, tested on {files.size('test')}; 68 % bootstrap intervals over events\n"
    )
    names: list[str] = []
    for way, coordinates in product(WAYS, (direction, conformal)):
        chosen = tune(some, coordinates, way)
        measured, cost = test(read(files, "test", files.size("test")), coordinates, way, chosen)
        if not names:
            names = list(measured.metrics)
            print(f"| method | coordinates | parameters | {' | '.join(names)} | ms an event |")
            print("|---" * (len(names) + 4) + "|")
        cells = [
            f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" if (e := measured.metrics.get(name)) else "–" for name in names
        ]
        said = ", ".join(f"{name} {value:g}" for name, value in chosen.items())
        print(f"| {way} | {coordinates.__name__} | {said} | {' | '.join(cells)} | {cost:.1f} |", flush=True)


if __name__ == "__main__":
    main()
