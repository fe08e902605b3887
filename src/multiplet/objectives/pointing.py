"""Pointing: name a hidden sensor by pointing at pulses that are seen, and at the neighbours of their sensors.

What was hit at nearly the same time nearby says most about where a pulse was. A softmax over thousands of sensors has
to learn that for each of them, a pointer (arXiv 1506.03134) once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from multiplet.dimensions import Width
from multiplet.errors import RecipeError
from multiplet.layers import Linear
from multiplet.parametrisation import Parametrisation

_KEY = 32  # numbers that a pulse and a pointer at it are compared by
_LEAST = 1e-12  # of a probability


@dataclass(frozen=True)
class Pointing:
    """p = g · softmax + (1 - g) · Σ over seen pulses of (share of the pulse) · (share of a neighbour of its sensor).

    Shares and g come from the hidden token; of its sensor each seen pulse offers the `neighbours` nearest (itself the
    first), and the `pulses` with the largest scores count.
    """

    neighbours: int = 20
    pulses: int = 64

    def __post_init__(self) -> None:
        if self.neighbours < 1 or self.pulses < 1:
            raise RecipeError(
                f"Pointing.neighbours and pulses must be at least 1; they are {self.neighbours}, {self.pulses}"
            )

    def build(self, width: Width, param: Parametrisation) -> PointingNet:
        """The network for outputs of an encoder of this width."""
        return PointingNet(self, width, param)


class PointingNet(nn.Module):
    """Pointing, running."""

    def __init__(self, spec: Pointing, width: Width, param: Parametrisation) -> None:
        super().__init__()
        self.spec = spec
        self.query, self.key = (Linear(width, _KEY, param, bias=True) for _ in range(2))
        self.spread, self.gate = (Linear(width, out, param, bias=True) for out in (spec.neighbours, 1))
        self._near: tuple[Tensor, Tensor] | None = None  # places and what `near` gave for them: they never change

    def forward(
        self,
        logits: Float[Tensor, "n V"],
        points: Float[Tensor, "B S D"],
        ids: Int[Tensor, "B S"],
        hide: Bool[Tensor, "B S"],
        seen: Bool[Tensor, "B S"],
        places: Float[Tensor, "V C"],
    ) -> Float[Tensor, "n V"]:
        """The logarithm of the mixture for each hidden token; `logits` alone where nothing is seen."""
        h, event = points[hide], hide.nonzero()[:, 0]
        scores = (self.query(points) @ self.key(points).transpose(1, 2))[hide] * _KEY**-0.5
        scores = scores.masked_fill(~seen[event], -torch.inf)
        scores, at = scores.topk(min(self.spec.pulses, scores.shape[1]), dim=1)
        some = seen[event].any(1, keepdim=True)
        share = scores.masked_fill(~some, 0.0).softmax(1)
        near = self.near(places)[ids[event].gather(1, at)]  # (n, pulses, neighbours)
        offered = share[..., None] * self.spread(h)[:, : near.shape[-1]].softmax(-1)[:, None]
        pointed = torch.zeros_like(logits).scatter_add(1, near.flatten(1), offered.flatten(1))
        gate = torch.where(some, self.gate(h).sigmoid(), 1.0)
        return (gate * logits.softmax(1) + (1 - gate) * pointed).clamp(min=_LEAST).log()

    @torch.no_grad()
    def near(self, places: Float[Tensor, "V C"]) -> Int[Tensor, "V neighbours"]:
        """The nearest sensors of each, itself the first; one in an unknown place is near itself alone."""
        if self._near is None or self._near[0] is not places:
            known = places.isfinite().all(1)
            where = places.double().masked_fill(~known[:, None], 1e12)
            apart = torch.cdist(where, where).fill_diagonal_(-1.0)
            near = apart.topk(min(self.spec.neighbours, len(places)), largest=False).indices
            own = torch.arange(len(places), device=places.device)[:, None]
            self._near = places, torch.where(known[:, None], near, own)
        return self._near[1]
