"""Encoder: embedding + backbone, the foundation model: what is pretrained, saved and carried to every task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from multiplet.backbones.transformer import Transformer
from multiplet.errors import RecipeError
from multiplet.layers import Embedding, Linear, full_precision
from multiplet.parametrisation import MuP, Parametrisation, Standard, Width
from multiplet.representation.tokens import Shape, Tokens

Backbone = Transformer


@dataclass(frozen=True)
class Encode:
    """An embedding in named parts ("x" for the features, one for each id in `ids`, summed), and a backbone."""

    backbone: Backbone = field(default_factory=Transformer)
    param: Standard | MuP = field(default_factory=MuP)
    ids: tuple[str, ...] = ()

    def build(self, shape: Shape) -> Encoder:
        """The encoder for tokens of this shape; RecipeError where an id is asked for that no tokenizer makes."""
        if unknown := [name for name in self.ids if name not in shape.ids]:
            raise RecipeError(f"Encode.ids asks for {unknown}; the representation makes {sorted(shape.ids)}")
        if shape.conditions:
            raise RecipeError(
                f"no encoder reads conditions yet: take {list(shape.conditions)} out of Represent.conditions"
            )
        return Encoder(self, shape)


@dataclass(frozen=True)
class Hidden:
    """What the encoder gives: one vector a token, and where it came from."""

    points: Float[Tensor, "B S D"]
    mask: Bool[Tensor, "B S"]
    before: Float[Tensor, "B S D"]  # the embedded tokens, before the backbone
    blocks: list[Tensor]  # the output of every block (B, S, D), where asked for


class Encoder(nn.Module):
    """Encode, running. Knows nothing of objectives: a vector that stands for a hidden part is handed in by them."""

    def __init__(self, spec: Encode, shape: Shape) -> None:
        super().__init__()
        self.spec, self.shape = spec, shape
        self.param: Parametrisation = spec.param
        self.width: Width = spec.param.width(spec.backbone.width)
        self.embed = nn.ModuleDict({"x": Linear(len(shape.columns), self.width, spec.param, bias=True)})
        for name in spec.ids:
            self.embed[f"id_{name}"] = Embedding(shape.ids[name], self.width, spec.param)
        self.backbone = spec.backbone.build(self.width, spec.param)

    def forward(
        self, tokens: Tokens, replace: Mapping[str, tuple[Tensor, Tensor]] | None = None, blocks: bool = False
    ) -> Hidden:
        """`replace` = {part: (hide (B, S), vector (D,))}: where `hide` is True the part becomes the vector."""
        with full_precision(tokens.x):  # standardised values lose what matters in eight bits
            parts = {"x": self.embed["x"](tokens.x)}
        parts |= {f"id_{name}": self.embed[f"id_{name}"](tokens.ids[name]) for name in self.spec.ids}
        x = tokens.x
        for name, (hide, vector) in (replace or {}).items():
            if name not in parts:
                raise RecipeError(f"the embedding has no part {name!r}; it has {sorted(parts)}")
            parts[name] = torch.where(hide[..., None], vector.to(parts[name].dtype), parts[name])
            x = x.masked_fill(hide[..., None], 0.0) if name == "x" else x
        before = torch.stack([part.float() for part in parts.values()]).sum(0)  # the residual stream is FP32
        points, outputs = self.backbone(before, tokens.mask, tokens.rank, x, blocks)
        return Hidden(points, tokens.mask, before, outputs)
