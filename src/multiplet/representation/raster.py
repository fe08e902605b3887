"""Hierarchical raster scan: space is cut into boxes of equal population, and boxes are visited one after the other.

FM4NPP (arXiv 2508.14087) scans a time projection chamber in 6 × 8 × 8 boxes in radius, azimuth and pseudorapidity,
so that points that follow one another lie close together in all three.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from multiplet.errors import RecipeError


@dataclass(frozen=True)
class Axis:
    """`bins` intervals of a quantity of equal population; with `gaps`, each group between them gets as many."""

    by: str
    bins: int
    gaps: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.bins < 1 or self.bins % (len(self.gaps) + 1) or list(self.gaps) != sorted(self.gaps):
            raise RecipeError(
                f"Axis({self.by!r}).bins is {self.bins}; it must be a multiple of the {len(self.gaps) + 1} groups "
                "between the gaps, which must rise"
            )


@dataclass(frozen=True)
class RasterScan:
    """Boxes from the slowest axis to the fastest; inside a box by `within`, smallest first.

    Points of one box with equal `within` follow the order of `ties` (two quantities).
    """

    axes: tuple[Axis, ...] = (Axis("r", 6, (40.0, 57.0)), Axis("phi", 8), Axis("eta", 8))
    within: str = "r"
    ties: tuple[str, str] = ("phi", "eta")

    def build(self) -> RasterScanNet:
        """The order, not yet fitted."""
        return RasterScanNet(self)


class RasterScanNet(nn.Module):
    """RasterScan, running: the inner edges of each axis, (bins - 1,), are buffers."""

    def __init__(self, spec: RasterScan) -> None:
        super().__init__()
        self.spec = spec
        for place, axis in enumerate(spec.axes):
            self.register_buffer(f"edges_{place}", torch.zeros(axis.bins - 1))

    def fit(self, quantities: dict[str, Tensor], mask: Tensor) -> None:
        """Set the edges from real points; RecipeError where a group between two gaps holds none."""
        for place, axis in enumerate(self.spec.axes):
            values = _named(quantities, axis.by)[mask].double()
            self.get_buffer(f"edges_{place}").copy_(_edges(values, axis))

    def boxes(self, quantities: dict[str, Tensor]) -> Tensor:
        """The box of each point (B, N), 0 … product of bins - 1; an interval holds its upper edge."""
        box: Tensor | int = 0
        for place, axis in enumerate(self.spec.axes):
            edges = self.get_buffer(f"edges_{place}")
            value = _named(quantities, axis.by).to(edges.dtype).contiguous()
            box = box * axis.bins + torch.bucketize(value, edges)
        return torch.as_tensor(box)

    def keys(self, quantities: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """(B, N) int64 each: box and `within` in one number, and both ties in another."""
        high, low = (sortable(_named(quantities, name)) for name in self.spec.ties)
        first = (self.boxes(quantities) << 32) + sortable(_named(quantities, self.spec.within))
        return first, ((high - 2**31) << 32) + low


def _edges(values: Tensor, axis: Axis) -> Tensor:
    """Inner edges: quantiles inside each group, and midway between the nearest points on both sides of each gap."""
    bounds = [-torch.inf, *axis.gaps, torch.inf]
    groups = [values[(values > low) & (values <= high)] for low, high in pairwise(bounds)]
    if empty := [n for n, group in enumerate(groups) if not len(group)]:
        raise RecipeError(
            f"Axis({axis.by!r}).gaps {axis.gaps} leave group {empty[0]} of {len(groups)} without a point: are they in "
            "the units of the data?"
        )
    each = axis.bins // len(groups)
    edges: list[Tensor] = []
    for number, group in enumerate(groups):
        ordered = group.sort().values
        edges += [_quantile(ordered, step / each) for step in range(1, each)]
        if number + 1 < len(groups):
            edges.append((ordered[-1] + groups[number + 1].min()) / 2)
    return torch.stack(edges) if edges else values.new_zeros(0)


def _quantile(ordered: Tensor, share: float) -> Tensor:
    """Linear interpolation, as numpy's; torch.quantile refuses more than 16 million values."""
    place = share * (len(ordered) - 1)
    low = int(place)
    return torch.lerp(ordered[low], ordered[min(low + 1, len(ordered) - 1)], place - low)


def sortable(values: Tensor) -> Tensor:
    """Whole numbers 0 … 2³² - 1 as int64 in the order of the values taken as float32; 0 and -0 are one."""
    bits = (values.float() + 0.0).view(torch.int32).long()
    return torch.where(bits < 0, -(bits + 2**31) - 1, bits) + 2**31


def _named(quantities: dict[str, Tensor], name: str) -> Tensor:
    if name not in quantities:
        raise RecipeError(f"the raster scan asks for {name!r}; there are {sorted(quantities)}")
    return quantities[name]
