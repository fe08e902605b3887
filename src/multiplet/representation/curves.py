"""Space-filling curves as orders: Z-order (Morton) and Hilbert, on a grid over the range of the training data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from multiplet.errors import RecipeError


@dataclass(frozen=True)
class ZOrder:
    """Along the Z-order curve: the bits of all axes interleaved, the first axis most significant."""

    axes: tuple[str, ...] = ("eta", "r", "phi")
    bits: int = 16

    def __post_init__(self) -> None:
        _check(self.axes, self.bits)

    def build(self) -> Curve:
        """The order, not yet fitted."""
        return Curve(self.axes, self.bits, hilbert=False)


@dataclass(frozen=True)
class Hilbert:
    """Along the Hilbert curve: points that follow one another are neighbours on the grid."""

    axes: tuple[str, ...] = ("eta", "r", "phi")
    bits: int = 16

    def __post_init__(self) -> None:
        _check(self.axes, self.bits)

    def build(self) -> Curve:
        """The order, not yet fitted."""
        return Curve(self.axes, self.bits, hilbert=True)


def _check(axes: tuple[str, ...], bits: int) -> None:
    if not axes or not 1 <= bits <= 62 // max(len(axes), 1):
        raise RecipeError(f"a curve over {len(axes)} axes with {bits} bits each: from 1 to 62 bits in all are possible")


class Curve(nn.Module):
    """A space-filling curve, running: lowest and highest value of each axis are buffers (axes,)."""

    low: Tensor
    high: Tensor

    def __init__(self, axes: tuple[str, ...], bits: int, hilbert: bool) -> None:
        super().__init__()
        self.axes, self.bits, self.hilbert = axes, bits, hilbert
        self.register_buffer("low", torch.zeros(len(axes)))
        self.register_buffer("high", torch.ones(len(axes)))

    def fit(self, quantities: dict[str, Tensor], mask: Tensor) -> None:
        """Set the range of each axis from real points."""
        values = self._stacked(quantities)[mask]
        if not len(values):
            raise RecipeError("there is no real point to fit the range of a curve to")
        self.low.copy_(values.amin(0))
        self.high.copy_(values.amax(0))

    def keys(self, quantities: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """(B, N) int64: the place on the curve; what lies outside the range counts as its edge."""
        share = (self._stacked(quantities) - self.low) / (self.high - self.low).clamp(min=1e-12)
        cells = (share.nan_to_num(0.0).clamp(0, 1) * (2**self.bits - 1)).round().long().unbind(-1)
        return (_interleave(_hilbert(cells, self.bits) if self.hilbert else cells, self.bits),)

    def _stacked(self, quantities: dict[str, Tensor]) -> Tensor:
        if missing := [name for name in self.axes if name not in quantities]:
            raise RecipeError(f"the curve asks for {missing}; there are {sorted(quantities)}")
        return torch.stack([quantities[name].to(self.low.dtype) for name in self.axes], dim=-1)


def _interleave(cells: tuple[Tensor, ...], bits: int) -> Tensor:
    """One number from the bits of all axes, the first axis leading."""
    code = torch.zeros_like(cells[0])
    for bit in reversed(range(bits)):
        for cell in cells:
            code = (code << 1) | ((cell >> bit) & 1)
    return code


def _hilbert(cells: tuple[Tensor, ...], bits: int) -> tuple[Tensor, ...]:
    """Coordinates whose interleaved bits are the place on Hilbert's curve (J. Skilling, AIP Conf. Proc. 707, 2004)."""
    x = list(cells)
    for bit in reversed(range(1, bits)):
        lower = (1 << bit) - 1
        for axis in range(len(x)):
            turned = (x[axis] >> bit) & 1 == 1
            swap = (x[0] ^ x[axis]) & lower
            first = torch.where(turned, x[0] ^ lower, x[0] ^ swap)
            x[axis] = x[axis] if axis == 0 else torch.where(turned, x[axis], x[axis] ^ swap)
            x[0] = first
    for axis in range(1, len(x)):
        x[axis] = x[axis] ^ x[axis - 1]
    flips = torch.zeros_like(x[0])
    for bit in reversed(range(1, bits)):
        flips = torch.where((x[-1] >> bit) & 1 == 1, flips ^ ((1 << bit) - 1), flips)
    return tuple(value ^ flips for value in x)
