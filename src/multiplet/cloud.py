"""Cloud: a batch of events in physical units; here are the only mask and the only padding of measured data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from multiplet.errors import DataError


@dataclass(frozen=True, eq=False)
class Cloud:
    """A batch of events in physical units, padded on the right; what `mask` does not cover means nothing."""

    points: dict[str, Tensor]  # name → (B, N), measured for each point
    event: dict[str, Tensor]  # name → (B,), measured for the event
    truth: dict[str, Tensor]  # name → (B,) or (B, N), simulated or labelled; never an input
    mask: Bool[Tensor, "B N"]  # True where a point is real
    index: Int[Tensor, " B"]  # each event's place in its split: what randomness and predictions are keyed by

    def __len__(self) -> int:
        return len(self.index)

    def map(self, function: Callable[[Tensor], Tensor]) -> Cloud:
        """The cloud with every tensor passed through `function`."""
        return Cloud(
            {name: function(value) for name, value in self.points.items()},
            {name: function(value) for name, value in self.event.items()},
            {name: function(value) for name, value in self.truth.items()},
            function(self.mask),
            function(self.index),
        )

    def to(self, device: torch.device | str) -> Cloud:
        """The cloud on another device; a copy to a GPU overlaps with computation where the memory is pinned."""
        overlap = torch.device(device).type != "cpu"  # a copy to the CPU could be read before it is there
        return self.map(lambda tensor: tensor.to(device, non_blocking=overlap))

    def pin_memory(self) -> Cloud:
        """The cloud in page-locked memory, for copies to a GPU that overlap with computation."""
        return self.map(Tensor.pin_memory)

    def point(self, name: str) -> Tensor:
        """One measured point quantity (B, N); DataError naming what there is where it is missing."""
        if name not in self.points:
            raise DataError(f"these events have no point column {name!r}; they have {sorted(self.points)}")
        return self.points[name]

    def events(self, rows: slice | Tensor) -> Cloud:
        """Some of the events, cut to the longest of them."""
        part = self.map(lambda tensor: tensor[rows])
        longest = int(part.mask.sum(1).max()) if len(part) else 0
        return part.map(lambda tensor: tensor[:, :longest] if tensor.dim() == 2 else tensor)
