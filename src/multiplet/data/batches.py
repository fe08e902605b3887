"""The order of events: which event is in which batch, as a function of (seed, epoch, step) alone.

Workers, ranks and the step a run was resumed at have no say in it. The global batch is fixed first; ranks take
slices of it, and each slice is cut into parts that fit into memory.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from multiplet.cloud import Cloud
from multiplet.data.events import Dataset, Split
from multiplet.errors import DataError, RecipeError

_CHUNK = 4096  # events read together in file order, so that a shuffled epoch touches few places of the disk at a time
_WINDOW = 1 << 18  # events shuffled together: any data set below this size is shuffled as a whole
_BUCKET = 64  # batches among which events are sorted by length


@dataclass(frozen=True)
class Batches:
    """How events are put into batches: `size` events an update over all ranks, cut into parts that fit in memory."""

    size: int = 256
    events_at_once: int | None = None  # at most this many events in one forward pass of one rank
    points_at_once: int | None = None  # at most this many padded points in it (one event at least)
    by_length: bool = True  # events of similar length share a batch, which saves padding

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in ("size", "events_at_once", "points_at_once")}
        if small := [f"{name} is {value}" for name, value in values.items() if value is not None and value < 1]:
            raise RecipeError(f"Batches: {', '.join(small)}; at least 1 is needed")


@dataclass(frozen=True)
class Work:
    """What one rank does for one update: the places of its events, cut into parts."""

    step: int
    epoch: int
    events: int  # in the global batch
    parts: tuple[np.ndarray, ...]


class Plan:
    """All batches of a training: `lengths` (events,) are the points of each event."""

    def __init__(self, lengths: np.ndarray, batches: Batches, seed: int) -> None:
        if not len(lengths):
            raise RecipeError("there is no event to train on: the training split is empty")
        self.lengths, self.batches, self.seed = lengths, batches, seed
        self.steps_per_epoch = -(-len(lengths) // batches.size)
        self._epoch: tuple[int, list[np.ndarray]] = (-1, [])

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """The global batches of one epoch: every event exactly once."""
        if self._epoch[0] != epoch:
            generator = np.random.default_rng([self.seed % 2**64, epoch])  # a seed may be negative
            self._epoch = (epoch, self._cut(self._shuffled(generator), generator))
        return self._epoch[1]

    def _shuffled(self, generator: np.random.Generator) -> np.ndarray:
        events = len(self.lengths)
        chunks = generator.permutation(-(-events // _CHUNK))
        order = np.concatenate([np.arange(c * _CHUNK, min((c + 1) * _CHUNK, events)) for c in chunks])
        for start in range(0, events, _WINDOW):
            generator.shuffle(order[start : start + _WINDOW])
        return order

    def _cut(self, order: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
        size = self.batches.size
        if self.batches.by_length:
            whole = len(order) - len(order) % size  # the short last batch stays a random one
            for start in range(0, whole, _BUCKET * size):
                bucket = order[start : min(start + _BUCKET * size, whole)]
                bucket[:] = bucket[np.argsort(self.lengths[bucket], kind="stable")]
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        return [batches[place] for place in generator.permutation(len(batches))]

    def work(self, first: int, last: int, rank: int = 0, ranks: int = 1) -> Iterator[Work]:
        """The work of one rank for the updates first … last - 1."""
        for step in range(first, last):
            epoch, place = divmod(step, self.steps_per_epoch)
            batch = self.epoch(epoch)[place]
            yield Work(step, epoch, len(batch), tuple(cut_parts(batch[rank::ranks], self.lengths, self.batches)))


def cut_parts(events: np.ndarray, lengths: np.ndarray, batches: Batches) -> Iterator[np.ndarray]:
    """Cut one rank's events into parts within the limits of `batches`; at least one part, which may be empty."""
    most_events = batches.events_at_once or max(len(events), 1)
    most_points = batches.points_at_once
    if most_points is not None:
        events = events[np.argsort(lengths[events], kind="stable")]
    start = 0
    for place in range(1, len(events)):
        too_wide = most_points is not None and (place - start + 1) * lengths[events[place]] > most_points
        if place - start >= most_events or too_wide:
            yield events[start:place]
            start = place
    yield events[start:]


def sequential(dataset: Dataset, split: Split, batches: Batches, limit: int | None = None) -> Iterator[Work]:
    """The first `limit` events of a split (all where None) once, in file order: for evaluation."""
    lengths = dataset.lengths(split)[:limit]
    for step, start in enumerate(range(0, len(lengths), batches.size)):
        places = np.arange(start, min(start + batches.size, len(lengths)))
        yield Work(step, 0, len(places), tuple(cut_parts(places, lengths, batches)))


class _Reader(TorchDataset):
    """Reads what it is told to: all a worker process ever does."""

    def __init__(self, dataset: Dataset, split: Split) -> None:
        self.dataset, self.split = dataset, split

    def __getitem__(self, work: Work) -> tuple[Work, list[Cloud]]:
        clouds = [self.dataset.read(self.split, part) for part in work.parts]
        for cloud in clouds:
            self._check_labels(cloud)
        return work, clouds

    def _check_labels(self, cloud: Cloud) -> None:
        """A label that no class has would be an index out of range later, on a GPU a crash without a word."""
        for column in self.dataset.schema:
            held = (cloud.truth | cloud.event | cloud.points).get(column.name) if column.classes else None
            if held is None:
                continue
            value = held.cpu().numpy()
            wrong = ~(value < len(column.classes))  # so that NaN is wrong, and below 0 is unlabelled
            wrong &= cloud.mask.cpu().numpy() if value.ndim == 2 else True
            for place in np.argwhere(wrong)[:1]:
                raise DataError(
                    f"{self.dataset.locate(self.split, int(cloud.index[place[0]]))}: {column.name} is "
                    f"{value[tuple(place)]}, and its classes are 0 to {len(column.classes) - 1} "
                    f"({', '.join(column.classes)}): correct the file; events without a label have -1"
                )


def load(
    dataset: Dataset, split: Split, work: Iterable[Work], workers: int = 0, pinned: bool = False
) -> Iterator[tuple[Work, list[Cloud]]]:
    """Read the events of each piece of work, in order, ahead of time in `workers` processes (0: as asked for)."""
    loader = DataLoader(
        _Reader(dataset, split),
        batch_size=None,
        sampler=work,  # any iterable serves; each item is a whole batch's places
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pinned,
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=_leave_signals,
        generator=torch.Generator(),  # else it would draw from torch's global one
    )
    return _with_helpers(loader) if workers else iter(loader)


def _with_helpers(loader: DataLoader) -> Iterator[tuple[Work, list[Cloud]]]:
    """What `loader` yields; its processes end with this generator, or with the main process at the latest.

    Left alone, torch ends them when its iterator is collected, which the traceback of an error can put off until the
    main process exits; and that then sends SIGTERM, which they ignore, and waits for them for ever.
    """
    others = set(multiprocessing.active_children())
    pieces: Any = iter(loader)
    _running[pieces] = [process for process in multiprocessing.active_children() if process not in others]
    try:
        yield from pieces
    finally:
        _end(pieces)


_running: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()


def _end(pieces: Any) -> None:
    processes = _running.pop(pieces, [])
    pieces._shutdown_workers()  # asks them to stop, and tells torch to expect it
    for process in processes:
        process.kill()


@atexit.register  # after torch's own and multiprocessing's, and so run before them
def _end_all() -> None:
    for pieces in list(_running):
        _end(pieces)


def _leave_signals(worker: int) -> None:
    """Batch systems signal whole process groups: the loop decides when to end, and workers end with it."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _as_it_is(item: Any) -> Any:
    return item
