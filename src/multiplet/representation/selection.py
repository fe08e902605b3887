"""Selection: which points of a long event become tokens, drawn afresh in every step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from multiplet.draws import Draws
from multiplet.errors import RecipeError
from multiplet.representation.orders import sort
from multiplet.representation.tokens import gather


@dataclass(frozen=True)
class Subsample:
    """At most `most` points of an event, uniformly without replacement; those with the flag `last` only where room is
    left by the others. PolarBERT's rule, with which 12 to 13 % of IceCube's events lose pulses.

    With `training_only` an event is whole wherever nothing is trained: a model whose cost per step does not grow with
    the longest events then makes use of all their points.

    With `first_of`, the first point of every value of that column goes before all others, so that no sensor is lost as
    long as there is room: `first_of="sensor_id"`.
    """

    most: int = 127
    last: str = "auxiliary"
    first_of: str = ""
    training_only: bool = False

    def __post_init__(self) -> None:
        if self.most < 1:
            raise RecipeError(f"Subsample.most is {self.most}; it must be at least 1")

    def __call__(
        self,
        quantities: dict[str, Tensor],
        places: Int[Tensor, "B N"],
        mask: Bool[Tensor, "B N"],
        event: Int[Tensor, " B"],
        draws: Draws,
    ) -> Int[Tensor, "B M"]:
        """Which of the ordered slots to keep, in order, real ones at the left.

        `quantities` and `mask` are read at `places`. What is drawn depends on `event` and the slot alone.
        """
        slots = torch.arange(places.shape[1], device=places.device).expand_as(places)
        chance = draws.uniform("select", event, slots, 1)[..., 0]
        real = gather(mask, places)
        keys = [gather(_named(quantities, self.last), places).float(), chance]
        if self.first_of:
            keys.insert(0, (~first_of_each(gather(_named(quantities, self.first_of), places))).float())
        turn = sort(tuple(keys), real).argsort(1)
        return (turn >= self.most).to(torch.uint8).argsort(dim=1, stable=True)[:, : self.most]


def first_of_each(values: Int[Tensor, "B N"]) -> Bool[Tensor, "B N"]:
    """True where no earlier slot of the row holds the same value."""
    order = values.argsort(dim=1, stable=True)
    ordered = values.gather(1, order)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return torch.zeros_like(new).scatter(1, order, new)


def _named(quantities: dict[str, Tensor], name: str) -> Tensor:
    if name not in quantities:
        raise RecipeError(f"the selection asks for {name!r}; there are {sorted(quantities)}")
    return quantities[name]
