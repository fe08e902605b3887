"""Simulation in seeded blocks: event files that do not depend on workers, restarts or the order of finishing.

Events come from *streams* (the classes of a sample). A stream is cut into blocks of fixed size, each a function of
(seed, stream, number) alone. Event k of the whole sample is event k // S of stream k mod S, S streams, so that every
file and every prefix of a split is balanced; the first events of the sample are training, then validation, then test.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import accumulate
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Protocol, runtime_checkable

import numpy as np

from multiplet.data.arrow import EventFile, read_events, write_events
from multiplet.data.columns import Column, Columns, concatenate
from multiplet.errors import CorruptError, DataError

SPLITS = ("train", "validation", "test")
BLOCK_EVENTS = 100
EVENT_ID = Column(
    "event_id", level="event", dtype="int64", about="identity of the event in its sample: not an input, never a feature"
)


@runtime_checkable
class Generator(Protocol):
    """What makes events; picklable, and cheap to pickle: heavy tools are kept by each worker process."""

    @property
    def schema(self) -> tuple[Column, ...]:
        """The columns of a block."""

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the kinds of event, in the order in which they are interleaved."""

    def provenance(self) -> dict[str, str]:
        """All that decides the events but the seed: settings, versions; no time, host or path."""

    def block(self, stream: str, number: int, seed: int, events: int) -> Columns:
        """Exactly so many events; a function of its arguments alone."""


@dataclass(frozen=True)
class Block:  # some events of one stream, and the part file that keeps them
    stream: str
    number: int
    events: int
    path: Path


@dataclass(frozen=True)
class _Shard:
    path: Path
    start: int  # of the sample's events
    stop: int


def block_seed(seed: int, stream: str, number: int, purpose: str = "") -> int:
    """64 bits for one block of one stream; another purpose gives independent bits."""
    text = json.dumps([seed, stream, number, purpose]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def simulate(
    generator: Generator,
    out: Path,
    events: int,
    seed: int,
    workers: int = 1,
    shard_events: int = 10_000,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Write `events` accepted events of all streams together to out/{train,validation,test}/00000.arrow ….

    The same generator, events and seed give the same bytes for any number of workers and after any interruption: a
    finished block stays in out/.parts until all is done. Gives False where the files were there already. progress is
    called with (events done, events asked for). Raises DataError where the arguments are impossible, or where out holds
    events made with other settings. Workers are spawned: a script that asks for several needs its
    `if __name__ == "__main__":`.
    """
    out = Path(out)
    check(generator, events, workers, shard_events, fractions)
    about = {
        **generator.provenance(),
        "seed": str(seed),
        "events": str(events),
        "block_events": str(BLOCK_EVENTS),
        "shard_events": str(shard_events),
        "fractions": json.dumps(list(fractions)),
    }
    shards = list(_shards(out, events, shard_events, fractions))
    for path in sorted({path for split in SPLITS for path in (out / split).glob("*.arrow")} - {s.path for s in shards}):
        _done(path, about)  # nothing of these settings would be here: it refuses
    shards = [shard for shard in shards if not _done(shard.path, about)]
    if not shards:
        shutil.rmtree(out / ".parts", ignore_errors=True)
        return False
    blocks = plan_blocks(generator.streams, out / ".parts", events)
    make_blocks(generator, blocks, about, seed, workers, progress)
    for shard in shards:
        write_events(shard.path, _assemble(generator.streams, blocks, shard), about)
    shutil.rmtree(out / ".parts")
    return True


def check(generator: Generator, events: int, workers: int, shard_events: int, fractions: Sequence[float]) -> None:
    """DataError, listing every fault, where these events cannot be asked for."""
    faults = []
    if events < 1:
        faults.append(f"events is {events}: ask for at least 1")
    for name, value in (("workers", workers), ("shard_events", shard_events)):
        if value < 1:
            faults.append(f"{name} is {value}: at least 1 is needed")
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        faults.append(f"fractions are {fractions}: give train, validation, test, none negative, with sum 1")
    if not generator.streams:
        faults.append("the generator has no streams")
    if faults:
        raise DataError("cannot simulate: " + "; ".join(faults))


def _shards(out: Path, events: int, shard_events: int, fractions: Sequence[float]) -> Iterator[_Shard]:
    """The files to write; a split that gets no event gets no file."""
    edges = [0, *(round(events * total) for total in accumulate(fractions))]
    for split, first, last in zip(SPLITS, edges, edges[1:], strict=False):
        for number, start in enumerate(range(first, last, shard_events)):
            yield _Shard(out / split / f"{number:05d}.arrow", start, min(start + shard_events, last))


def plan_blocks(streams: tuple[str, ...], parts: Path, events: int) -> list[Block]:
    """All blocks, in the order in which the sample needs them."""
    sizes = [len(range(place, events, len(streams))) for place in range(len(streams))]
    return [
        Block(stream, number, min(BLOCK_EVENTS, size - number * BLOCK_EVENTS), parts / f"{stream}-{number:06d}.arrow")
        for number in range(-(-max(sizes) // BLOCK_EVENTS))
        for stream, size in zip(streams, sizes, strict=True)
        if number * BLOCK_EVENTS < size
    ]


def _done(path: Path, about: dict[str, str]) -> bool:
    """Whether a file is there, whole and of these settings; DataError where it is of others."""
    if not path.is_file():
        return False
    try:
        file = EventFile(path)
        if file.provenance == about:
            read_events(path)
            return True
    except CorruptError:
        return False
    except DataError as error:
        if not path.with_name(path.name + ".sums").is_file():
            return False
        raise DataError(f"{path} is not of this simulation: {error}") from error
    differ = sorted(key for key in {*file.provenance, *about} if file.provenance.get(key) != about.get(key))
    was = ", ".join(f"{key} {file.provenance.get(key)!r} (now {about.get(key)!r})" for key in differ)
    raise DataError(f"{path} was made with other settings: {was}; give another folder, or remove this one")


def make_blocks(
    generator: Generator,
    blocks: Sequence[Block],
    about: dict[str, str],
    seed: int,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Make every block that is not in its part file yet."""
    missing = [block for block in blocks if not _done(block.path, _part_about(about, block))]
    total = sum(block.events for block in blocks)
    done = total - sum(block.events for block in missing)
    tell = progress or (lambda done, of: None)
    tell(done, total)
    for block in _finished(generator, missing, about, seed, min(workers, len(missing))):
        done += block.events
        tell(done, total)


def _finished(
    generator: Generator, blocks: Sequence[Block], about: dict[str, str], seed: int, workers: int
) -> Iterator[Block]:
    """Blocks as they get done, in any order."""
    if workers <= 1:
        for block in blocks:
            yield _make(generator, block, about, seed)
        return
    waiting: set[Future[Block]] = set()
    # Spawned, not forked: a fork would copy threads of other libraries in an unknown state.
    with ProcessPoolExecutor(workers, get_context("spawn"), _end_with_parent) as pool:
        for block in blocks:
            if len(waiting) > workers:  # no more than one in hand beyond those at work: an error ends all soon
                ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in ready)
            waiting.add(pool.submit(_make, generator, block, about, seed))
        yield from (future.result() for future in waiting)


def _end_with_parent() -> None:
    """In a worker: stop when the main process is gone, however it was killed; the pool alone would wait for ever."""
    parent = parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=follow, daemon=True).start()


def _make(generator: Generator, block: Block, about: dict[str, str], seed: int) -> Block:
    """Make one block and keep it in its part file."""
    columns = generator.block(block.stream, block.number, seed, block.events)
    if len(columns) != block.events or columns.schema != generator.schema:
        raise DataError(f"block {block.number} of {block.stream}: not {block.events} events, or not of its schema")
    write_events(block.path, columns, _part_about(about, block))
    return block


def _part_about(about: dict[str, str], block: Block) -> dict[str, str]:
    return {**about, "part": f"{block.stream} {block.number}"}


def _assemble(streams: tuple[str, ...], blocks: Sequence[Block], shard: _Shard) -> Columns:
    """The events of one file, read from the part files they lie in."""
    numbers = np.arange(shard.start, shard.stop, dtype=np.int64)
    stream, place = numbers % len(streams), numbers // len(streams)
    where = {(block.stream, block.number): block for block in blocks}
    needed = sorted({(int(s), int(n)) for s, n in zip(stream, place // BLOCK_EVENTS, strict=True)})
    starts, parts, size = {}, [], 0
    for key in needed:
        part = read_events(where[streams[key[0]], key[1]].path)
        starts[key], size = size, size + len(part)
        parts.append(part)
    first = np.array([starts[int(s), int(n)] for s, n in zip(stream, place // BLOCK_EVENTS, strict=True)], np.int64)
    chosen = concatenate(parts).take(first + place % BLOCK_EVENTS)
    return Columns((*chosen.schema, EVENT_ID), chosen.offsets, {**chosen.values, EVENT_ID.name: numbers})
