"""Tokenizers: each real point gets one id, and an id stands for one place in feature space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from multiplet.errors import RecipeError
from multiplet.representation.quantisers import FSQ, VQ


@dataclass(frozen=True)
class Id:
    """A measured point column of whole numbers 0 … codes - 1 as the name of a token, as the sensor of a pulse.

    `place` names the quantities that say where the thing is that a code stands for; they are found in the events that
    a representation is fitted on.
    """

    column: str
    codes: int
    place: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.codes < 1:
            raise RecipeError(f"Id({self.column!r}).codes is {self.codes}; it must be at least 1")


def places_of(one: Id, quantities: dict[str, Tensor], mask: Tensor) -> Float[Tensor, "codes C"]:
    """Where each code of an id is, NaN for those that no real point has; RecipeError where one is in two places."""
    if missing := [name for name in (one.column, *one.place) if name not in quantities]:
        raise RecipeError(f"Id asks for {missing}; there are {sorted(quantities)}")
    codes = quantities[one.column][mask].long()
    if len(codes) and not 0 <= int(codes.amin()) <= int(codes.amax()) < one.codes:
        raise RecipeError(
            f"{one.column} runs from {int(codes.amin())} to {int(codes.amax())}; Id allows 0 to {one.codes - 1}"
        )
    points = torch.stack([quantities[name][mask].float() for name in one.place], dim=-1)
    places = points.new_full((one.codes, len(one.place)), torch.nan)
    places[codes] = points
    away = (places[codes] - points).abs().amax(-1) if len(codes) else points.new_zeros(0)
    if bool((away > 1.0).any()):
        worst = int(away.argmax())
        raise RecipeError(
            f"{one.column} {int(codes[worst])} is in two places, {away[worst]:.1f} apart in {', '.join(one.place)}: "
            "are the events of one and the same detector?"
        )
    return places


@dataclass(frozen=True)
class KMeans:
    """The nearest of `codes` centroids of standardised target features, by scikit-learn's mini-batch k-means."""

    codes: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if self.codes < 2:
            raise RecipeError(f"KMeans.codes is {self.codes}; it must be at least 2")

    def build(self, channels: int) -> KMeansNet:
        """The tokenizer for points with this many channels."""
        return KMeansNet(self, channels)


class KMeansNet(nn.Module):
    """Centroids as a buffer (codes, C)."""

    centroids: Tensor

    def __init__(self, spec: KMeans, channels: int) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("centroids", torch.zeros(spec.codes, channels))

    @property
    def codes(self) -> int:
        """How many ids there are."""
        return self.spec.codes

    def fit(self, points: Float[Tensor, "n C"]) -> None:
        """Find the centroids of real, standardised points; RecipeError where there are fewer points than codes."""
        from sklearn.cluster import MiniBatchKMeans  # half a second to import, needed once

        if len(points) < self.codes:
            raise RecipeError(f"{len(points)} points cannot fill {self.codes} codes: lower KMeans.codes or add events")
        means = MiniBatchKMeans(
            self.codes, random_state=self.spec.seed, batch_size=4096, n_init=1, compute_labels=False
        )
        means.fit(points.cpu().numpy().astype(np.float64))
        self.centroids.copy_(torch.from_numpy(means.cluster_centers_))

    def encode(self, x: Float[Tensor, "B S C"]) -> Int[Tensor, "B S"]:
        """The nearest centroid of each point, by squared distance (|x|² is the same for all and left out)."""
        return (self.centroids.square().sum(-1) - 2 * (x @ self.centroids.T)).argmin(-1)

    def decode(self, ids: Int[Tensor, "B S"]) -> Float[Tensor, "B S C"]:
        """The centroid of each id."""
        return self.centroids[ids]


Tokenizer = KMeans | FSQ | VQ
