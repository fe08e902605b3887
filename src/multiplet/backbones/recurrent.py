"""Backbones that read an event from one end to the other; the gated recurrent unit (arXiv 1406.1078) among them.

The k-th output of a net that reads one way sees an event's first k tokens, in the order they stand in; ranks and
geometry are not read. Cost ∝ N, and a GRU takes one step after the other. Parameters of one of its blocks of width d:
7 d² + 7 d, and reading both ways 14 d² + 13 d.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from multiplet.dimensions import Declared, Width, declare, declare_vector
from multiplet.errors import RecipeError
from multiplet.layers import Linear, Residual, RMSNorm, full_precision
from multiplet.parametrisation import Parametrisation


@dataclass(frozen=True)
class GRU:
    """`bidirectional`: each block has a second unit, which reads every event from its last token to its first."""

    width: int = 128
    depth: int = 4
    bidirectional: bool = True

    def __post_init__(self) -> None:
        if min(self.width, self.depth) < 1:
            raise RecipeError(f"GRU needs width and depth of at least 1; given: {self}")

    def build(self, width: Width, param: Parametrisation) -> RecurrentNet:
        """The network; `width` is this width as the parametrisation counts it."""
        return RecurrentNet(partial(GRUMixer, self, width, param), width, param, self.depth, self.bidirectional)


class GRUMixer(nn.Module):
    """W_out of the states of a unit as wide as the model, which start from zero; in FP32."""

    def __init__(self, spec: GRU, width: Width, param: Parametrisation) -> None:
        super().__init__()
        matrix, vector = declare(width, width, spec.depth), declare_vector(width, spec.depth)
        self.unit = DeclaredGRU(int(width), matrix, vector)
        for name, parameter in self.unit.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=param.spread(matrix))
        self.out = Linear(width, width, param, depth=spec.depth)

    def forward(self, h: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        with full_precision(h):
            states = self.unit(h.float())[0] if h.numel() else h.float()
        return self.out(states)


class DeclaredGRU(nn.GRU):
    """PyTorch's unit, with what its parameters are: three gates' hidden weights, from inputs and from states."""

    def __init__(self, width: int, matrix: Declared, vector: Declared) -> None:
        super().__init__(width, width, batch_first=True)
        self.declared = {name: vector if "bias" in name else matrix for name, _ in self.named_parameters()}


class RecurrentBlock(nn.Module):
    """h += mixer(norm h), and where there are two mixers the second one's output for the reversed event."""

    def __init__(self, mixers: list[nn.Module], width: Width, param: Parametrisation, layer: int, depth: int) -> None:
        super().__init__()
        self.mixers = nn.ModuleList(mixers)
        self.mix = Residual(width, param, layer, depth)

    def forward(self, h: Float[Tensor, "B S D"], reverse: Int[Tensor, "B S 1"] | None) -> Float[Tensor, "B S D"]:
        def mixed(x: Tensor) -> Tensor:
            y = self.mixers[0](x)
            if reverse is None:
                return y
            return y + self.mixers[1](x.take_along_dim(reverse, 1)).take_along_dim(reverse, 1)

        return self.mix(h, mixed)


class RecurrentNet(nn.Module):
    """(B, S, D) → (B, S, D), real slots at the left; `mixer` makes one mixer."""

    def __init__(
        self, mixer: Callable[[], nn.Module], width: Width, param: Parametrisation, depth: int, bidirectional: bool
    ) -> None:
        super().__init__()
        if not param.vectors:
            raise RecipeError(
                f"{type(param).__name__} has no rule for the biases and rates of decay of recurrent backbones: "
                "take encoder.backbone=Transformer, or encoder.param=MuP with a rate around 0.003"
            )
        ways = 2 if bidirectional else 1
        self.bidirectional = bidirectional
        self.blocks = nn.ModuleList(
            RecurrentBlock([mixer() for _ in range(ways)], width, param, layer, depth) for layer in range(depth)
        )
        self.norm = RMSNorm(width)

    def forward(
        self,
        h: Float[Tensor, "B S D"],
        mask: Bool[Tensor, "B S"],
        rank: Int[Tensor, "B S"],
        geometry: Tensor | None = None,
        blocks: bool = False,
    ) -> tuple[Float[Tensor, "B S D"], list[Tensor]]:
        """The normed output and, on request, every block's, of which a difference is what a block added."""
        h = h.masked_fill(~mask[..., None], 0.0)
        reverse = reversal(mask)[..., None] if self.bidirectional else None
        outputs: list[Tensor] = []
        for block in self.blocks:
            h = block(h, reverse)
            if blocks:
                outputs.append(h)
        return self.norm(h), outputs


def reversal(mask: Bool[Tensor, "B S"]) -> Int[Tensor, "B S"]:
    """The slots that, read in this order, give every event reversed within its own length; padding stays."""
    slot = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask, mask.sum(1, keepdim=True) - 1 - slot, slot)
