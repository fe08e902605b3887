"""Pooling and small output networks shared by objectives and tasks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from multiplet.dimensions import Width
from multiplet.encoder import Hidden
from multiplet.layers import LayerNorm, Linear
from multiplet.parametrisation import Parametrisation


def mean_pool(points: Float[Tensor, "B S D"], mask: Bool[Tensor, "B S"]) -> Float[Tensor, "B D"]:
    """The mean over real slots; zero for an empty event."""
    total = points.masked_fill(~mask[..., None], 0.0).sum(1)  # a product would let a NaN in padding through
    return total / mask.sum(1, keepdim=True).clamp(min=1)


def event_vector(hidden: Hidden) -> Float[Tensor, "B D"]:
    """One vector an event, in FP32: its event slot where the encoder has one, else the mean of its tokens."""
    return mean_pool(hidden.points.float(), hidden.mask) if hidden.event is None else hidden.event.float()


def masked_mean(values: Float[Tensor, "B S"], mask: Bool[Tensor, "B S"]) -> Float[Tensor, " B"]:
    """The mean over real slots of one number a slot; zero for an empty event."""
    return mean_pool(values[..., None], mask)[:, 0]


def sinusoid(t: Int[Tensor, " ..."], size: int = 256) -> Float[Tensor, "... size"]:
    """[cos, sin] of t · 10000^(-i/half), i = 0 … half - 1, in FP32."""
    half = size // 2
    frequency = torch.exp(-math.log(10_000.0) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angle = t[..., None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class NoiseHead(nn.Module):
    """Predicts noise in a token from the noisy token, its time and a condition z (the head of MAR, arXiv 2406.11838).

    Residual blocks with scale, shift and gate from time and condition; zero at the start, so the first prediction is
    0 and the first loss is E[ε²] = 1. Parameters: (5D+3)W² + (256 + zd + c + c_out + 6 + 7D)W + c_out.

    Times are 0 … steps - 1. What noisy tokens share is computed once: `z` may be of size 1 where `t` is not.
    """

    def __init__(
        self,
        channels: int,
        condition: int,
        width: Width | int,
        depth: int,
        param: Parametrisation,
        steps: int = 1000,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.time_in = Linear(256, width, param, bias=True, std=0.02)
        self.time_out = Linear(width, width, param, bias=True, std=0.02)
        self.condition = Linear(condition, width, param, bias=True)
        self.token = Linear(channels, width, param, bias=True)
        self.blocks = nn.ModuleList(_NoiseBlock(width, param) for _ in range(depth))
        self.norm = LayerNorm(width, affine=False)
        self.modulation = Linear(width, width * 2, param, bias=True, zero=True)
        self.out = Linear(width, channels, param, bias=True, zero=True)

    def forward(
        self, noisy: Float[Tensor, "... c"], t: Int[Tensor, " ..."], z: Float[Tensor, "... zd"]
    ) -> Float[Tensor, "... c"]:
        y = F.silu(self._times(t) + self.condition(z))
        h = self.token(noisy)
        for block in self.blocks:
            h = block(h, y)
        shift, scale = self.modulation(y).chunk(2, dim=-1)
        return self.out(torch.addcmul(shift, self.norm(h), 1 + scale))

    def _times(self, t: Int[Tensor, " ..."]) -> Float[Tensor, "... W"]:
        """The embedded times: looked up among all there are, where that is less work."""
        few = t.numel() <= self.steps
        times = t if few else torch.arange(self.steps, device=t.device)
        embedded = self.time_out(F.silu(self.time_in(sinusoid(times))))
        return embedded if few else F.embedding(t, embedded)


class _NoiseBlock(nn.Module):
    """h += gate · MLP(norm(h) (1 + scale) + shift)."""

    def __init__(self, width: Width | int, param: Parametrisation) -> None:
        super().__init__()
        self.norm = LayerNorm(width, affine=param.vectors)
        self.modulation = Linear(width, width * 3, param, bias=True, zero=True)
        self.first = Linear(width, width, param, bias=True)
        self.second = Linear(width, width, param, bias=True)

    def forward(self, h: Float[Tensor, "... W"], y: Float[Tensor, "... W"]) -> Float[Tensor, "... W"]:
        shift, scale, gate = self.modulation(y).chunk(3, dim=-1)
        inner = torch.addcmul(shift, self.norm(h), 1 + scale)
        return torch.addcmul(h, gate, self.second(F.silu(self.first(inner))))
