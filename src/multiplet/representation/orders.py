"""Orders: how the points of an event are put in a row.

An order gives keys, the most significant first; points are sorted by them, ascending, and ties keep their measured
order. What an order learns from data (the edges of a raster scan) are buffers, saved with the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from multiplet.errors import RecipeError
from multiplet.representation.curves import Hilbert, ZOrder
from multiplet.representation.raster import RasterScan


@dataclass(frozen=True)
class AsMeasured:
    """The order of the file."""

    def build(self) -> Sorted:
        """Nothing is moved."""
        return Sorted((), 1)


@dataclass(frozen=True)
class Descending:
    """Largest first, as constituents in transverse momentum; `ties` are decided by these, smallest first."""

    by: str = "pt"
    ties: tuple[str, ...] = ()

    def build(self) -> Sorted:
        """The order, running."""
        return Sorted((self.by, *self.ties), -1)


@dataclass(frozen=True)
class Ascending:
    """Smallest first, as pulses in time; `ties` are decided by these, smallest first."""

    by: str = "time"
    ties: tuple[str, ...] = ()

    def build(self) -> Sorted:
        """The order, running."""
        return Sorted((self.by, *self.ties), 1)


class Sorted(nn.Module):
    """By named quantities, the first of them with a sign; nothing is fitted."""

    def __init__(self, by: tuple[str, ...], sign: int) -> None:
        super().__init__()
        self.by, self.sign = by, sign

    def fit(self, quantities: dict[str, Tensor], mask: Tensor) -> None:
        """Nothing to learn."""

    def keys(self, quantities: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """(B, N) each, most significant first."""
        if missing := [name for name in self.by if name not in quantities]:
            raise RecipeError(f"the order asks for {missing}; there are {sorted(quantities)}")
        first, *ties = (quantities[name] for name in self.by) if self.by else (None,)
        return () if first is None else (first * self.sign, *ties)


Order = AsMeasured | Descending | Ascending | RasterScan | ZOrder | Hilbert


def sort(keys: tuple[Tensor, ...], mask: Tensor) -> Tensor:
    """The places (B, N) that put real points in the order of the keys, padding last."""
    places = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
    for level, key in enumerate(reversed(keys), 1):
        if level == len(keys):
            last = torch.inf if key.is_floating_point() else torch.iinfo(key.dtype).max
            key = key.masked_fill(~mask, last)
        key = key if level == 1 else key.gather(1, places)
        step = key.argsort(dim=1, stable=True)
        places = step if level == 1 else places.gather(1, step)
    return places
