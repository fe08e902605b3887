"""The pre-norm transformer: by default LLaMA's, with grouped-query attention, SwiGLU, RMSNorm and no biases.

Parameters with the default shape (query width = width, hidden 4·width, group 2): 15 d² + 2 d a block, d for the final
norm, so 987,008 / 7,874,304 / 47,209,984 for an encoder of 21 features at (128, 4), (256, 8), (512, 12). The plain
encoder layer of 2017 (group 1, LayerNorm, ReLU, biases, no norm at the end): 12 d² + 13 d, of which 4 d are the biases
of its attention.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from multiplet.dimensions import Width
from multiplet.errors import RecipeError
from multiplet.layers import Attention, FeedForward, LayerNorm, Residual, RMSNorm, Rotation, SwiGLU
from multiplet.parametrisation import Parametrisation


@dataclass(frozen=True)
class Rotary:
    """Position is the rank in the order of the whole event, turned into angles (RoPE)."""

    theta: float = 10_000.0


@dataclass(frozen=True)
class Transformer:
    """`width` = heads · head_dim; every key/value head serves `group` query heads. position None: a set.

    `gated` False: Linear, ReLU, Linear with biases instead of SwiGLU. `layer_norm`: with mean and shift instead of
    RMSNorm. `attention_bias`: biases in the four projections. `final_norm` False: the residual stream as it is.
    """

    width: int = 128
    depth: int = 4
    head_dim: int = 32
    group: int = 2
    expansion: float = 4.0
    position: Rotary | None = field(default_factory=Rotary)
    gated: bool = True
    layer_norm: bool = False
    attention_bias: bool = False
    final_norm: bool = True

    def __post_init__(self) -> None:
        if self.width < 1 or self.depth < 1 or self.group < 1 or self.head_dim < 2 or self.head_dim % 2:
            raise RecipeError("Transformer needs width, depth and group of at least 1 and an even head_dim")
        if self.width % (self.head_dim * self.group):
            raise RecipeError(
                f"Transformer.width is {self.width}; it must be a multiple of head_dim · group = "
                f"{self.head_dim * self.group}"
            )

    @property
    def kv_heads(self) -> int:
        """Key/value heads."""
        return self.width // (self.head_dim * self.group)

    def build(self, width: Width, param: Parametrisation) -> TransformerNet:
        """The network; `width` is this width as the parametrisation counts it."""
        return TransformerNet(self, width, param)


class Block(nn.Module):
    """h += attention(norm h); h += feed(norm h). With a memory, attention goes to it instead of to h."""

    def __init__(self, spec: Transformer, width: Width, memory: Width, param: Parametrisation, layer: int) -> None:
        super().__init__()
        depth = spec.depth
        sizes = (spec.kv_heads, spec.group, spec.head_dim)
        self.attention = Attention(width, memory, *sizes, param, depth, spec.attention_bias)
        self.mix = Residual(width, param, 2 * layer, depth, spec.layer_norm)
        self.feed = (SwiGLU if spec.gated else FeedForward)(width, spec.expansion, param, depth)
        self.transform = Residual(width, param, 2 * layer + 1, depth, spec.layer_norm)

    def forward(
        self,
        h: Float[Tensor, "B S D"],
        mask: Bool[Tensor, "B T"],
        turn: Rotation | None,
        memory: Float[Tensor, "B T M"] | None = None,
        turn_memory: Rotation | None = None,
    ) -> Float[Tensor, "B S D"]:
        def attend(x: Tensor) -> Tensor:
            return self.attention(
                x, x if memory is None else memory, mask, turn, turn if memory is None else turn_memory
            )

        return self.transform(self.mix(h, attend), self.feed)


class TransformerNet(nn.Module):
    """(B, S, D) → (B, S, D); with Rotary it depends on rank, without it permuting slots permutes the outputs."""

    def __init__(self, spec: Transformer, width: Width, param: Parametrisation) -> None:
        super().__init__()
        self.spec = spec
        self.blocks = nn.ModuleList(Block(spec, width, width, param, layer) for layer in range(spec.depth))
        norm = LayerNorm if spec.layer_norm else RMSNorm
        self.norm = norm(width, affine=param.vectors) if spec.final_norm else nn.Identity()

    def forward(
        self,
        h: Float[Tensor, "B S D"],
        mask: Bool[Tensor, "B S"],
        rank: Int[Tensor, "B S"],
        geometry: Tensor | None = None,
        blocks: bool = False,
    ) -> tuple[Float[Tensor, "B S D"], list[Tensor]]:
        """The output and, on request, every block's; `geometry` is for pair terms, of which it has none."""
        turn = Rotation(rank, self.spec.head_dim, self.spec.position.theta) if self.spec.position else None
        outputs: list[Tensor] = []
        for block in self.blocks:
            h = block(h, mask, turn)
            if blocks:
                outputs.append(h)
        return self.norm(h), outputs
