"""Reading padded batches: event files in order and shuffled, against the same files read as rows by pyarrow.

The plain way is what one writes first: take the rows, turn each list into an array, pad it. One core, one run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from multiplet.data.batches import Batches, Plan
from multiplet.data.events import Events

SIZE = 256


def rate(read: Callable[[int], int], batches: int | None = None, least_seconds: float = 3.0) -> float:
    """Events per second of reading so many batches, or as many as fit in the time."""
    begun, events, batch = time.perf_counter(), 0, 0
    while batch < batches if batches else time.perf_counter() - begun < least_seconds:
        events += read(batch)
        batch += 1
    return events / (time.perf_counter() - begun)


def plain(folder: Path, names: list[str]) -> Callable[[int], int]:
    """Batches by pyarrow's own row conversion and a padding loop, cut off at 128 points."""
    table = pa.ipc.open_file(pa.memory_map(str(sorted(folder.glob("*.arrow"))[0]))).read_all()

    def read(batch: int) -> int:
        start = batch * SIZE % max(table.num_rows - SIZE, 1)
        rows = table.slice(start, SIZE).column("points").to_pylist()
        padded = {name: np.zeros((len(rows), 128), np.float32) for name in names}
        for place, points in enumerate(rows):
            for name in names:
                padded[name][place, : len(points)] = [point[name] for point in points][:128]
        return len(rows)

    return read


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    given = parser.parse_args()
    dataset = Events(given.data).open()
    events = dataset.size("train")
    plan = Plan(dataset.lengths("train"), Batches(SIZE), 0)
    order = plan.epoch(0)
    names = [column.name for column in dataset.schema if column.level == "point"]

    def in_order(batch: int) -> int:
        start = batch * SIZE % max(events - SIZE, 1)
        return len(dataset.read("train", np.arange(start, min(start + SIZE, events))))

    def shuffled(batch: int) -> int:
        return len(dataset.read("train", order[batch % len(order)]))

    first = rate(in_order, events // SIZE)  # the first pass checks every byte
    rates = {"rows by pyarrow, padded one by one": rate(plain(Path(given.data) / "train", names))}
    rates |= {"in order, bytes checked": first, "in order": rate(in_order), "shuffled, by length": rate(shuffled)}
    base = next(iter(rates.values()))
    bytes_each = (
        sum(np.dtype(c.dtype).itemsize for c in dataset.schema if c.level == "point") * dataset.lengths("train").mean()
    )
    print(f"{events:,} events, {bytes_each / 1e3:.1f} kB each, batches of {SIZE}, {len(names)} point columns, one core")
    print("| way | events/s | MB/s | ratio |\n|---|---|---|---|")
    for way, value in rates.items():
        print(f"| {way} | {value:,.0f} | {value * bytes_each / 1e6:,.0f} | {value / base:.1f} |")


if __name__ == "__main__":
    main()
