"""Mamba (arXiv 2312.00752): every channel keeps a state that each token updates, by as much as it says; cost ∝ N.

The k-th output sees an event's first k tokens, in the order they stand in; ranks and geometry are not read. Letters of
the papers: Δ step, A rate of decay, B and C what enters and leaves the state, D skip. Parameters of a block of width d
with n numbers of state: 6.25 d² + 6 d n + 15 d, so 6.625 d² + 15 d at n = d/16 (FM4NPP, arXiv 2508.14087).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from multiplet.backbones.recurrent import RecurrentNet
from multiplet.backbones.scan import selective_scan
from multiplet.dimensions import Width, declare, declare_vector
from multiplet.errors import RecipeError
from multiplet.layers import Linear, full_precision
from multiplet.parametrisation import Parametrisation


@dataclass(frozen=True)
class Mamba:
    """`state` numbers for each of expansion · width channels; `taps` tokens wide convolutions.

    µP carries a rate to other widths at one and the same `state`. `bidirectional`: each block has a second mixer, which
    reads every event from its last token to its first; the outputs are added.
    """

    width: int = 128
    depth: int = 4
    state: int = 16
    expansion: int = 2
    taps: int = 4
    bidirectional: bool = False

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.state, self.expansion, self.taps) < 1:
            raise RecipeError(f"Mamba needs width, depth, state, expansion and taps of at least 1; given: {self}")

    def build(self, width: Width, param: Parametrisation) -> RecurrentNet:
        """The network; `width` is this width as the parametrisation counts it."""
        return RecurrentNet(partial(SelectiveMixer, self, width, param), width, param, self.depth, self.bidirectional)


class SelectiveMixer(nn.Module):
    """W_out(y ⊙ SiLU(z)), y the selective scan of SiLU(conv(x)), x and z from W_in; Δ, B and C are made from x."""

    def __init__(self, spec: Mamba, width: Width, param: Parametrisation) -> None:
        super().__init__()
        inner, depth = width * spec.expansion, spec.depth
        rank = Width(math.ceil(width / 16), width.ratio)  # numbers that the steps of all channels are made from
        self.sizes = (int(rank), spec.state, spec.state)
        self.enter = Linear(width, inner * 2, param, depth=depth)
        self.conv = CausalConv(inner, spec.taps, depth)
        # B and C add to, and read, as many channels as there are: hidden weights, though a state has a fixed size.
        self.select = Linear(inner, Width(sum(self.sizes), width.ratio), param, depth=depth)
        spread = math.sqrt(rank.ratio / (3 * rank))  # that of a uniform number in ±1/√rank, at the base width
        self.step = Linear(rank, inner, param, bias=True, depth=depth, std=spread)
        self.decay = nn.Parameter(torch.arange(1, spec.state + 1).float().log().repeat(int(inner), 1))  # log(-A)
        self.skip = nn.Parameter(torch.ones(int(inner)))
        self.declared = {"decay": declare_vector(inner, depth), "skip": declare_vector(inner, depth)}
        self.out = Linear(inner, width, param, depth=depth)
        self.step.bias = nn.Parameter(first_steps(inner))

    def forward(self, h: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        x, gate = self.enter(h).chunk(2, dim=-1)
        x = F.silu(self.conv(x))
        step, enter, leave = self.select(x).float().split(self.sizes, dim=-1)
        with full_precision(x):
            step = F.softplus(self.step(step))
            y = selective_scan(x, step, -self.decay.exp(), enter, leave) + self.skip * x
        return self.out(y * F.silu(gate.float()))


class CausalConv(nn.Module):
    """One filter a channel over a token and those before it, in FP32; zeros before the first."""

    def __init__(self, channels: Width, taps: int, depth: int) -> None:
        super().__init__()
        self.declared = {"weight": declare(taps, channels, depth), "bias": declare_vector(channels, depth)}
        self.weight = nn.Parameter(torch.empty(int(channels), taps))
        self.bias = nn.Parameter(torch.zeros(int(channels)))
        nn.init.uniform_(self.weight, -(taps**-0.5), taps**-0.5)

    def forward(self, x: Float[Tensor, "B S C"]) -> Float[Tensor, "B S C"]:
        length, taps = x.shape[1], self.weight.shape[1]
        x = F.pad(x.float(), (0, 0, taps - 1, 0))
        y: Tensor = self.bias
        for place in range(taps):  # quicker on a CPU than conv1d, whose layout is the transposed one
            y = torch.addcmul(y, x[:, place : place + length], self.weight[:, place])
        return y


def first_steps(size: int) -> Float[Tensor, " size"]:
    """Biases whose softplus is log-uniform in [0.001, 0.1]."""
    steps = torch.empty(int(size)).uniform_(math.log(1e-3), math.log(0.1)).exp()
    return steps + torch.log(-torch.expm1(-steps))
