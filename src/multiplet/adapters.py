"""Adapters: light networks that read an encoder block by block, so that it can stay frozen (arXiv 2508.14087).

Sizes inside an adapter do not grow with the encoder; its only layer that does is the one linear map from D.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from multiplet.dimensions import Width, declare_vector
from multiplet.encoder import Encoder, Hidden
from multiplet.layers import LayerNorm, Linear, RMSNorm
from multiplet.parametrisation import Parametrisation


class LayerMix(nn.Module):
    """A softmax-weighted sum of what each block added, normed, through one linear map to `out` numbers a token.

    With `embedding` the embedded tokens have a linear map of their own, added to it, which the published adapter does
    without: summed with the blocks in the same D numbers they would be in each other's way. An encoder without blocks
    gives its embedding alone. Parameters: blocks + (3 + out) D + 2 out, and (2 + out) D more with `embedding`.
    """

    def __init__(self, width: Width, blocks: int, out: int, param: Parametrisation, embedding: bool = False) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.ones(max(blocks, 1)))
        self.declared = {"mix": declare_vector(len(self.mix))}
        self.scale, self.norm = RMSNorm(width), LayerNorm(width)
        self.map = Linear(width, out, param, bias=True)
        self.beside = nn.Sequential(LayerNorm(width), Linear(width, out, param)) if embedding and blocks else None
        self.out = RMSNorm(Width(out))

    @classmethod
    def of(cls, encoder: Encoder, out: int, embedding: bool = False) -> LayerMix:
        """The mix of an encoder's blocks."""
        return cls(encoder.width, len(getattr(encoder.backbone, "blocks", ())), out, encoder.param, embedding)

    def forward(self, hidden: Hidden) -> Float[Tensor, "B S out"]:
        shares, outputs = self.mix.softmax(0), [hidden.before, *hidden.blocks]
        if hidden.blocks:  # Σ share (after - before), of which the differences would take as much memory again
            shares = F.pad(shares, (1, 0)) - F.pad(shares, (0, 1))
        mixed = sum((share * h for share, h in zip(shares, outputs, strict=True)), torch.zeros_like(hidden.before))
        mapped = self.map(self.norm(self.scale(mixed)))
        return self.out(mapped if self.beside is None else mapped + self.beside(hidden.before))


class Attention(nn.Module):
    """Multi-head attention of `x` to `memory`, with biases: 4 (W² + W) parameters."""

    def __init__(self, width: int, heads: int, param: Parametrisation) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (Linear(width, width, param, bias=True) for _ in range(4))

    def forward(
        self, x: Float[Tensor, "B Q W"], memory: Float[Tensor, "B S W"], bias: Tensor | None
    ) -> Float[Tensor, "B Q W"]:
        """`bias` (B, 1 or Q, S): True where a slot of the memory is real, or what is added to its score."""
        q, k, v = (
            part(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part, y in ((self.query, x), (self.key, memory), (self.value, memory))
        )
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=None if bias is None else bias[:, None])
        return self.out(y.transpose(1, 2).flatten(2))


def perceptron(width: int, hidden: int, out: int, param: Parametrisation) -> nn.Sequential:
    """Norm, linear, GELU, linear: 2W + (W + 1) H + (H + 1) out parameters."""
    first, last = Linear(width, hidden, param, bias=True), Linear(hidden, out, param, bias=True)
    return nn.Sequential(LayerNorm(width), first, nn.GELU(), last)


class PointHead(nn.Module):
    """Scores for each point: layer mix, one attention block over the event, and a perceptron.

    Parameters at D = 256, 12 blocks and 5 classes: 398,097.
    """

    def __init__(
        self, encoder: Encoder, classes: int, width: int = 256, heads: int = 4, embedding: bool = False
    ) -> None:
        super().__init__()
        param = encoder.param
        self.mix = LayerMix.of(encoder, width, embedding)
        self.before, self.after = RMSNorm(Width(width)), RMSNorm(Width(width))
        self.attention = Attention(width, heads, param)
        self.out = perceptron(width, width, classes, param)

    def forward(self, hidden: Hidden) -> Float[Tensor, "B S C"]:
        h = self.mix(hidden)
        mask: Bool[Tensor, "B 1 S"] = hidden.mask[:, None] | ~hidden.mask.any(1)[:, None, None]  # empty: no NaN
        x = self.before(h)
        return self.out(self.after(h + self.attention(x, x, mask)))
