"""Masking: which tokens an event's encoder sees, which are predicted, and which nobody sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from multiplet.draws import Draws
from multiplet.representation.tokens import Tokens


@dataclass(frozen=True)
class Masks:
    """Slots of visible and of predicted tokens, in the order of the event, packed to the left."""

    visible: Int[Tensor, "B V"]
    visible_mask: Bool[Tensor, "B V"]
    predicted: Int[Tensor, "B P"]
    predicted_mask: Bool[Tensor, "B P"]


def counts(n: Int[Tensor, " ..."], hide: float, predict: float | None) -> tuple[Tensor, Tensor]:
    """How many of n tokens are hidden and how many of those are predicted (None: one).

    hidden = clip(round(hide·n), 1, n - 1), predicted = clip(round(predict·n), 1, hidden); none where n < 2.
    """
    hidden = torch.round(n.double() * hide).long().clamp(min=1).minimum(n - 1).clamp(min=0)
    wanted = torch.ones_like(n) if predict is None else torch.round(n.double() * predict).long().clamp(min=1)
    return hidden, wanted.minimum(hidden)


def draw_masks(tokens: Tokens, hide: float, predict: float | None, draws: Draws) -> Masks:
    """Draw which tokens are hidden; every real token is visible, predicted or dropped, and exactly one of these."""
    chance = draws.uniform("mask", tokens.event, tokens.index, 1)[..., 0]
    place = chance.masked_fill(~tokens.mask, torch.inf).argsort(dim=1, stable=True).argsort(1)
    n = tokens.mask.sum(1)
    hidden, predicted = counts(n, hide, predict)
    seen = (n - hidden)[:, None]
    widest = torch.tensor(tokens.mask.shape[1])  # the counts grow with n, so the padded width bounds them: no sync
    most_hidden, most_predicted = (int(count) for count in counts(widest, hide, predict))
    visible = _pack((place < seen) & tokens.mask, int(widest) - most_hidden)
    chosen = _pack((place >= seen) & (place < seen + predicted[:, None]), most_predicted)
    return Masks(*visible, *chosen)


def _pack(chosen: Bool[Tensor, "B S"], width: int) -> tuple[Tensor, Tensor]:
    """The chosen slots of each row, in order, at the left of `width` columns; False where there are fewer."""
    places = (~chosen).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
    return places, torch.gather(chosen, 1, places)
