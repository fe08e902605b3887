"""Features: a measured quantity brought to order one, and back."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from multiplet.errors import RecipeError


@dataclass(frozen=True)
class Identity:
    """x as it is."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def inverse(self, y: Tensor) -> Tensor:
        return y


@dataclass(frozen=True)
class Log:
    """ln max(x, floor); exact inverse above the floor."""

    floor: float = 1e-8

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=self.floor).log()

    def inverse(self, y: Tensor) -> Tensor:
        return y.exp()


@dataclass(frozen=True)
class SymLog:
    """sign(x) ln(1 + |x|/scale): linear below the scale, logarithmic above; for heavy tails on both sides."""

    scale: float = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return x.sign() * torch.log1p(x.abs() / self.scale)

    def inverse(self, y: Tensor) -> Tensor:
        return y.sign() * torch.expm1(y.abs()) * self.scale


@dataclass(frozen=True)
class Tanh:
    """tanh(x/scale): bounded; float32 cannot undo it beyond about 8 scales, and 1 and more come back as that."""

    scale: float = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / self.scale)

    def inverse(self, y: Tensor) -> Tensor:
        inside = 1 - 2.0**-24  # the largest float32 below 1; what a model predicts may lie beyond
        return torch.atanh(y.clamp(-inside, inside)) * self.scale


Transform = Identity | Log | SymLog | Tanh


@dataclass(frozen=True)
class Fitted:
    """Mean and standard deviation of the real points of the first training events."""


@dataclass(frozen=True)
class Published:
    """Mean and standard deviation as somebody published them."""

    mean: float
    std: float

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise RecipeError(f"Published.std is {self.std}; it must be above 0")


BIT = Published(0.5, 0.5)  # flags 0 and 1 become -1 and +1


@dataclass(frozen=True)
class Feature:
    """y = (f(quantity) - mean) / std. `quantity` names a column of the events or one derived from them."""

    quantity: str
    transform: Transform = field(default_factory=Identity)
    scale: Fitted | Published = field(default_factory=Fitted)
    unit: str = ""

    @property
    def name(self) -> str:
        """What the column is called: the quantity, and the transform where there is one."""
        kind = type(self.transform).__name__.lower()
        return self.quantity if kind == "identity" else f"{kind}_{self.quantity}"


class Standardiser(torch.nn.Module):
    """A list of features as one map between physical units and order one, with its fitted numbers as buffers."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: tuple[Feature, ...], clip: float) -> None:
        super().__init__()
        self.features, self.clip = features, clip
        published = [f.scale if isinstance(f.scale, Published) else Published(0.0, 1.0) for f in features]
        self.register_buffer("mean", torch.tensor([p.mean for p in published]))
        self.register_buffer("std", torch.tensor([p.std for p in published]))

    def forward(self, quantities: dict[str, Tensor]) -> Tensor:
        """Named physical quantities, each (...), as (..., F) of order one, cut off at ±clip."""
        y = (self._transformed(quantities) - self.mean) / self.std
        return y.masked_fill(~y.isfinite(), torch.nan).clamp(
            -self.clip, self.clip
        )  # an infinity must not pass for ±clip

    def inverse(self, x: Tensor) -> dict[str, Tensor]:
        """(..., F) back to physical units, by column name; what was cut off at ±clip stays there."""
        y = x * self.std + self.mean
        return {f.name: f.transform.inverse(y[..., n]) for n, f in enumerate(self.features)}

    def fit(self, quantities: dict[str, Tensor], mask: Tensor) -> None:
        """Set mean and spread of the fitted features from the points where `mask` is True."""
        if not self.features:
            return
        y = self._transformed(quantities)[mask].double()
        if not len(y) or not bool(torch.isfinite(y).all()):
            bad = [f.name for n, f in enumerate(self.features) if not bool(torch.isfinite(y[..., n]).all())]
            raise RecipeError(f"cannot standardise: no real point, or values that are not finite in {bad}")
        spread = y.std(0, correction=0)
        for n, feature in enumerate(self.features):
            if isinstance(feature.scale, Fitted):
                self.mean[n] = y[:, n].mean()
                self.std[n] = spread[n] if spread[n] > 1e-8 else 1.0  # a constant column carries nothing: leave it

    def _transformed(self, quantities: dict[str, Tensor]) -> Tensor:
        if missing := [f.quantity for f in self.features if f.quantity not in quantities]:
            raise RecipeError(
                f"features ask for {', '.join(missing)}, which the events do not have (they have "
                f"{', '.join(sorted(quantities))}): convert them with it, or take features that they allow"
            )
        columns = [f.transform.forward(quantities[f.quantity].to(self.mean.dtype)) for f in self.features]
        return torch.stack(columns, dim=-1) if columns else self.mean.new_zeros((*_shape(quantities), 0))


def _shape(quantities: dict[str, Tensor]) -> torch.Size:
    return next(iter(quantities.values())).shape if quantities else torch.Size()
