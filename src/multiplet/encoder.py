"""Encoder: embedding + backbone, the foundation model: what is pretrained, saved and carried to every task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from multiplet.backbones.mamba import Mamba
from multiplet.backbones.mamba2 import Mamba2
from multiplet.backbones.nothing import Nothing
from multiplet.backbones.recurrent import GRU
from multiplet.backbones.transformer import Transformer
from multiplet.dimensions import Width
from multiplet.embedding import Concatenate, Fourier, Learned, Sum, Where
from multiplet.errors import RecipeError
from multiplet.layers import Embedding, Linear, Vector, full_precision
from multiplet.parametrisation import MuP, Parametrisation
from multiplet.representation.tokens import Shape, Tokens
from multiplet.spec import did_you_mean

Backbone = Transformer | Mamba | Mamba2 | GRU | Nothing


@dataclass(frozen=True)
class Encode:
    """An embedding in named parts, and a backbone.

    Parts are "x" for the features, "place" for those of them named in `place` (a sensor's position, which an objective
    hides together with its id), and "id_NAME" for each of `ids`; `join` makes one vector of them. `where` adds what
    their places say to the vectors of ids. `event` puts a learned slot in front of the tokens, which reads them all and
    stands for the event.
    """

    backbone: Backbone = field(default_factory=Transformer)
    param: Parametrisation = field(default_factory=MuP)
    ids: tuple[str, ...] = ()
    features: Learned | Fourier = field(default_factory=Learned)
    place: tuple[str, ...] = ()
    join: Sum | Concatenate = field(default_factory=Sum)
    event: bool = False
    where: Where | None = None

    def __post_init__(self) -> None:
        reads = not isinstance(self.backbone, Nothing) and getattr(self.backbone, "bidirectional", True)
        if self.event and not reads:
            raise RecipeError(
                f"Encode.event puts a slot in front of the tokens, where {type(self.backbone).__name__} as it is set "
                "would show it none of them: take a backbone that reads both ways (bidirectional=True), or event=False"
            )

    def build(self, shape: Shape) -> Encoder:
        """The encoder for tokens of this shape; RecipeError where it asks for what the representation does not make."""
        if unknown := [name for name in self.ids if name not in shape.ids]:
            raise RecipeError(f"Encode.ids asks for {unknown}; the representation makes {sorted(shape.ids)}")
        if missing := [name for name in self.place if name not in shape.columns]:
            raise RecipeError(f"Encode.place: {missing[0]!r} is no feature ({did_you_mean(missing[0], shape.columns)})")
        if len(set(self.place)) < len(self.place):
            raise RecipeError(f"Encode.place names a feature twice: {list(self.place)}")
        if set(self.place) >= set(shape.columns):
            raise RecipeError(f"Encode.place names every feature, {list(shape.columns)}: at least one must be left")
        if self.where and not any(shape.places.get(name) for name in self.ids):
            raise RecipeError(
                f"Encode.where needs to know where codes are: say so in Id.place of one of Encode.ids "
                f"({list(self.ids)}), or take where=null"
            )
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
    event: Float[Tensor, "B D"] | None = None  # of the event slot, where there is one


class Encoder(nn.Module):
    """Encode, running. Knows nothing of objectives: a vector that stands for a hidden part is handed in by them.

    `widths` tells how many entries each part of the embedding has, which is how many such a vector needs.
    """

    columns_x: Tensor
    columns_place: Tensor

    def __init__(self, spec: Encode, shape: Shape) -> None:
        super().__init__()
        self.spec, self.shape = spec, shape
        self.param: Parametrisation = spec.param
        self.width: Width = spec.param.width(spec.backbone.width)
        columns = tuple(name for name in shape.columns if name not in spec.place)
        parts = ("x", *(f"id_{name}" for name in spec.ids), *(("place",) if spec.place else ()))
        self.widths = spec.join.widths(parts, self.width)
        self.embed = nn.ModuleDict({"x": spec.features.build(columns, self.widths["x"], spec.param)})
        for name in spec.ids:
            self.embed[f"id_{name}"] = Embedding(shape.ids[name], self.widths[f"id_{name}"], spec.param)
            if spec.where and shape.places.get(name):
                where = spec.where.build(shape.places[name], self.widths[f"id_{name}"], spec.param)
                self.embed[f"where_{name}"] = where
        if spec.place:
            self.embed["place"] = Linear(len(spec.place), self.widths["place"], spec.param, bias=True)
        self.event = Vector(self.width, spec.param, std=1.0) if spec.event else None
        self.backbone = spec.backbone.build(self.width, spec.param)
        for part, names in (("x", columns), ("place", spec.place)):
            numbers = torch.tensor([shape.columns.index(name) for name in names], dtype=torch.long)
            self.register_buffer(f"columns_{part}", numbers, persistent=False)

    def vectors(self, name: str, tokens: Tokens) -> Float[Tensor, "V W"]:
        """The vector of every code of an id, as the embedding has it."""
        learned = self.embed[f"id_{name}"].get_parameter("weight")
        where = f"where_{name}"
        return learned + self.embed[where](tokens.places[name]) if where in self.embed else learned

    def _named(self, name: str, tokens: Tokens) -> Float[Tensor, "B S W"]:
        if f"where_{name}" in self.embed:
            return F.embedding(tokens.ids[name].long(), self.vectors(name, tokens))
        return self.embed[f"id_{name}"](tokens.ids[name])

    def forward(
        self, tokens: Tokens, replace: Mapping[str, tuple[Tensor, Tensor]] | None = None, blocks: bool = False
    ) -> Hidden:
        """`replace` = {part: (hide (B, S), vector (widths[part],))}: where `hide` is True the part becomes the vector.

        The features of a hidden "x" or "place" are 0 in what the backbone gets as geometry.
        """
        x, columns = tokens.x, {"x": self.columns_x, "place": self.columns_place}
        with full_precision(x):  # standardised values lose what matters in eight bits
            parts = {part: self.embed[part](x[..., columns[part]]) for part in columns if part in self.embed}
        parts |= {f"id_{name}": self._named(name, tokens) for name in self.spec.ids}
        for name, (hide, vector) in (replace or {}).items():
            if name not in parts:
                raise RecipeError(f"the embedding has no part {name!r}; it has {sorted(parts)}")
            parts[name] = torch.where(hide[..., None], vector.to(parts[name].dtype), parts[name])
            if name in columns:
                x = torch.where(hide[..., None], x.index_fill(-1, columns[name], 0.0), x)
        before = self.spec.join(list(parts.values()))
        if self.event is None:
            points, outputs = self.backbone(before, tokens.mask, tokens.rank, x, blocks)
            return Hidden(points, tokens.mask, before, outputs)
        first = self.event().float().expand(len(before), 1, -1)
        h, mask = torch.cat([first, before], 1), F.pad(tokens.mask, (1, 0), value=True)
        points, outputs = self.backbone(h, mask, F.pad(tokens.rank + 1, (1, 0)), F.pad(x, (0, 0, 1, 0)), blocks)
        return Hidden(points[:, 1:], tokens.mask, before, [output[:, 1:] for output in outputs], points[:, 0])
