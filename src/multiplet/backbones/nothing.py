"""No backbone: tokens go through as they are embedded. The control that tells what the rest of a model is worth."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from multiplet.dimensions import Width
from multiplet.errors import RecipeError
from multiplet.parametrisation import Parametrisation


@dataclass(frozen=True)
class Nothing:
    """No token sees another; 0 parameters."""

    width: int = 128

    def __post_init__(self) -> None:
        if self.width < 1:
            raise RecipeError(f"Nothing.width is {self.width}; it must be at least 1")

    def build(self, width: Width, param: Parametrisation) -> NothingNet:
        """The network that does nothing."""
        return NothingNet()


class NothingNet(nn.Module):
    """(B, S, D) → the same; there are no blocks."""

    def forward(
        self,
        h: Float[Tensor, "B S D"],
        mask: Bool[Tensor, "B S"],
        rank: Int[Tensor, "B S"],
        geometry: Tensor | None = None,
        blocks: bool = False,
    ) -> tuple[Float[Tensor, "B S D"], list[Tensor]]:
        """What it is given, without padding, and no blocks."""
        return h.masked_fill(~mask[..., None], 0.0), []
