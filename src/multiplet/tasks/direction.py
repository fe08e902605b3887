"""Direction: where an event came from, as a unit vector, with how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from multiplet.adapters import perceptron
from multiplet.draws import Draws
from multiplet.encoder import Encoder
from multiplet.errors import RecipeError
from multiplet.heads import event_vector
from multiplet.intervals import Measured
from multiplet.kinematics import angles, unit_vector
from multiplet.layers import full_precision
from multiplet.representation.tokens import Shape, Tokens
from multiplet.tasks.angle_scores import measure_angles
from multiplet.tasks.labels import event_label, require_truth


@dataclass(frozen=True)
class Angular:
    """The opening angle in rad, arccos of n·n̂ clipped to ±(1 - epsilon), of which the length of v says nothing."""

    weight: float = 1.0
    epsilon: float = 1e-4

    name = "angle"

    def __call__(self, v: Float[Tensor, "B 3"], n: Float[Tensor, "B 3"]) -> Float[Tensor, " B"]:
        """Of found vectors and true unit vectors."""
        cosine = (v * n).sum(-1) / (torch.linalg.vector_norm(v, dim=-1) + 1e-8)
        return self.weight * cosine.clamp(self.epsilon - 1, 1 - self.epsilon).arccos()


@dataclass(frozen=True)
class VonMisesFisher:
    """-ln of the von Mises-Fisher density on the sphere at n, with mean direction v/|v| and κ = |v|: ln 4π at κ = 0."""

    weight: float = 1.0

    name = "von_mises_fisher"

    def __call__(self, v: Float[Tensor, "B 3"], n: Float[Tensor, "B 3"]) -> Float[Tensor, " B"]:
        """Of found vectors and true unit vectors; in FP64, for at κ = 10⁵ most digits cancel, and at 10²⁰ κ² is inf."""
        wide = v.double()
        return self.weight * (log_normaliser((wide * wide).sum(-1)) - (wide * n).sum(-1)).to(v.dtype)


Loss = Angular | VonMisesFisher


def log_normaliser(square: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """-ln C₃(κ) = ln(4π sinh κ / κ) from κ², with its gradient, at any κ: a series below ½, and no sinh above."""
    small = square < 0.25
    series = square * (1 / 6 - square * (1 / 180 - square * (1 / 2835 - square / 37800)))
    kappa = torch.where(small, 1.0, square).sqrt()  # where the series is taken, the other must not spoil the gradient
    closed = kappa + torch.log1p(-torch.exp(-2 * kappa)) - torch.log(2 * kappa)
    return math.log(4 * math.pi) + torch.where(small, series, closed)


@dataclass(frozen=True)
class Direction:
    """A vector v from the encoder's outputs: v/|v| is where the event came from, and |v| how sure that is.

    `azimuth` and `zenith` are truth columns in rad; events where one is NaN have no label and are left out. The loss is
    the sum of `losses` with their weights; without VonMisesFisher |v| means nothing and is not predicted. Events with
    more points than `long` are measured apart as well, and classes of the truth column `by`, where there is one.
    """

    azimuth: str = "azimuth"
    zenith: str = "zenith"
    losses: tuple[Loss, ...] = (VonMisesFisher(),)
    long: int = 127
    by: str = "interaction"

    def __post_init__(self) -> None:
        names = [loss.name for loss in self.losses]
        if not names or len(set(names)) < len(names):
            raise RecipeError(f"Direction.losses are {names}: name one at least, and none twice")

    def build(self, encoder: Encoder, shape: Shape) -> DirectionNet:
        """The task for this encoder; RecipeError where the events have no such truth columns."""
        require_truth(shape, "Direction", azimuth=self.azimuth, zenith=self.zenith)
        return DirectionNet(self, encoder, shape.classes.get(self.by, ()))


class DirectionNet(nn.Module):
    """Direction, running: 4D² + 19D + 3 parameters."""

    references: dict[str, float] = {}  # noqa: RUF012
    bystanders: list[nn.Module] = []  # noqa: RUF012

    def __init__(self, spec: Direction, encoder: Encoder, classes: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.spec, self.classes = spec, classes
        self.names = tuple(loss.name for loss in spec.losses)
        self.truth = (spec.azimuth, spec.zenith, *((spec.by,) if classes else ()))
        self.out = perceptron(encoder.width, encoder.width * 4, 3, encoder.param)

    def _labelled(self, tokens: Tokens) -> tuple[Float[Tensor, "B 3"], Bool[Tensor, " B"]]:
        """True unit vectors, and which events have one."""
        label = torch.stack([event_label(tokens, name) for name in (self.spec.azimuth, self.spec.zenith)], -1)
        return unit_vector(*label.nan_to_num(0.0).unbind(-1)), ~label.isnan().any(-1)

    def weights(self, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, " B"]]:
        """1 for labelled events with at least one point, else 0."""
        return dict.fromkeys(self.names, (self._labelled(tokens)[1] & tokens.mask.any(1)).float())

    def forward(self, encoder: Encoder, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, " B"]]:
        v, (n, _) = self.vector(encoder, tokens), self._labelled(tokens)
        return {loss.name: loss(v, n) for loss in self.spec.losses}

    def vector(self, encoder: Encoder, tokens: Tokens) -> Float[Tensor, "B 3"]:
        """v, in FP32."""
        hidden = encoder(tokens)
        with full_precision(hidden.points):
            v: Tensor = self.out(event_vector(hidden))
            return v

    def predict(self, encoder: Encoder, tokens: Tokens) -> dict[str, Float[Tensor, " B"]]:
        """`found_azimuth` and `found_zenith` in rad, and `kappa`, |v|, where the loss gives it a meaning."""
        v = self.vector(encoder, tokens)
        azimuth, zenith = angles(v)
        found = {f"found_{self.spec.azimuth}": azimuth, f"found_{self.spec.zenith}": zenith}
        sure = {"kappa": torch.linalg.vector_norm(v, dim=-1)} if VonMisesFisher.name in self.names else {}
        return found | sure

    def measure(self, table: Mapping[str, np.ndarray]) -> Measured:
        """As `measure_angles`."""
        spec = self.spec
        return measure_angles(table, spec.azimuth, spec.zenith, spec.long, spec.by, self.classes)
