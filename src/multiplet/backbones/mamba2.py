"""Mamba-2 (arXiv 2405.21060): one rate of decay a head, so that the recurrence becomes products of matrices.

Parameters of a block of width d with n numbers of state and H = 2 d / head_dim heads:
6 d² + 2 d n + d H + 13 d + 10 n + 3 H, so 6.15625 d² + 13.71875 d at n = d/16 and heads of 64 (FM4NPP's checkpoints).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from multiplet.backbones.mamba import CausalConv, first_steps
from multiplet.backbones.recurrent import RecurrentNet
from multiplet.backbones.scan import head_scan
from multiplet.dimensions import Width, declare_vector
from multiplet.errors import RecipeError
from multiplet.layers import Linear, RMSNorm, full_precision
from multiplet.parametrisation import Parametrisation


@dataclass(frozen=True)
class Mamba2:
    """Heads of `head_dim` channels, expansion · width in all, with `state` numbers a channel; the rest as `Mamba`."""

    width: int = 128
    depth: int = 4
    state: int = 64
    head_dim: int = 64
    expansion: int = 2
    taps: int = 4
    bidirectional: bool = False

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.state, self.head_dim, self.expansion, self.taps) < 1:
            raise RecipeError(
                f"Mamba2 needs width, depth, state, head_dim, expansion and taps of at least 1; given: {self}"
            )
        if self.width * self.expansion % self.head_dim:
            raise RecipeError(
                f"Mamba2.width · expansion is {self.width * self.expansion}; it must be a multiple of head_dim = "
                f"{self.head_dim}"
            )

    def build(self, width: Width, param: Parametrisation) -> RecurrentNet:
        """The network; `width` is this width as the parametrisation counts it."""
        return RecurrentNet(partial(HeadMixer, self, width, param), width, param, self.depth, self.bidirectional)


class HeadMixer(nn.Module):
    """W_out(RMSNorm(y ⊙ SiLU(z))), y the scan of x by heads; SiLU(conv(x, B, C)), z and Δ come from W_in."""

    def __init__(self, spec: Mamba2, width: Width, param: Parametrisation) -> None:
        super().__init__()
        inner, depth = width * spec.expansion, spec.depth
        heads = Width(inner // spec.head_dim, width.ratio)
        mixed = Width(inner + 2 * spec.state, width.ratio)  # x, B and C; hidden weights all, as in `SelectiveMixer`
        self.sizes = (int(inner), int(mixed), int(heads))
        self.parts = (int(inner), spec.state, spec.state)
        self.enter = Linear(width, Width(sum(self.sizes), width.ratio), param, depth=depth)
        self.conv = CausalConv(mixed, spec.taps, depth)
        self.step = nn.Parameter(first_steps(heads))
        self.decay = nn.Parameter(torch.empty(int(heads)).uniform_(1, 16).log())  # log(-A)
        self.skip = nn.Parameter(torch.ones(int(heads)))
        self.declared = {name: declare_vector(heads, depth) for name in ("step", "decay", "skip")}
        self.norm = RMSNorm(inner, depth=depth)
        self.out = Linear(inner, width, param, depth=depth)

    def forward(self, h: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        gate, mixed, step = self.enter(h).split(self.sizes, dim=-1)
        x, enter, leave = F.silu(self.conv(mixed)).split(self.parts, dim=-1)
        step = F.softplus(step.float() + self.step)
        x = x.unflatten(-1, (len(self.decay), -1))
        with full_precision(x):
            y = head_scan(x, step, -self.decay.exp(), enter, leave) + self.skip[:, None] * x
        return self.out(self.norm(y.flatten(2) * F.silu(gate.float())))
