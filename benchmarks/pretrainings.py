"""What a recipe of pretraining is worth, where several encoders of it were tuned on the same sets of labels.

Patterns name runs, {s} standing for the seed of labels: first those from scratch, then one pattern an encoder. The
interval, 95 %, is that of the mean over encoders k and seeds s of the difference d(k, s) in what each test event is
worth. A replicate resamples events and adds Student's t times a standard error twice: over encoders (of the means over
seeds) and over seeds (of the means over encoders). The chance of a single cell is in both, so it is a little long.

    python benchmarks/pretrainings.py 'runs/md/scratch-diffusion-1000-s{s}' 'runs/md/tuned-diffusion-1000-s{s}' \
        'runs/pretraining/tuned-again-1-1000-s{s}'
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

from multiplet.evaluation.study import rows
from multiplet.intervals import paired_difference


def two_way(differences: np.ndarray, replicas: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """The mean of d (K, S, E) and its interval over encoders, seeds and events; two or more of the first two."""
    encoders, seeds, events = differences.shape
    rng = np.random.default_rng(seed)
    mean = differences.mean((0, 1))
    drawn = np.array([mean[rng.integers(events, size=events)].mean() for _ in range(replicas)])
    for axis, count in ((1, encoders), (0, seeds)):
        spread = differences.mean((axis, 2)).std(ddof=1) / math.sqrt(count)
        drawn += rng.standard_t(count - 1, replicas) * spread
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(mean.mean()), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch")
    parser.add_argument("encoders", nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()

    def values(pattern: str) -> np.ndarray:
        runs = [Path(pattern.format(s=seed)) for seed in range(args.seeds)]
        if missing := [run for run in runs if not (run / "predictions.parquet").is_file()]:
            parser.error(f"{missing[0]} is no evaluated run")
        return np.stack([row.values for row in rows(runs)])

    scratch, tuned = values(args.scratch), [values(pattern) for pattern in args.encoders]
    for pattern, mine in zip(args.encoders, tuned, strict=True):
        print(f"{pattern}: {mine.mean():.4f}, − from scratch {paired_difference(mine, scratch)}")
    means = np.array([mine.mean() for mine in tuned])
    if len(tuned) > 1:
        value, low, high = two_way(np.stack(tuned) - scratch)
        print(f"standard deviation over {len(tuned)} encoders: {means.std(ddof=1):.4f}")
        print(f"all, − from scratch: {value:+.4f} [{low:+.4f}, {high:+.4f}] over encoders, seeds and events")


if __name__ == "__main__":
    main()
