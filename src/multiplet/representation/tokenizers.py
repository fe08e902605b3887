"""Tokenizers: each real point gets one id, and an id stands for one place in feature space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from multiplet.errors import RecipeError


@dataclass(frozen=True)
class Id:
    """A measured point column of whole numbers 0 … codes - 1 as the name of a token, as the sensor of a pulse."""

    column: str
    codes: int

    def __post_init__(self) -> None:
        if self.codes < 1:
            raise RecipeError(f"Id({self.column!r}).codes is {self.codes}; it must be at least 1")


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


Tokenizer = KMeans
