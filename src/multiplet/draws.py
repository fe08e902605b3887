"""Counter-based random numbers: each is a function of (seed, step, stream, event, slot, item) and of nothing else.

Masks, noise and subsampling therefore do not depend on padding, on the number of ranks or workers, on the device, or
on where a run was resumed. The mixer is the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014, section 2.3).
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor


def _signed(value: int) -> int:
    """A 64-bit pattern as the signed integer that torch.int64 holds."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX1 = _signed(0xBF58476D1CE4E5B9)
_MIX2 = _signed(0x94D049BB133111EB)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right: torch's own fills with the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX1
    x = (x ^ _shift(x, 27)) * _MIX2
    return x ^ _shift(x, 31)


@dataclass(frozen=True)
class Draws:
    """The random numbers of one step. `repeat` tells several uses of the same stream apart.

    Uniform and normal numbers of the same stream are made of the same bits: ask a stream for one of them only.
    `fixed` asks for draws that make evaluation comparable: objectives then stratify instead of drawing freely.
    """

    seed: int
    step: int
    repeat: int = 0
    fixed: bool = False

    def repeated(self, repeat: int) -> Draws:
        """The same step's draws, told apart by a number."""
        return replace(self, repeat=repeat)

    def uniform(self, stream: str, index: Int[Tensor, " B"], slots: Int[Tensor, "B S"], items: int) -> Tensor:
        """Uniform numbers in (0, 1), shape (B, S, items): for each event `index`, slot and item."""
        return _unit(_shift(self._bits(stream, index, slots, items), 41))

    def normal(self, stream: str, index: Int[Tensor, " B"], slots: Int[Tensor, "B S"], items: int) -> Tensor:
        """Standard normal numbers, shape (B, S, items), by the transform of Box and Muller (1958)."""
        bits = self._bits(stream, index, slots, items)
        radius = torch.sqrt(-2.0 * torch.log(_unit(_shift(bits, 41))))
        return radius * torch.cos((2.0 * math.pi) * _unit(_shift(bits, 16) & 0x7FFFFF))

    def _bits(self, stream: str, index: Tensor, slots: Tensor, items: int) -> Tensor:
        # Each word is mixed in by itself: added up, seed 1 at step 0 would be seed 0 at step 1. The key is made on the
        # CPU, which costs a GPU no copy and no kernel; a single number may meet tensors of any device.
        key = torch.tensor(0, device="cpu")
        for word in (self.seed, zlib.crc32(stream.encode()), self.step, self.repeat):
            key = _mix(key + _signed(_GOLDEN * (word + 1)))
        event = _mix(key ^ _mix(index.long() * _GOLDEN))[:, None]
        slot = _mix(event ^ (slots.long() + 1) * _GOLDEN)[..., None]
        return _mix(slot + (torch.arange(items, device=index.device) + 1) * _GOLDEN)


FIXED = Draws(0, 0, fixed=True)  # of every validation and evaluation, so that the losses of models can be compared


def _unit(bits: Tensor) -> Float[Tensor, " ..."]:
    """23 random bits as a float32 in the open interval (0, 1), the same on every device."""
    return (bits.to(torch.float32) + 0.5) * (1.0 / (1 << 23))
