"""Simulated jets as ROOT files in JetClass's layout: HToBB_000.root, HToBB_001.root …, one class a file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from multiplet.data.arrow import read_events
from multiplet.data.columns import Columns, concatenate
from multiplet.data.formats.jetclass import read_about, write_root
from multiplet.data.formats.jetclass_layout import PREFIXES
from multiplet.errors import CorruptError, DataError
from multiplet.simulation.blocks import BLOCK_EVENTS, Block, Generator, check, make_blocks, plan_blocks

FILE_JETS = 100_000  # as in the published files
_TOGETHER = 100  # blocks written at once: as many events as a reader takes at a time


@dataclass(frozen=True)
class _RootFile:
    path: Path
    blocks: tuple[Block, ...]

    def jets(self) -> int:
        return sum(block.events for block in self.blocks)

    def columns(self) -> Iterator[Columns]:
        for start in range(0, len(self.blocks), _TOGETHER):
            yield concatenate([read_events(block.path) for block in self.blocks[start : start + _TOGETHER]])


def simulate_root(
    generator: Generator,
    out: Path,
    events: int,
    seed: int,
    workers: int = 1,
    file_jets: int = FILE_JETS,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Write the jets that `simulate` makes with these arguments, class by class, to out/HToBB_000.root …: no splits.

    The generator is `Jets`, or one with its columns and its classes as streams. The same arguments give the same jets
    for any number of workers and after any interruption: a finished block stays in out/.parts until all is done. Gives
    False where the files were there already. progress is called with (jets done, jets asked for). Raises DataError
    where the arguments are impossible, or where out holds ROOT files made with other settings; MissingExtraError
    without the extras `simulate` and `root`.
    """
    out = Path(out)
    check(generator, events, workers, file_jets, (1.0, 0.0, 0.0))
    if file_jets % BLOCK_EVENTS:
        raise DataError(f"file_jets is {file_jets}: a multiple of {BLOCK_EVENTS} is needed")
    about = {**generator.provenance(), "seed": str(seed), "events": str(events), "file_jets": str(file_jets)}
    files = list(_files(plan_blocks(generator.streams, out / ".parts", events), generator.streams, out, file_jets))
    if strange := sorted({*out.glob("*.root")} - {file.path for file in files}):
        raise DataError(f"{strange[0]} is not of this simulation: give another folder, or remove it")
    files = [file for file in files if not _done(file, about)]
    if files:
        make_blocks(generator, [block for file in files for block in file.blocks], about, seed, workers, progress)
        for file in files:
            write_root(file.path, file.columns(), about=json.dumps(about))
    shutil.rmtree(out / ".parts", ignore_errors=True)
    return bool(files)


def _files(blocks: Sequence[Block], streams: Sequence[str], out: Path, file_jets: int) -> Iterator[_RootFile]:
    each = file_jets // BLOCK_EVENTS
    for stream in streams:
        own = [block for block in blocks if block.stream == stream]
        for number, start in enumerate(range(0, len(own), each)):
            yield _RootFile(out / f"{PREFIXES[stream]}_{number:03d}.root", tuple(own[start : start + each]))


def _done(file: _RootFile, about: dict[str, str]) -> bool:
    """Whether a file is there, whole and of these settings; DataError where it is of others."""
    if not file.path.is_file():
        return False
    try:
        jets, text = read_about(file.path)
    except CorruptError:
        return False
    if text == json.dumps(about) and jets == file.jets():
        return True
    try:
        was = json.loads(text or "{}")
    except ValueError:
        was = {}
    differ = ", ".join(
        f"{key} {was.get(key)!r} (now {value!r})" for key, value in about.items() if was.get(key) != value
    )
    raise DataError(f"{file.path} is not of this simulation: {differ}; give another folder, or remove this one")
