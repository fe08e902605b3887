"""Tokens: ordered, standardised points, as the encoder reads them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """What networks need to know of the tokens to be built: derived once from data and representation."""

    columns: tuple[str, ...]  # of Tokens.x
    targets: tuple[str, ...] = ()  # of Tokens.targets["x"]
    conditions: tuple[str, ...] = ()  # of Tokens.cond
    ids: dict[str, int] = field(default_factory=dict)  # name → number of codes
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)  # truth column → its class names
    truth: tuple[str, ...] = ()  # all truth columns
    event_targets: tuple[str, ...] = ()  # of Tokens.targets["event"]
    places: dict[str, int] = field(default_factory=dict)  # id → coordinates of Tokens.places
    quantities: tuple[str, ...] = ()  # that each of the columns is made of


@dataclass(frozen=True)
class Tokens:
    """A batch of events as rows of tokens; what `mask` does not cover means nothing."""

    x: Float[Tensor, "B S F"]
    mask: Bool[Tensor, "B S"]  # True where a token is real
    rank: Int[Tensor, "B S"]  # place in the order of the whole event
    index: Int[Tensor, "B S"]  # the point of the cloud it came from
    event: Int[Tensor, " B"]  # each event's identity: what randomness is keyed by
    cond: Float[Tensor, "B E"]  # measured for the event as a whole
    ids: dict[str, Tensor] = field(default_factory=dict)  # name → (B, S)
    targets: dict[str, Tensor] = field(default_factory=dict)  # (B, S, C) or (B, C), to be predicted; never an input
    truth: dict[str, Tensor] = field(default_factory=dict)  # (B, S) or (B,), simulated or labelled; never an input
    places: dict[str, Tensor] = field(default_factory=dict)  # id → (codes, C): where each code is, NaN if never seen

    def __len__(self) -> int:
        return len(self.event)

    def select(self, places: Int[Tensor, "B M"], mask: Bool[Tensor, "B M"]) -> Tokens:
        """The tokens at these slots, keeping rank and index; `mask` is True where a place is meant."""
        return replace(
            self,
            x=gather(self.x, places),
            mask=mask,
            rank=gather(self.rank, places),
            index=gather(self.index, places),
            ids={name: gather(value, places) for name, value in self.ids.items()},
            targets={k: gather(v, places) if v.dim() == 3 else v for k, v in self.targets.items()},
            truth={k: gather(v, places) if v.dim() == 2 else v for k, v in self.truth.items()},
        )


def gather(values: Tensor, places: Int[Tensor, "B M"]) -> Tensor:
    """Rows (B, S) or (B, S, C) read at slots (B, M)."""
    if values.dim() == 2:
        return torch.gather(values, 1, places)
    return torch.gather(values, 1, places[..., None].expand(-1, -1, values.shape[-1]))
