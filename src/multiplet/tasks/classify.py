"""Classify: one label an event, from the mean of the encoder's outputs (global average pooling)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from multiplet.draws import Draws
from multiplet.encoder import Encoder
from multiplet.errors import RecipeError
from multiplet.heads import mean_pool
from multiplet.layers import Linear
from multiplet.representation.tokens import Shape, Tokens
from multiplet.spec import did_you_mean


@dataclass(frozen=True)
class Classify:
    """Cross-entropy on the truth column `label`; events where it is below 0 are unlabelled and left out."""

    label: str = "label"

    def build(self, encoder: Encoder, shape: Shape) -> ClassifyNet:
        """The task for this encoder; RecipeError where the events carry no such label with named classes."""
        if self.label not in shape.classes:
            raise RecipeError(f"Classify.label is {self.label!r}, and no label of the events is called so "
                              f"({did_you_mean(self.label, shape.classes)})")
        return ClassifyNet(self, encoder, shape.classes[self.label])


class ClassifyNet(nn.Module):
    """Classify, running: d·C + C parameters."""

    names = ("cross_entropy",)
    references: dict[str, float] = {}  # noqa: RUF012
    bystanders: list[nn.Module] = []  # noqa: RUF012

    def __init__(self, spec: Classify, encoder: Encoder, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.spec, self.classes = spec, classes
        self.out = Linear(encoder.width, len(classes), encoder.param, bias=True, zero=encoder.param.zero_readout)

    def weights(self, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, "B"]]:
        """1 for labelled events with at least one point, else 0."""
        return {"cross_entropy": ((tokens.truth[self.spec.label] >= 0) & tokens.mask.any(1)).float()}

    def forward(self, encoder: Encoder, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, "B"]]:
        label = tokens.truth[self.spec.label].long().clamp(min=0)
        return {"cross_entropy": F.cross_entropy(self.logits(encoder, tokens), label, reduction="none")}

    def logits(self, encoder: Encoder, tokens: Tokens) -> Float[Tensor, "B C"]:
        """In FP32."""
        hidden = encoder(tokens)
        return self.out(mean_pool(hidden.points, hidden.mask)).float()

    def predict(self, encoder: Encoder, tokens: Tokens) -> dict[str, Float[Tensor, "B"]]:
        """`score_CLASS` (B,) for each class: probabilities that sum to 1."""
        scores = self.logits(encoder, tokens).softmax(-1)
        return {f"score_{name}": scores[:, n] for n, name in enumerate(self.classes)}
