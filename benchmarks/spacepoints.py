"""Spacepoints: the raster scan beside a search for the nearest box centre, and next neighbours beside two other ways.

- published: all distances at once by broadcasting, then a full sort;
- vectorised: distances by a matrix product, then torch's selection of the smallest k;
- ours: blocks of rows against later rows only, and a partition of whole numbers that hold distance and place.

One core, one run, the best of several repetitions. The bytes of the distances bound all three from below.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from multiplet.objectives.neighbours import next_neighbours
from multiplet.representation.orders import sort
from multiplet.representation.tpc import RASTER

K = 30


def milliseconds(function: Callable[[], object], least: float = 1.0) -> float:
    """The best time of repetitions over `least` seconds, three at least."""
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begun < least:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def points_of(events: int, points: int) -> dict[str, Tensor]:
    """Points spread over the chamber; radii on its 48 rows."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.cat([torch.arange(16) * pitch + first for first, pitch in ((31.4, 0.57), (41.7, 1.02), (58.9, 1.1))])
    return {
        "r": rows[torch.randint(0, 48, (events, points), generator=generator)],
        "phi": (torch.rand(events, points, generator=generator) * 2 - 1) * math.pi,
        "eta": torch.randn(events, points, generator=generator).clamp(-2, 2),
    }


def raster(events: int = 16, points: int = 3200) -> None:
    """Time per event of boxes, of the whole order, and of the boxes by a search over all centres."""
    quantities = points_of(events, points)
    mask = torch.ones(events, points, dtype=torch.bool)
    net = RASTER.build()
    net.fit(quantities, mask)
    centres = torch.rand(384, 3)
    stacked = torch.stack([quantities[name] for name in ("r", "phi", "eta")], dim=-1)

    def search() -> Tensor:
        return torch.stack([(event[:, None] - centres).square().sum(-1).argmin(-1) for event in stacked])

    times = {
        "boxes by index arithmetic": milliseconds(lambda: net.boxes(quantities)),
        "boxes and order": milliseconds(lambda: sort(net.keys(quantities), mask)),
        "boxes by the nearest of 384 centres": milliseconds(search),
    }
    print(
        f"raster scan, {points:,} points an event, batches of {events}\n\n| way | ms an event | ratio |\n|---|---|---|"
    )
    for way, value in times.items():
        print(f"| {way} | {value / events:.3f} | {value / times['boxes by index arithmetic']:.1f} |")


def published(points: Tensor) -> Tensor:
    """Indices (N, k) by broadcasting and sorting; points in rising order."""
    distance = (points[:, None] - points).square().sum(-1)
    return distance.masked_fill(later(points), torch.inf).sort(1).indices[:, :K]


def vectorised(points: Tensor) -> Tensor:
    """Indices (N, k) by a matrix product and a selection."""
    distance = torch.cdist(points, points, compute_mode="use_mm_for_euclid_dist")
    return distance.masked_fill_(later(points), torch.inf).topk(K, largest=False).indices


def later(points: Tensor) -> Tensor:
    return torch.ones(len(points), len(points), dtype=torch.bool).tril()


def neighbours() -> None:
    """Time per event of the three ways."""
    print("\n| points | published (ms) | vectorised (ms) | ours (ms) | published / ours | vectorised / ours | GB/s |")
    print("|---|---|---|---|---|---|---|")
    for count in (856, 1900, 3200):
        points = torch.rand(count, 3, generator=torch.Generator().manual_seed(1))
        points = points[points[:, 2].argsort()]
        size = torch.tensor([count])
        found, valid = next_neighbours(points[None], size, K)
        assert torch.equal(found[0][valid[0]], published(points)[valid[0]])
        slow = milliseconds(lambda p=points: published(p))
        plain = milliseconds(lambda p=points: vectorised(p))
        ours = milliseconds(lambda p=points, n=size: next_neighbours(p[None], n, K))
        moved = count**2 / 2 * (4 + 8) / ours / 1e6  # distances written once, keys once
        times = f"{slow:.1f} | {plain:.1f} | {ours:.1f}"
        print(f"| {count:,} | {times} | {slow / ours:.1f} | {plain / ours:.1f} | {moved:.1f} |")


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    with torch.no_grad():
        raster()
        neighbours()


if __name__ == "__main__":
    main()
