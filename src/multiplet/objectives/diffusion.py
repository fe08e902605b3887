"""Diffusion: p(token | z) by predicting the noise in a noisy token (DDPM, arXiv 2006.11239; the head of 2406.11838).

x_t = √ᾱ_t x₀ + √(1 - ᾱ_t) ε with the cosine schedule of arXiv 2102.09672; the loss is the channel mean of (ε - ε̂)².
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from multiplet.dimensions import Width
from multiplet.draws import Draws
from multiplet.errors import RecipeError
from multiplet.heads import NoiseHead
from multiplet.layers import full_precision
from multiplet.parametrisation import Parametrisation
from multiplet.representation.tokens import Shape, Tokens

CONTEXT_FREE = "noise_without_context"


class Schedule(nn.Module):
    """ᾱ_t for t = 0 … T-1: ᾱ(s) = cos²((s + 0.008)/1.008 · π/2), β_i = min(1 - ᾱ((i+1)/T)/ᾱ(i/T), 0.999)."""

    kept: Tensor

    def __init__(self, steps: int) -> None:
        super().__init__()
        s = torch.arange(steps + 1, dtype=torch.float64) / steps
        ideal = torch.cos((s + 0.008) / 1.008 * math.pi / 2) ** 2
        self.steps = steps
        beta = (1 - ideal[1:] / ideal[:-1]).clamp(max=0.999)
        self.register_buffer("kept", torch.cumprod(1 - beta, 0), persistent=False)  # follows from T: not saved

    def noisy(self, x: Float[Tensor, "... c"], t: Int[Tensor, " ..."], noise: Float[Tensor, "... c"]) -> Tensor:
        """x_t from x₀ and ε."""
        kept = self.kept[t][..., None]
        return (kept.sqrt() * x + (1 - kept).sqrt() * noise).to(x.dtype)

    def clean(self, noisy: Float[Tensor, "... c"], t: Int[Tensor, " ..."], noise: Float[Tensor, "... c"]) -> Tensor:
        """x₀ from x_t and ε: the exact inverse of `noisy`."""
        kept = self.kept[t][..., None]
        return ((noisy - (1 - kept).sqrt() * noise) / kept.sqrt()).to(noisy.dtype)

    @property
    def unconditional(self) -> float:
        """The noise loss of the best predictor that knows only that x₀ ~ N(0, 1): mean_t ᾱ_t."""
        return float(self.kept.mean())


@dataclass(frozen=True)
class Diffusion:
    """A noise-predicting head of `depth` blocks; `width` None: that of the condition, growing with the model.

    `repeats` noisy copies of each token in training; `fixed_repeats`, stratified in t, in evaluation. `reference`
    trains a second head of the same size that sees a constant instead of the context: what the context is worth.
    """

    width: int | None = None
    depth: int = 3
    steps: int = 1000
    repeats: int = 4
    fixed_repeats: int = 16
    reference: bool = True

    def __post_init__(self) -> None:
        if min(self.depth, self.repeats, self.fixed_repeats) < 1 or self.steps < 2:
            raise RecipeError("Diffusion needs depth, repeats and fixed_repeats of at least 1 and at least 2 steps")

    def build(self, condition: Width, shape: Shape, param: Parametrisation) -> DiffusionNet:
        """The target for conditions of this width and tokens of this shape."""
        return DiffusionNet(self, condition, len(shape.targets), param)


class DiffusionNet(nn.Module):
    """Diffusion, running; in FP32 throughout, whatever the precision around it."""

    def __init__(self, spec: Diffusion, condition: Width, channels: int, param: Parametrisation) -> None:
        super().__init__()
        width = condition if spec.width is None else spec.width
        self.spec, self.channels = spec, channels
        self.schedule = Schedule(spec.steps)
        self.head = NoiseHead(channels, condition, width, spec.depth, param, spec.steps)
        self.reference = (
            NoiseHead(channels, condition, width, spec.depth, param, spec.steps) if spec.reference else None
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The losses it gives."""
        return ("noise", CONTEXT_FREE) if self.reference is not None else ("noise",)

    @property
    def references(self) -> dict[str, float]:
        """What a loss means nothing without."""
        return {"noise: predicting nothing": 1.0, "noise: best for N(0,1)": self.schedule.unconditional}

    def forward(self, z: Float[Tensor, "B P zd"], hidden: Tokens, draws: Draws) -> dict[str, Tensor]:
        """Losses (B, P) of predicting the tokens in `hidden` from z."""
        with full_precision(z):
            t, noise = self._draw(hidden, draws)
            x = hidden.targets["x"][:, :, None].expand_as(noise)
            noisy = self.schedule.noisy(x, t, noise)
            z = z.float()[:, :, None]
            losses = {"noise": self._loss(self.head(noisy, t, z), noise)}
            if self.reference is not None:  # one copy a token is enough to learn what no context can tell
                few = slice(None) if draws.fixed else slice(1)
                noisy, t, noise = noisy[:, :, few], t[:, :, few], noise[:, :, few]
                losses[CONTEXT_FREE] = self._loss(self.reference(noisy, t, torch.zeros_like(z[:1, :1])), noise)
        return losses

    @staticmethod
    def _loss(guess: Float[Tensor, "B P K c"], noise: Float[Tensor, "B P K c"]) -> Float[Tensor, "B P"]:
        return (guess - noise).square().mean((2, 3))

    def _draw(self, hidden: Tokens, draws: Draws) -> tuple[Int[Tensor, "B P K"], Float[Tensor, "B P K c"]]:
        repeats = self.spec.fixed_repeats if draws.fixed else self.spec.repeats
        u = draws.uniform("time", hidden.event, hidden.index, repeats)
        if draws.fixed:
            u = (u + torch.arange(repeats, device=u.device)) / repeats
        t = (u * self.schedule.steps).long().clamp(max=self.schedule.steps - 1)
        noise = draws.normal("noise", hidden.event, hidden.index, repeats * self.channels)
        return t, noise.unflatten(-1, (repeats, self.channels))

    @torch.no_grad()
    def sample(
        self, z: Float[Tensor, "B P zd"], hidden: Tokens, draws: Draws, steps: int = 100
    ) -> Float[Tensor, "B P c"]:
        """Draw tokens from p(x | z) by ancestral sampling on `steps` of the T times, evenly spaced from 0 to T-1.

        The head is given the original t, and x̂₀ is held within ±10, which is `Represent.clip` unless it is set.
        """
        if not 2 <= steps <= self.schedule.steps:
            raise RecipeError(f"sampling takes 2 to {self.schedule.steps} steps, not {steps}")
        times = [round(i * (self.schedule.steps - 1) / (steps - 1)) for i in range(steps)]
        kept = [float(self.schedule.kept[t]) for t in times]
        x = self._normal(hidden, draws.repeated(steps))
        for i in reversed(range(steps)):
            before = kept[i - 1] if i else 1.0
            t = torch.full(x.shape[:2], times[i], device=x.device)
            guess = self.head(x, t, z.float())
            clean = ((x - math.sqrt(1 - kept[i]) * guess) / math.sqrt(kept[i])).clamp(-10, 10)
            beta = 1 - kept[i] / before
            x = (math.sqrt(before) * beta * clean + math.sqrt(1 - beta) * (1 - before) * x) / (1 - kept[i])
            if i:
                spread = math.sqrt(beta * (1 - before) / (1 - kept[i]))
                x = x + spread * self._normal(hidden, draws.repeated(i))
        return x

    def _normal(self, hidden: Tokens, draws: Draws) -> Float[Tensor, "B P c"]:
        return draws.normal("sample", hidden.event, hidden.index, self.channels)
