"""Matching: which query stands for which true track, and what its guess costs (arXiv 2005.12872, 2112.01527)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from multiplet.errors import RecipeError

_TINY = 1e-6
_ALPHA, _GAMMA = 0.25, 2  # of the focal loss (arXiv 1708.02002)


@dataclass(frozen=True)
class Weights:
    """What the parts count, in matching and loss alike: the kind of a matched query, dice, focal.

    `empty` is what the kind of a query without a track counts in the loss.
    """

    kind: float = 0.5
    empty: float = 0.1
    dice: float = 1.0
    focal: float = 30.0


def one_hot_tracks(track: Int[Tensor, "B S"], mask: Bool[Tensor, "B S"]) -> Float[Tensor, "B T S"]:
    """Which points are in each track of each event, in ascending order of the tracks' numbers; T of the largest event.

    Points that are padding, or whose number is below 0, are in none.
    """
    events, slots = track.shape
    number = torch.where(mask & (track >= 0), track.long(), -1)
    ordered, _ = number.sort(1)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    new &= ordered >= 0
    count = new.sum(1)
    most = int(count.max()) if events and slots else 0
    place = (new.cumsum(1) - 1).clamp(min=0)
    known = torch.full((events, most + 1), -2, dtype=torch.long, device=track.device)
    known.scatter_(1, torch.where(new, place, most), torch.where(new, ordered, -2))
    return (number[:, None] == known[:, :most, None]).float()


def track_losses(
    kind: Float[Tensor, "B Q 2"],
    owned: Float[Tensor, "B Q S"],
    tracks: Float[Tensor, "B T S"],
    mask: Bool[Tensor, "B S"],
    weigh: Weights,
) -> dict[str, Float[Tensor, " B"]]:
    """Sums over each event's pairs of a query and its track: "class", "dice" and "focal", weighed.

    Pairs make the sum of the same three parts least (Hungarian matching). Raises RecipeError where an event has more
    tracks than there are queries.
    """
    real = tracks.any(-1)  # tracks beyond an event's last are empty
    if tracks.shape[1] > kind.shape[1]:
        raise RecipeError(
            f"an event has {tracks.shape[1]} tracks, and there are {kind.shape[1]} queries: raise Tracks.queries"
        )
    sure, pairs = kind.log_softmax(-1), _pair_costs(owned, tracks, mask, weigh)
    query = _assign(_costs(kind, pairs, weigh), real)
    found = {
        name: value.gather(1, query[:, None]).squeeze(1).masked_fill(~real, 0.0).sum(1) for name, value in pairs.items()
    }
    taken = _taken(query, real, kind.shape[1])
    loss = torch.where(taken, -weigh.kind * sure[..., 1], -weigh.empty * sure[..., 0])
    return {"class": loss.sum(1), **found}


def matched(
    kind: Float[Tensor, "B Q 2"],
    owned: Float[Tensor, "B Q S"],
    tracks: Float[Tensor, "B T S"],
    mask: Bool[Tensor, "B S"],
    weigh: Weights,
) -> Bool[Tensor, "B Q"]:
    """Which queries stand for a track by the pairing of `track_losses`, which truth decides."""
    real, cost = tracks.any(-1), _costs(kind, _pair_costs(owned, tracks, mask, weigh), weigh)
    return _taken(_assign(cost, real), real, kind.shape[1])


def _taken(query: Int[Tensor, "B T"], real: Bool[Tensor, "B T"], queries: int) -> Bool[Tensor, "B Q"]:
    """Which of so many queries are that of a real track."""
    return torch.zeros(len(query), queries, device=query.device).scatter_add_(1, query, real.float()) > 0


@torch.no_grad()
def _costs(
    kind: Float[Tensor, "B Q 2"], pairs: Mapping[str, Float[Tensor, "B Q T"]], weigh: Weights
) -> Float[Tensor, "B Q T"]:
    """What the pairing makes least: nothing is learned through it."""
    return pairs["dice"] + pairs["focal"] - weigh.kind * kind.softmax(-1)[..., 1:]


def _pair_costs(
    owned: Float[Tensor, "B Q S"], tracks: Float[Tensor, "B T S"], mask: Bool[Tensor, "B S"], weigh: Weights
) -> dict[str, Float[Tensor, "B Q T"]]:
    """Dice and focal loss of every query with every track, weighed: sums over points are matrix products."""
    inside = mask[:, None].float()
    p = owned.sigmoid() * inside
    shared = p @ tracks.transpose(1, 2)
    dice = 1 - (2 * shared + _TINY) / (p.sum(-1)[..., None] + tracks.sum(-1)[:, None] + _TINY)
    if_in = _ALPHA * (1 - p) ** _GAMMA * -F.logsigmoid(owned) * inside
    if_out = (1 - _ALPHA) * p**_GAMMA * -F.logsigmoid(-owned) * inside
    focal = (if_in - if_out) @ tracks.transpose(1, 2) + if_out.sum(-1)[..., None]
    return {"dice": weigh.dice * dice, "focal": weigh.focal * (focal / inside.sum(-1, keepdim=True).clamp(min=1))}


def _assign(cost: Float[Tensor, "B Q T"], real: Bool[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """The query of each track, none twice; tracks that are not real get any. One copy to the CPU a stage."""
    numbers, counts = cost.nan_to_num(0.0).cpu().numpy(), real.sum(1).tolist()
    query = np.zeros(real.shape, np.int64)
    for event, tracks in enumerate(counts):
        rows, columns = linear_sum_assignment(numbers[event, :, :tracks])
        query[event, columns] = rows
    return torch.from_numpy(query).to(cost.device)
