"""A pretraining step with length buckets, without, and padded to 128: events/s and peak memory, as ratios.

Each way runs in a process of its own, in turn, several times; the median is quoted. The same events, the same model.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time

import numpy as np
import torch
from torch import Tensor

from multiplet.cloud import Cloud
from multiplet.data.batches import Batches, Plan
from multiplet.draws import Draws
from multiplet.recipes import maskdiff

WAYS = ("buckets", "longest in batch", "padded to 128")


def widen(value: Tensor) -> Tensor:
    """(B, N) padded on the right to (B, 128)."""
    return torch.nn.functional.pad(value, (0, max(128 - value.shape[1], 0))) if value.dim() == 2 else value


def measure(data: str, way: str, width: int, steps: int) -> tuple[float, float, float]:
    """Events/s, peak memory above the start (MB), and the share of slots that are padding."""
    recipe = maskdiff(data, width=width, features="all")
    dataset = recipe.data.open()
    model = recipe.build(dataset.schema)
    model.represent.fit(dataset.read("train", np.arange(1000)))
    plan = Plan(dataset.lengths("train")[: 256 * steps], Batches(256, by_length=way == "buckets"), 0)  # one epoch
    optimiser = recipe.optim.build(model, recipe.encoder.param, steps)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    padding, events, begun = [], 0, time.perf_counter()
    for number, work in enumerate([*plan.work(0, 2), *plan.work(0, steps)]):
        if number == 2:  # two batches to get warm, then every event once
            events, padding, begun = 0, [], time.perf_counter()
        cloud: Cloud = dataset.read("train", work.parts[0])
        cloud = cloud.map(widen) if way == WAYS[2] else cloud
        losses = model(model.tokens(cloud), Draws(0, work.step))
        optimiser.zero_grad()
        torch.stack([value.mean() for value in losses.values()]).sum().backward()
        optimiser.step(work.step)
        events += work.events
        padding.append(1 - cloud.mask.float().mean().item())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return events / (time.perf_counter() - begun), peak / 1024, statistics.mean(padding)


def apart(data: str, way: str, width: int, steps: int) -> tuple[float, float, float]:
    """`measure` in a fresh process, so that peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (data, way, width, steps))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    results = {way: [] for way in WAYS}
    for _ in range(given.rounds):
        for way in WAYS:
            results[way].append(apart(given.data, way, given.width, given.steps))
    medians = {way: np.median(np.array(rows), axis=0) for way, rows in results.items()}
    reference = medians[WAYS[2]]
    print(f"width {given.width}, {torch.get_num_threads()} threads, batches of 256, median of {given.rounds}")
    print("| way | events/s | ratio | peak memory (MB) | ratio | padding |\n|---|---|---|---|---|---|")
    for way, (rate, memory, padding) in medians.items():
        ratios = rate / reference[0], memory / reference[1]
        print(f"| {way} | {rate:,.0f} | {ratios[0]:.2f} | {memory:,.0f} | {ratios[1]:.2f} | {padding:.0%} |")


if __name__ == "__main__":
    main()
