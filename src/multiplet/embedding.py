"""Embedding: what of a token becomes which vector, and how the parts of it are joined."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from multiplet.dimensions import Width, declare
from multiplet.errors import RecipeError
from multiplet.layers import Linear, full_precision
from multiplet.parametrisation import Parametrisation
from multiplet.spec import did_you_mean


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
        return FourierNet(self, columns, width, param)


class FourierNet(nn.Module):
    """Fourier, running: the Gaussian vectors are a buffer, (F - P + P (1 + 2 bands), D)."""

    vectors: Tensor
    places: Tensor
    others: Tensor
    frequency: Tensor

    def __init__(self, spec: Fourier, columns: tuple[str, ...], width: Width, param: Parametrisation) -> None:
        super().__init__()
        places = [columns.index(name) for name in spec.places]
        others = [n for n in range(len(columns)) if n not in places]
        rows = len(others) + len(places) * (1 + 2 * spec.bands)
        self.multiplier = param.multiplier(declare(rows, width))
        self.register_buffer("vectors", torch.randn(rows, int(width)))
        for name, numbers in (("places", places), ("others", others)):  # on the device, not copied there each time
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.long), persistent=False)
        self.register_buffer("frequency", 2.0 ** torch.arange(spec.bands), persistent=False)

    def forward(self, x: Float[Tensor, "B S F"]) -> Float[Tensor, "B S D"]:
        p = x[..., self.places]
        angle = (p[..., None] * self.frequency).flatten(-2)
        y = torch.cat([x[..., self.others], p, angle.sin(), angle.cos()], dim=-1) @ self.vectors
        return y if self.multiplier == 1.0 else y * self.multiplier


@dataclass(frozen=True)
class Sum:
    """Every part of the embedding is as wide as the encoder, and they are added."""

    def widths(self, parts: tuple[str, ...], width: Width) -> dict[str, Width]:
        """How many entries each part has."""
        return dict.fromkeys(parts, width)

    def __call__(self, parts: list[Float[Tensor, "B S _"]]) -> Float[Tensor, "B S D"]:
        """FP32, as the residual stream is."""
        return torch.stack([part.float() for part in parts]).sum(0)


@dataclass(frozen=True)
class Concatenate:
    """The parts stand beside each other: each has `share` of the entries, and "x" those that are left.

    PolarBERT's embedding: 128 of 256 entries say which sensor, the other 128 what it measured.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise RecipeError(f"Concatenate.share is {self.share}; it must lie between 0 and 1")

    def widths(self, parts: tuple[str, ...], width: Width) -> dict[str, Width]:
        """How many entries each part has; RecipeError where none are left for "x"."""
        own = width * self.share
        left = Width(width - own * (len(parts) - 1), width.ratio)
        if left < 1 or own < 1:
            raise RecipeError(
                f"Concatenate.share {self.share} of {int(width)} for each of {[p for p in parts if p != 'x']} leaves "
                f"{int(left)} entries for the features: change the share, or raise the width"
            )
        return {part: left if part == "x" else own for part in parts}

    def __call__(self, parts: list[Float[Tensor, "B S _"]]) -> Float[Tensor, "B S D"]:
        """FP32, as the residual stream is."""
        return torch.cat([part.float() for part in parts], dim=-1)


@dataclass(frozen=True)
class Where:
    """Adds to the learned vector of each code a linear map of where it is: sines and cosines of its coordinates.

    Wavelengths fall from `longest`, in the unit of the coordinates, by factors of 2. So sensors beside each other begin
    with vectors that are alike. Places are those that `Id.place` keeps; a code in an unknown place has its own alone.
    """

    longest: float = 4000.0
    bands: int = 8

    def __post_init__(self) -> None:
        if self.longest <= 0 or self.bands < 1:
            raise RecipeError(f"Where.longest must be above 0, bands at least 1; they are {self.longest}, {self.bands}")

    def build(self, coordinates: int, width: Width, param: Parametrisation) -> WhereNet:
        """(V, C) → (V, width)."""
        return WhereNet(self, coordinates, width, param)


class WhereNet(nn.Module):
    """Where, running."""

    frequency: Tensor

    def __init__(self, spec: Where, coordinates: int, width: Width, param: Parametrisation) -> None:
        super().__init__()
        frequency = 2 * torch.pi / spec.longest * 2.0 ** torch.arange(spec.bands)
        self.register_buffer("frequency", frequency, persistent=False)
        self.map = Linear(2 * spec.bands * coordinates, width, param, bias=False)

    def forward(self, places: Float[Tensor, "V C"]) -> Float[Tensor, "V W"]:
        angle = (places.nan_to_num()[..., None] * self.frequency).flatten(1)
        with full_precision(places):  # as in the objective that compares with these vectors
            return self.map(torch.cat([angle.sin(), angle.cos()], -1)) * places.isfinite().all(1, keepdim=True)
