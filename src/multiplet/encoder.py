"""Encoder: embedding + backbone, the foundation model: what is pretrained, saved and carried to every task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from multiplet.backbones.mamba import Mamba
from multiplet.backbones.mamba2 import Mamba2
from multiplet.backbones.nothing import Nothing
from multiplet.backbones.transformer import Transformer
from multiplet.errors import RecipeError
from multiplet.layers import Embedding, Linear, full_precision
from multiplet.parametrisation import MuP, Parametrisation, Standard, Width
from multiplet.representation.tokens import Shape, Tokens
from multiplet.spec import did_you_mean

Backbone = Transformer | Mamba | Mamba2 | Nothing


@dataclass(frozen=True)
class Learned:
    """One linear map of all features, learned."""

    def build(self, columns: tuple[str, ...], width: Width, param: Parametrisation) -> Linear:
        """(B, S, F) → (B, S, D)."""
        return Linear(len(columns), width, param, bias=True)


@dataclass(frozen=True)
class Fourier:
    """Fixed: features times Gaussian vectors, those in `places` through p, sin 2ʲp, cos 2ʲp with j below `bands`.

    FM4NPP's embedding of spacepoints (arXiv 2508.14087): drawn once, kept with the model and never trained.
    """

    places: tuple[str, ...] = ("eta", "phi", "r")
    bands: int = 10

    def build(self, columns: tuple[str, ...], width: Width, param: Parametrisation) -> FourierNet:
        """(B, S, F) → (B, S, D); RecipeError where a place is no feature."""
        if missing := [name for name in self.places if name not in columns]:
            raise RecipeError(f"Fourier.places: {missing[0]!r} is no feature ({did_you_mean(missing[0], columns)})")
        return FourierNet(self, columns, int(width))


class FourierNet(nn.Module):
    """Fourier, running: the Gaussian vectors are a buffer, (F - P + P (1 + 2 bands), D)."""

    vectors: Tensor
    places: Tensor
    others: Tensor
    frequency: Tensor

    def __init__(self, spec: Fourier, columns: tuple[str, ...], width: int) -> None:
        super().__init__()
        places = [columns.index(name) for name in spec.places]
        others = [n for n in range(len(columns)) if n not in places]
        rows = len(others) + len(places) * (1 + 2 * spec.bands)
        self.register_buffer("vectors", torch.randn(rows, width))
        for name, numbers in (("places", places), ("others", others)):  # on the device, not copied there each time
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.long), persistent=False)
        self.register_buffer("frequency", 2.0 ** torch.arange(spec.bands), persistent=False)

    def forward(self, x: Float[Tensor, "B S F"]) -> Float[Tensor, "B S D"]:
        p = x[..., self.places]
        angle = (p[..., None] * self.frequency).flatten(-2)
        return torch.cat([x[..., self.others], p, angle.sin(), angle.cos()], dim=-1) @ self.vectors


@dataclass(frozen=True)
class Encode:
    """An embedding in named parts ("x" for the features, one for each id in `ids`, summed), and a backbone."""

    backbone: Backbone = field(default_factory=Transformer)
    param: Standard | MuP = field(default_factory=MuP)
    ids: tuple[str, ...] = ()
    features: Learned | Fourier = field(default_factory=Learned)

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
        self.embed = nn.ModuleDict({"x": spec.features.build(shape.columns, self.width, spec.param)})
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
