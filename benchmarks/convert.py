"""Converting JetClass-layout ROOT files to event files, beside padded arrays in npz, on one core in one run.

The usual way reads with `uproot.iterate`, pads each branch of constituents to 128 with awkward and keeps (N, 128)
arrays: here one npz file for each 10,000 jets. Ours checks every value, sorts, splits and writes checksums as well.
Each way runs several times, in turn, and the best time is quoted; the ROOT file is in the page cache.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import awkward
import numpy as np
import uproot

from multiplet.data.arrow import EventFile
from multiplet.data.columns import Columns
from multiplet.data.convert import convert
from multiplet.data.formats import find
from multiplet.data.formats.jetclass import write_root
from multiplet.data.formats.jetclass_layout import BRANCH, LABEL_TYPES, PART

STEP, WIDTH = 10_000, 128


def jets(folder: Path) -> Iterator[Columns]:
    """All events of a folder of simulated jets."""
    for path in sorted(folder.glob("*/*.arrow")):
        file = EventFile(path)
        yield from (file.columns(batch) for batch in range(file.batches))


def events(source: Path, out: Path) -> None:
    """Our way."""
    convert(find("jetclass"), [source], out)


def npz(source: Path, out: Path) -> None:
    """The usual way, not compressed."""
    out.mkdir()
    points = [BRANCH[name] for name in PART]
    branches = [*BRANCH.values(), *(f"label_{name}" for name in LABEL_TYPES)]
    for number, chunk in enumerate(uproot.iterate(f"{source}:tree", branches, step_size=STEP)):
        padded = {
            name: awkward.to_numpy(awkward.fill_none(awkward.pad_none(chunk[name], WIDTH, clip=True), 0))
            if name in points
            else awkward.to_numpy(chunk[name])
            for name in branches
        }
        np.savez(out / f"{number:05d}.npz", **padded)


def seconds(way: Callable[[Path, Path], None], source: Path, out: Path) -> float:
    """How long one conversion takes, into an empty folder."""
    shutil.rmtree(out, ignore_errors=True)
    begun = time.perf_counter()
    way(source, out)
    return time.perf_counter() - begun


def megabytes(path: Path) -> float:
    """The size of a file or of all files of a folder."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="a folder of simulated jets (multiplet simulate jets)")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, ways = Path(folder) / "jets.root", {"event files": events, "npz": npz}
        number = write_root(source, jets(given.data))
        print(f"{number} jets, {megabytes(source):.0f} MB of ROOT")
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(given.repeats):
            for name, way in ways.items():
                times[name].append(seconds(way, source, Path(folder) / name))
        for name, taken in times.items():
            size = megabytes(Path(folder) / name)
            print(f"{name:12s} {number / min(taken):8.0f} jets/s  {size:7.0f} MB")
        print(f"event files / npz: {min(times['npz']) / min(times['event files']):.2f} times as fast")


if __name__ == "__main__":
    main()
