"""The decoder of CrossMAE (arXiv 2401.14391): each hidden token asks the visible ones, and no other hidden token."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from multiplet.backbones.transformer import Block, Rotary, Transformer
from multiplet.dimensions import Width
from multiplet.layers import RMSNorm, Rotation, Vector
from multiplet.parametrisation import Parametrisation


@dataclass(frozen=True)
class CrossDecoder:
    """Blocks of cross-attention and SwiGLU; position None: all queries are alike.

    `width` None: that of the encoder; a number does not grow, and its rates and spreads are those of a base.
    """

    depth: int = 2
    width: int | None = None
    head_dim: int = 32
    group: int = 2
    expansion: float = 4.0
    position: Rotary | None = field(default_factory=Rotary)

    def build(self, memory: Width, param: Parametrisation) -> CrossDecoderNet:
        """The decoder for an encoder of width `memory`."""
        width = memory if self.width is None else Width(self.width)
        return CrossDecoderNet(self, width, memory, param)


class CrossDecoderNet(nn.Module):
    """Queries are one learned vector, told apart by their rank; they never see each other."""

    def __init__(self, spec: CrossDecoder, width: Width, memory: Width, param: Parametrisation) -> None:
        super().__init__()
        shape = Transformer(int(width), spec.depth, spec.head_dim, spec.group, spec.expansion, spec.position)
        self.spec, self.width = spec, width
        self.query = Vector(width, param)
        self.blocks = nn.ModuleList(Block(shape, width, memory, param, layer) for layer in range(spec.depth))
        self.norm = RMSNorm(width, affine=param.vectors)

    def forward(
        self,
        memory: Float[Tensor, "B V M"],
        mask: Bool[Tensor, "B V"],
        rank: Int[Tensor, "B V"],
        wanted: Int[Tensor, "B P"],
    ) -> Float[Tensor, "B P D"]:
        """A condition z for each wanted rank, from the visible tokens' outputs and ranks."""
        turns: tuple[Rotation | None, Rotation | None] = (None, None)
        if self.spec.position is not None:
            head, theta = self.spec.head_dim, self.spec.position.theta
            turns = Rotation(wanted, head, theta), Rotation(rank, head, theta)
        h = self.query().expand(*wanted.shape, -1)
        for block in self.blocks:
            h = block(h, mask, turns[0], memory, turns[1])
        return self.norm(h)
