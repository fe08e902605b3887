"""Tokenizers that are trained: an autoencoder whose middle is one of finitely many codes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from multiplet.errors import RecipeError
from multiplet.layers import full_precision


@dataclass(frozen=True)
class FSQ:
    """Finite scalar quantisation (arXiv 2309.15505): a few numbers, each rounded to one of its `levels`.

    Codes are all combinations, 1000 by default. Only the autoencoder is trained: two networks `hidden` wide, by Adam on
    squared errors of standardised features.
    """

    levels: tuple[int, ...] = (8, 5, 5, 5)
    hidden: int = 64
    steps: int = 2000
    rate: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self)
        if not self.levels or min(self.levels) < 3:
            raise RecipeError(f"FSQ.levels is {self.levels}; it takes numbers of at least 3, such as 8,5,5,5")

    @property
    def codes(self) -> int:
        """How many ids there are."""
        return math.prod(self.levels)

    @property
    def size(self) -> int:
        """How many numbers are rounded."""
        return len(self.levels)

    def build(self, channels: int) -> CodedNet:
        """The tokenizer for points with this many channels."""
        return CodedNet(self, channels)

    def quantiser(self) -> Rounding:
        """What stands in the middle during the fit."""
        return Rounding(self.levels)

    def nearest(self, z: Float[Tensor, "... z"], codebook: Float[Tensor, "codes z"]) -> Int[Tensor, " ..."]:
        """The id of what `z` is rounded to: its digits, the first of which runs fastest."""
        levels = torch.tensor(self.levels, device=z.device)
        digits = _bound(z, levels).round().long() + levels // 2
        return (digits * F.pad(levels.cumprod(0)[:-1], (1, 0), value=1)).sum(-1)


@dataclass(frozen=True)
class VQ:
    """Vector quantisation (arXiv 1711.00937): the nearest of `codes` vectors of `size` numbers, which are learned.

    Codes start at k-means and follow the means of what is nearest to them; a code that nothing is near is moved. The
    autoencoder is as in FSQ.
    """

    codes: int = 512
    size: int = 8
    hidden: int = 64
    steps: int = 2000
    rate: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self)
        if self.codes < 2 or self.size < 1:
            raise RecipeError(f"VQ needs at least 2 codes and a size of at least 1; given: {self}")

    def build(self, channels: int) -> CodedNet:
        """The tokenizer for points with this many channels."""
        return CodedNet(self, channels)

    def quantiser(self) -> Learned:
        """What stands in the middle during the fit."""
        return Learned(self.codes, self.size)

    def nearest(self, z: Float[Tensor, "... z"], codebook: Float[Tensor, "codes z"]) -> Int[Tensor, " ..."]:
        """The id of the code nearest to `z`."""
        return (codebook.square().sum(-1) - 2 * (z @ codebook.T)).argmin(-1)


class CodedNet(nn.Module):
    """FSQ or VQ, running: the two networks and the codebook (codes, z) as buffers."""

    codebook: Tensor

    def __init__(self, spec: FSQ | VQ, channels: int) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("codebook", torch.zeros(spec.codes, spec.size))
        sizes = (channels, spec.hidden, spec.hidden, spec.size)
        for name, widths in (("enter", sizes), ("leave", sizes[::-1])):
            for n in range(3):  # the last column is the bias
                self.register_buffer(f"{name}_{n}", torch.zeros(widths[n + 1], widths[n] + 1))

    @property
    def codes(self) -> int:
        """How many ids there are."""
        return self.spec.codes

    def fit(self, points: Float[Tensor, "n C"]) -> None:
        """Train on real, standardised points; RecipeError where they are fewer than codes, or the fit diverges."""
        kind = type(self.spec).__name__
        if len(points) < self.codes:
            raise RecipeError(
                f"{len(points)} points cannot fill {self.codes} codes of {kind}: take fewer, or add events"
            )
        batch = max(1024, 4 * self.codes)
        with torch.enable_grad(), torch.random.fork_rng(devices=[points.device] if points.is_cuda else []):
            torch.manual_seed(self.spec.seed)
            maps = {name: _first(value) for name, value in self.named_buffers() if name != "codebook"}
            quantiser = self.spec.quantiser().to(points.device)
            adam = torch.optim.Adam(maps.values(), lr=self.spec.rate)
            for step in range(self.spec.steps):
                adam.param_groups[0]["lr"] = self.spec.rate * 0.5 * (1 + math.cos(math.pi * step / self.spec.steps))
                x = points[torch.randint(len(points), (batch,), device=points.device)]
                coded, extra = quantiser(_through("enter", x, maps))
                loss = (_through("leave", coded, maps) - x).square().mean() + extra
                adam.zero_grad()
                loss.backward()
                adam.step()
        if not bool(loss.isfinite()):
            raise RecipeError(f"the fit of {kind} diverged: set a lower rate than {self.spec.rate}")
        for name, value in {**maps, "codebook": quantiser.codebook()}.items():
            self.get_buffer(name).copy_(value.detach())

    def encode(self, x: Float[Tensor, "... C"]) -> Int[Tensor, " ..."]:
        """The id of each point."""
        with full_precision(x):
            return self.spec.nearest(_through("enter", x.float(), dict(self.named_buffers())), self.codebook)

    def decode(self, ids: Int[Tensor, " ..."]) -> Float[Tensor, "... C"]:
        """The point that each id stands for."""
        return _through("leave", self.codebook[ids], dict(self.named_buffers()))


class Rounding(nn.Module):
    """FSQ's: numbers between -1 and 1, rounded; gradients pass as if they were not."""

    levels: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("levels", torch.tensor(levels))

    def forward(self, z: Float[Tensor, "n z"]) -> tuple[Float[Tensor, "n z"], Float[Tensor, ""]]:
        bound = _bound(z, self.levels)
        return (bound + (bound.round() - bound).detach()) / (self.levels // 2), z.new_zeros(())

    def codebook(self) -> Float[Tensor, "codes z"]:
        """All combinations, in the order of their ids."""
        place = F.pad(self.levels.cumprod(0)[:-1], (1, 0), value=1)
        digits = torch.arange(int(self.levels.prod()), device=place.device)[:, None] // place % self.levels
        return (digits - self.levels // 2) / (self.levels // 2)


class Learned(nn.Module):
    """VQ's, of the package vector-quantize-pytorch: needed for the fit alone, not to load or use what it learned."""

    def __init__(self, codes: int, size: int) -> None:
        from vector_quantize_pytorch import VectorQuantize  # two seconds to import, needed once

        super().__init__()
        self.inner = VectorQuantize(
            size, codes, decay=0.99, kmeans_init=True, threshold_ema_dead_code=2, commitment_weight=0.25
        )

    def forward(self, z: Float[Tensor, "n z"]) -> tuple[Float[Tensor, "n z"], Float[Tensor, ""]]:
        coded, _, loss = self.inner(z[None])
        return coded[0], loss.sum()

    def codebook(self) -> Float[Tensor, "codes z"]:
        """The codes, in the order of their ids."""
        return self.inner.codebook


def _bound(z: Float[Tensor, "... z"], levels: Int[Tensor, " z"]) -> Float[Tensor, "... z"]:
    """What FSQ rounds: each number between -(levels // 2) and (levels - 1) // 2."""
    half, middle = (levels - 1) * 1.001 / 2, torch.where(levels % 2 == 0, 0.5, 0.0)
    return torch.tanh(z + torch.atanh(middle / half)) * half - middle


def _first(matrix: Tensor) -> Tensor:
    fresh = torch.randn_like(matrix) / math.sqrt(matrix.shape[1] - 1)
    fresh[:, -1] = 0.0
    return fresh.requires_grad_()


def _through(name: str, x: Tensor, maps: Mapping[str, Tensor]) -> Tensor:
    for n in range(3):
        matrix = maps[f"{name}_{n}"]
        x = F.linear(x if n == 0 else F.silu(x), matrix[:, :-1], matrix[:, -1])
    return x


def _check(spec: FSQ | VQ) -> None:
    if spec.hidden < 1 or spec.steps < 1 or spec.rate <= 0:
        raise RecipeError(f"{type(spec).__name__} needs hidden and steps of at least 1 and rate above 0; given: {spec}")
