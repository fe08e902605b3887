"""Masked: hide part of each event, encode what is left, and predict hidden tokens from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from multiplet.draws import FIXED, Draws
from multiplet.encoder import Encoder
from multiplet.errors import RecipeError
from multiplet.heads import masked_mean
from multiplet.intervals import Measured
from multiplet.objectives.decoder import CrossDecoder
from multiplet.objectives.diffusion import Diffusion, DiffusionNet
from multiplet.objectives.event_losses import event_losses, means
from multiplet.objectives.masking import Masks, counts, draw_masks
from multiplet.objectives.targets import Code, CodeNet, MeanSquared, MeanSquaredNet
from multiplet.representation.tokens import Shape, Tokens

Target = Diffusion | MeanSquared | Code


@dataclass(frozen=True)
class Masked:
    """Hide the share `hide` of an event's tokens and predict the share `predict` (None: one token); drop the rest.

    Both are shares of all its tokens; hidden and dropped tokens never enter the encoder.
    """

    hide: float = 0.5
    predict: float | None = 0.25
    decoder: CrossDecoder = field(default_factory=CrossDecoder)
    target: Target = field(default_factory=Diffusion)

    def __post_init__(self) -> None:
        if not 0 < self.hide < 1 or (self.predict is not None and not 0 < self.predict <= 1):
            raise RecipeError(
                f"Masked.hide must lie in (0, 1) and predict in (0, 1]; they are {self.hide}, {self.predict}"
            )

    def build(self, encoder: Encoder, shape: Shape) -> MaskedNet:
        """The objective for this encoder."""
        return MaskedNet(self, encoder, shape)


class MaskedNet(nn.Module):
    """Masked, running: losses (B,), each the mean over an event's predicted tokens."""

    def __init__(self, spec: Masked, encoder: Encoder, shape: Shape) -> None:
        super().__init__()
        self.spec = spec
        self.decoder = spec.decoder.build(encoder.width, encoder.param)
        self.target: DiffusionNet | MeanSquaredNet | CodeNet = spec.target.build(
            self.decoder.width, shape, encoder.param
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The losses it gives."""
        return self.target.names

    @property
    def references(self) -> dict[str, float]:
        """Trivial values to read the losses against."""
        return self.target.references

    @property
    def bystanders(self) -> list[nn.Module]:
        """Modules trained beside the model, for comparison only; they must not influence it."""
        reference = getattr(self.target, "reference", None)
        return [reference] if reference is not None else []

    def weights(self, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, " B"]]:
        """1 for events that have something to predict (two tokens or more), else 0."""
        _, predicted = counts(tokens.mask.sum(1), self.spec.hide, self.spec.predict)
        return {name: (predicted > 0).float() for name in self.target.names}

    def forward(self, encoder: Encoder, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, " B"]]:
        z, hidden = self.conditions(encoder, tokens, draws)
        losses = self.target(z, hidden, draws)
        return {name: masked_mean(value, hidden.mask) for name, value in losses.items()}

    @property
    def truth(self) -> tuple[str, ...]:
        """Nothing of the truth is looked at."""
        return ()

    def predict(self, encoder: Encoder, tokens: Tokens) -> dict[str, Float[Tensor, " B"]]:
        """The losses of each event (B,) on the fixed masks and noise of every validation; NaN where nothing counts.

        Raises NonFiniteError where a loss that counts is not finite, so that NaN means nothing else.
        """
        return event_losses(self(encoder, tokens, FIXED), self.weights(tokens, FIXED), tokens)

    def measure(self, table: Mapping[str, np.ndarray]) -> Measured:
        """Mean losses with 68 % bootstrap intervals, over the events that have something to predict."""
        return Measured(means(table, self.names))

    def conditions(self, encoder: Encoder, tokens: Tokens, draws: Draws) -> tuple[Float[Tensor, "B P D"], Tokens]:
        """A condition z for each token to be predicted, from the visible ones, and those tokens."""
        return self._conditions(encoder, tokens, self.draw(tokens, draws))

    @torch.no_grad()
    def sample(
        self, encoder: Encoder, tokens: Tokens, draws: Draws
    ) -> tuple[Float[Tensor, "B S C"], Bool[Tensor, "B S"]]:
        """Targets of the tokens, with every hidden one drawn from p(token | visible tokens), and which those are.

        A decoder with positions is told the ranks of hidden tokens too: in an order of momenta, between which they lie.
        Hidden tokens are drawn one by one: whatever they have in common beyond what the visible ones tell is lost.
        MeanSquared, which knows no distribution, gives its prediction; Code, which knows no token, raises RecipeError.
        """
        masks = draw_masks(tokens, self.spec.hide, self.spec.hide, draws)
        z, hidden = self._conditions(encoder, tokens, masks)
        if isinstance(self.target, CodeNet):
            raise RecipeError("Code predicts the ids of tokens; only Diffusion and MeanSquared give tokens back")
        drawn = self.target.sample(z, hidden, draws) if isinstance(self.target, DiffusionNet) else self.target.out(z)
        values = tokens.targets["x"]
        drawn = torch.where(hidden.mask[..., None], drawn.to(values.dtype), hidden.targets["x"])
        places = masks.predicted[..., None].expand_as(drawn)
        hide = torch.zeros_like(tokens.mask).scatter(1, masks.predicted, hidden.mask)
        return values.scatter(1, places, drawn), hide

    def _conditions(self, encoder: Encoder, tokens: Tokens, masks: Masks) -> tuple[Tensor, Tokens]:
        seen = encoder(tokens.select(masks.visible, masks.visible_mask))
        hidden = tokens.select(masks.predicted, masks.predicted_mask)
        rank = tokens.rank.gather(1, masks.visible)
        return self.decoder(seen.points, seen.mask, rank, hidden.rank), hidden

    def draw(self, tokens: Tokens, draws: Draws) -> Masks:
        """Which tokens are visible and which are predicted in this step."""
        return draw_masks(tokens, self.spec.hide, self.spec.predict, draws)
