"""Next neighbours: from a point and all before it in the sequence, predict its k nearest among the points further out.

FM4NPP's pretraining (arXiv 2508.14087): a track continues outwards, so the nearest points at larger radius are where
the particle goes next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from multiplet.draws import FIXED, Draws
from multiplet.encoder import Encoder
from multiplet.errors import RecipeError
from multiplet.intervals import Measured
from multiplet.layers import Linear, full_precision
from multiplet.objectives.event_losses import event_losses, means
from multiplet.representation.orders import sort
from multiplet.representation.tokens import Shape, Tokens, gather
from multiplet.spec import did_you_mean

CONTEXT_FREE = "next_neighbours, point alone"
_BLOCK = {"cpu": 1 << 17, "cuda": 1 << 22}  # distances at a time: a core's cache; not tuned on a GPU


@dataclass(frozen=True)
class NextNeighbours:
    """Regress the standardised coordinates of the `k` next neighbours of each point, nearest first.

    Candidates are the points later by `after`, equal ones by the other coordinates in turn ("": later in the sequence).
    `periods` are those of the coordinates where they wrap, in standardised units, 0 where they do not; `relative`
    predicts differences to the point itself. Losses are means over an event, or with `by_point` over all points of a
    batch, as published. `reference` trains beside it a head that sees the point itself and nothing before it.

    It is meant for causal encoders: one that sees the whole event (`Transformer`, `bidirectional`) finds the answer
    among what it is given.
    """

    k: int = 30
    coordinates: tuple[str, ...] = ("eta", "phi", "r")
    after: str = "r"
    periods: tuple[float, ...] = ()
    relative: bool = False
    by_point: bool = False
    reference: bool = True

    def __post_init__(self) -> None:
        if self.k < 1 or not self.coordinates:
            raise RecipeError("NextNeighbours needs k of at least 1 and at least one coordinate")
        if self.periods and len(self.periods) != len(self.coordinates):
            raise RecipeError(
                f"NextNeighbours.periods has {len(self.periods)} entries for {len(self.coordinates)} coordinates"
            )
        if self.after and self.after not in self.coordinates:
            raise RecipeError(f"NextNeighbours.after is {self.after!r} ({did_you_mean(self.after, self.coordinates)})")

    def build(self, encoder: Encoder, shape: Shape) -> NextNeighboursNet:
        """The objective for this encoder; RecipeError where a coordinate is no target of the representation."""
        if missing := [name for name in self.coordinates if name not in shape.targets]:
            raise RecipeError(
                f"NextNeighbours.coordinates: {missing[0]!r} is no target of the representation "
                f"({did_you_mean(missing[0], shape.targets)})"
            )
        return NextNeighboursNet(self, encoder, shape)


class NextNeighboursNet(nn.Module):
    """NextNeighbours, running: one linear map from each token's output to k coordinates."""

    references: dict[str, float] = {}  # noqa: RUF012
    at: Tensor

    def __init__(self, spec: NextNeighbours, encoder: Encoder, shape: Shape) -> None:
        super().__init__()
        self.spec = spec
        at = torch.tensor([shape.targets.index(name) for name in spec.coordinates])
        self.register_buffer("at", at, persistent=False)
        numbers = spec.k * len(self.at)
        self.out = Linear(encoder.width, numbers, encoder.param, bias=True, zero=encoder.param.zero_readout)
        self.alone: nn.Sequential | None = None
        if spec.reference:
            first = Linear(len(self.at), 256, encoder.param, bias=True)
            self.alone = nn.Sequential(first, nn.SiLU(), Linear(256, numbers, encoder.param, bias=True))

    @property
    def names(self) -> tuple[str, ...]:
        """The losses it gives."""
        return ("next_neighbours", CONTEXT_FREE) if self.alone is not None else ("next_neighbours",)

    @property
    def bystanders(self) -> list[nn.Module]:
        """The head that sees the point alone."""
        return [self.alone] if self.alone is not None else []

    @property
    def truth(self) -> tuple[str, ...]:
        """Nothing of the truth is looked at."""
        return ()

    def weights(self, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, " B"]]:
        """1 for events with a neighbour to predict, or with `by_point` the number of neighbours; else 0."""
        pairs = _pairs(tokens.mask.sum(1), self.spec.k)
        weight = pairs if self.spec.by_point else pairs.clamp(max=1)
        return dict.fromkeys(self.names, weight.float())

    def forward(self, encoder: Encoder, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, " B"]]:
        hidden = encoder(tokens)
        targets, valid = self.targets(tokens)
        with full_precision(tokens.x):
            losses = {"next_neighbours": self._loss(self.out(hidden.points.float()), targets, valid)}
            if self.alone is not None:
                losses[CONTEXT_FREE] = self._loss(self.alone(tokens.targets["x"][..., self.at]), targets, valid)
        return losses

    @torch.no_grad()
    def targets(self, tokens: Tokens) -> tuple[Float[Tensor, "B S k C"], Bool[Tensor, "B S k"]]:
        """Coordinates of the neighbours of each token, nearest first, and which there are."""
        points = tokens.targets["x"][..., self.at].float()
        places = None
        if self.spec.after:
            first = self.spec.coordinates.index(self.spec.after)
            rest = [n for n in range(len(self.at)) if n != first]
            places = sort(tuple(points[..., n] for n in (first, *reversed(rest))), tokens.mask)
        ordered = points if places is None else gather(points, places)
        neighbours, valid = next_neighbours(ordered, tokens.mask.sum(1), self.spec.k, self.spec.periods)
        found = gather(ordered, neighbours.flatten(1)).unflatten(1, neighbours.shape[1:])
        if self.spec.relative:
            found = _wrapped(found - ordered[:, :, None], self.spec.periods)
        if places is None:
            return found, valid
        back = places.argsort(1)
        return gather(found.flatten(2), back).view_as(found), gather(valid, back)

    @staticmethod
    def _loss(
        guess: Float[Tensor, "B S n"], targets: Float[Tensor, "B S k C"], valid: Bool[Tensor, "B S k"]
    ) -> Float[Tensor, " B"]:
        """The mean over an event's neighbours and their coordinates; 0 where there is none."""
        error = (guess.view_as(targets) - targets).square().mean(-1)
        count = valid.sum((1, 2)).clamp(min=1)
        return error.masked_fill(~valid, 0.0).sum((1, 2)) / count

    def predict(self, encoder: Encoder, tokens: Tokens) -> dict[str, Float[Tensor, " B"]]:
        """The losses of each event (B,); NaN where there is no neighbour to predict."""
        return event_losses(self(encoder, tokens, FIXED), self.weights(tokens, FIXED), tokens)

    def measure(self, table: Mapping[str, np.ndarray]) -> Measured:
        """Mean losses with 68 % bootstrap intervals, over the events that have a neighbour to predict."""
        return Measured(means(table, self.names))


def _pairs(points: Int[Tensor, " B"], k: int) -> Int[Tensor, " B"]:
    """How many neighbours all points of an event have together: the last has none, the one before it one, …"""
    short = (points - 1).clamp(min=0, max=k)
    return short * (short + 1) // 2 + (points - 1 - k).clamp(min=0) * k


def next_neighbours(
    points: Float[Tensor, "B N C"], counts: Int[Tensor, " B"], k: int, periods: tuple[float, ...] = ()
) -> tuple[Int[Tensor, "B N k"], Bool[Tensor, "B N k"]]:
    """For each point, its k nearest among those in later rows by Euclidean distance, nearest first, and which exist.

    Rows from `counts` on are padding. Distances are computed in blocks of rows, against later rows only, so memory is
    bounded and half of the pairs are never looked at.
    """
    events, rows, _ = points.shape
    found = points.new_zeros((events, rows, k), dtype=torch.long)
    valid = torch.zeros((events, rows, k), dtype=torch.bool, device=points.device)
    columns = points.unbind(-1)
    place, most = torch.arange(rows, device=points.device), _BLOCK.get(points.device.type, _BLOCK["cpu"])
    padded = place >= counts[:, None]
    start = 0
    while start < rows - 1:
        stop = min(start + max(1, most // max(events * (rows - start), 1)), rows - 1)
        distance = _distances(columns, start, stop, periods)
        distance.masked_fill_(padded[:, None, start + 1 :], torch.inf)
        if stop - start > 1:  # a candidate comes after the point itself
            distance.masked_fill_(place[start + 1 :] <= place[start:stop, None], torch.inf)
        # The bits of a float that is not negative rise with it: distance and place in one number, so that ties are
        # decided by the place, on every device.
        keys = (distance.view(torch.int32).long() << 32) + place[start + 1 :]
        nearest = _smallest(keys, min(k, rows - start - 1))
        here = slice(0, nearest.shape[-1])
        found[:, start:stop, here] = nearest & 0xFFFFFFFF
        valid[:, start:stop, here] = nearest < _INFINITE
        start = stop
    valid &= ~padded[..., None]
    return found.masked_fill_(~valid, 0), valid


_INFINITE = 0x7F800000 << 32  # the key of an infinite distance


def _smallest(keys: Int[Tensor, "B R n"], k: int) -> Int[Tensor, "B R k"]:
    """The k smallest of each row, in order; numpy partitions whole numbers several times faster than torch on a CPU."""
    if keys.device.type != "cpu":
        return keys.topk(k, dim=-1, largest=False, sorted=True).values
    numbers = keys.numpy()
    if k < numbers.shape[-1]:
        numbers.partition(k - 1, axis=-1)
    chosen = numbers[..., :k].copy()
    chosen.sort(axis=-1)
    return torch.from_numpy(chosen)


def _distances(columns: tuple[Tensor, ...], start: int, stop: int, periods: tuple[float, ...]) -> Tensor:
    """Squared distances (B, stop - start, N - start - 1) of some points to all after the first of them."""
    total: Tensor | None = None
    for axis, column in enumerate(columns):
        step = column[:, None, start + 1 :] - column[:, start:stop, None]
        if periods and periods[axis]:
            step = step - periods[axis] * (step / periods[axis]).round()
        total = step.square_() if total is None else total.addcmul_(step, step)
    assert total is not None
    return total


def _wrapped(steps: Float[Tensor, "... C"], periods: tuple[float, ...]) -> Tensor:
    """Differences of coordinates in [-period/2, period/2] where there is a period."""
    if not any(periods):
        return steps
    period = steps.new_tensor(periods)
    return torch.where(period > 0, steps - period * (steps / period.clamp(min=1e-12)).round(), steps)
