"""Reading padded batches: event files in order and shuffled, beside three other ways, on the same jets in one run.

- rows by pyarrow: the same event files, each list turned into an array and padded: what one writes first;
- uproot + pad: a JetClass-layout ROOT file by `uproot.iterate`, padded by awkward: the usual recipe;
- weaver: weaver-core's `SimpleIterDataset` in torch's DataLoader on that file, left out where it is not installed.

All give the 16 constituent columns of a jet in batches of 256, on one core. The ROOT ways pad to 128, ours to the
longest of the batch.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from multiplet.data.arrow import read_events
from multiplet.data.batches import Batches, Plan
from multiplet.data.events import Events
from multiplet.data.formats.jetclass import write_root
from multiplet.data.formats.jetclass_layout import BRANCH, LABEL_TYPES, PART

SIZE, WIDTH = 256, 128
BRANCHES = [BRANCH[name] for name in PART]

Read = Callable[[int], int]  # reads the batch of this number, gives its events


def rate(read: Read, batches: int | None = None, least_seconds: float = 3.0) -> float:
    """Events per second of reading so many batches, or as many as fit in the time."""
    begun, events, batch = time.perf_counter(), 0, 0
    while batch < batches if batches else time.perf_counter() - begun < least_seconds:
        events += read(batch)
        batch += 1
    return events / (time.perf_counter() - begun)


def rows(file: Path) -> Read:
    """Batches by pyarrow's own row conversion and a padding loop."""
    table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()

    def read(batch: int) -> int:
        start = batch * SIZE % max(table.num_rows - SIZE, 1)
        events = table.slice(start, SIZE).column("points").to_pylist()
        padded = {name: np.zeros((len(events), WIDTH), np.float32) for name in PART}
        for place, points in enumerate(events):
            for name in PART:
                padded[name][place, : len(points)] = [point[name] for point in points][:WIDTH]
        return len(events)

    return read


def endless(batches: Callable[[], Iterator[int]]) -> Read:
    """Batches of a stream that starts anew at its end."""
    stream = batches()

    def read(_: int) -> int:
        nonlocal stream
        try:
            return next(stream)
        except StopIteration:
            stream = batches()
            return next(stream)

    return read


def padded_by_uproot(file: Path) -> Read:
    """Batches by uproot in steps of a batch, each branch padded and filled."""
    import awkward as ak
    import uproot

    def batches() -> Iterator[int]:
        for arrays in uproot.iterate({str(file): "tree"}, BRANCHES, step_size=SIZE):
            padded = [
                ak.to_numpy(ak.fill_none(ak.pad_none(arrays[branch], WIDTH, clip=True), 0)).astype(np.float32)
                for branch in BRANCHES
            ]
            yield len(np.stack(padded, axis=1))

    return endless(batches)


def weaver(file: Path, jets: int, shuffled: bool) -> Read | None:
    """Batches of weaver-core's loader, in this process; None where it is not installed."""
    try:
        from weaver.utils.dataset import SimpleIterDataset
    except ImportError:
        return None
    from torch.utils.data import DataLoader

    logging.disable(logging.WARNING)
    config = file.with_name("weaver.yaml")
    inputs = "\n".join(f"      - [{branch}, null]" for branch in BRANCHES)
    labels = ", ".join(f"label_{name}" for name in LABEL_TYPES)
    config.write_text(
        f"treename: tree\ninputs:\n  pf_features:\n    length: {WIDTH}\n    vars:\n{inputs}\n"
        f"labels:\n  type: simple\n  value: [{labels}]\npreprocess:\n  method: manual\n"
    )

    def batches() -> Iterator[int]:
        data = SimpleIterDataset(
            {"all": [str(file)]}, str(config), for_training=shuffled, async_load=False, fetch_step=min(1, 10_000 / jets)
        )
        for inputs, _, _ in DataLoader(data, batch_size=SIZE, num_workers=0):
            yield len(inputs["pf_features"])

    return endless(batches)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="a folder of simulated jets")
    given = parser.parse_args()
    dataset = Events(given.data).open()
    events = dataset.size("train")
    plan = Plan(dataset.lengths("train"), Batches(SIZE), 0)
    order = plan.epoch(0)

    def in_order(batch: int) -> int:
        start = batch * SIZE % max(events - SIZE, 1)
        return len(dataset.read("train", np.arange(start, min(start + SIZE, events))))

    def shuffled(batch: int) -> int:
        return len(dataset.read("train", order[batch % len(order)]))

    files = sorted((Path(given.data) / "train").glob("*.arrow"))
    rates = {"event files in order, every byte checked": rate(in_order, events // SIZE)}  # checked when first touched
    rates |= {"event files in order": rate(in_order), "event files shuffled, by length": rate(shuffled)}
    rates["the same file by rows, padded one by one"] = rate(rows(files[0]))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "jets.root"
        jets = write_root(root, (read_events(file) for file in files))
        rates["ROOT by uproot, padded by awkward"] = rate(padded_by_uproot(root))
        for name, mixed in (("ROOT by weaver-core, in order", False), ("ROOT by weaver-core, shuffled", True)):
            if read := weaver(root, jets, mixed):
                rates[name] = rate(read, least_seconds=6.0)
    point = sum(np.dtype(c.dtype).itemsize for c in dataset.schema if c.level == "point")
    each = point * float(dataset.lengths("train").mean())
    print(f"{jets:,} jets, {each / 1e3:.1f} kB each, batches of {SIZE}, {len(PART)} constituent columns, one core\n")
    print("| way | jets/s | MB/s | ratio to uproot + pad |\n|---|---|---|---|")
    for way, value in rates.items():
        ratio = value / rates["ROOT by uproot, padded by awkward"]
        print(f"| {way} | {value:,.0f} | {value * each / 1e6:,.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
