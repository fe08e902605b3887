"""Targets that stand beside diffusion on the same encoder and masks: squared error, and the id of a tokenizer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from multiplet.dimensions import Width
from multiplet.draws import Draws
from multiplet.errors import RecipeError
from multiplet.layers import Linear, full_precision
from multiplet.parametrisation import Parametrisation
from multiplet.representation.tokens import Shape, Tokens


@dataclass(frozen=True)
class MeanSquared:
    """Regress the token: the mean over channels of the squared error."""

    def build(self, condition: Width, shape: Shape, param: Parametrisation) -> MeanSquaredNet:
        """The target for conditions of this width and tokens of this shape."""
        return MeanSquaredNet(condition, len(shape.targets), param)


class MeanSquaredNet(nn.Module):
    """One linear map from z to the token."""

    names = ("squared_error",)
    references = {"squared_error: the mean, of standardised channels": 1.0}  # noqa: RUF012 of bits (±1) it is less

    def __init__(self, condition: Width, channels: int, param: Parametrisation) -> None:
        super().__init__()
        self.out = Linear(condition, channels, param, bias=True, zero=param.zero_readout)

    def forward(self, z: Float[Tensor, "B P zd"], hidden: Tokens, draws: Draws) -> dict[str, Tensor]:
        """Loss (B, P)."""
        with full_precision(z):
            return {"squared_error": (self.out(z.float()) - hidden.targets["x"]).square().mean(-1)}


@dataclass(frozen=True)
class Code:
    """Classify the id that the representation's tokenizer gave the token."""

    id: str = "code"

    def build(self, condition: Width, shape: Shape, param: Parametrisation) -> CodeNet:
        """The target for conditions of this width; RecipeError where no tokenizer makes the id."""
        if self.id not in shape.ids:
            raise RecipeError(
                f"Code predicts the id {self.id!r}; the representation makes {sorted(shape.ids)}: "
                "set represent.tokenizer=KMeans, FSQ or VQ"
            )
        return CodeNet(self.id, condition, shape.ids[self.id], param)


class CodeNet(nn.Module):
    """One linear map from z to logits."""

    names = ("code",)

    def __init__(self, name: str, condition: Width, codes: int, param: Parametrisation) -> None:
        super().__init__()
        self.name, self.references = name, {"code: all ids alike": math.log(codes)}
        self.out = Linear(condition, codes, param, bias=True, zero=param.zero_readout)

    def forward(self, z: Float[Tensor, "B P zd"], hidden: Tokens, draws: Draws) -> dict[str, Tensor]:
        """Cross-entropy (B, P) in nats."""
        with full_precision(z):
            logits = self.out(z.float())
        return {
            "code": F.cross_entropy(logits.flatten(0, 1), hidden.ids[self.name].flatten(), reduction="none").view(
                z.shape[:2]
            )
        }
