"""Tracks: group the points of an event into tracks, as many as there are, by learned queries that each claim one.

Mask classification with masked attention and Hungarian matching (arXiv 2112.01527), as FM4NPP's track adapter has it
(arXiv 2508.14087): light, on top of an encoder that may stay frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from multiplet.adapters import Attention, LayerMix, perceptron
from multiplet.dimensions import declare_vector
from multiplet.draws import Draws
from multiplet.encoder import Encoder
from multiplet.errors import RecipeError
from multiplet.intervals import Measured
from multiplet.layers import LayerNorm, full_precision
from multiplet.parametrisation import Parametrisation
from multiplet.representation.tokens import Shape, Tokens
from multiplet.spec import did_you_mean
from multiplet.tasks.matching import Weights, one_hot_tracks, track_losses
from multiplet.tasks.track_scores import measure_tracks
from multiplet.track_metrics import NONE


@dataclass(frozen=True)
class Tracks:
    """Find the tracks that the truth column `label` numbers within each event; points where it is below 0 have none.

    At most `queries` tracks are found in an event. `weigh` are the weights of the parts of loss and matching; `by` are
    truth columns of points, the particle's pT in GeV and its pseudorapidity, that are kept with predictions, where
    there are, to show efficiency against. With `embedding` the adapter reads the embedded points beside the blocks.
    """

    label: str = "track"
    queries: int = 150
    layers: int = 2
    width: int = 256
    heads: int = 4
    weigh: Weights = field(default_factory=Weights)
    by: tuple[str, ...] = ("pt", "eta")
    embedding: bool = False

    def __post_init__(self) -> None:
        if min(self.queries, self.layers, self.width, self.heads) < 1 or self.width % self.heads:
            raise RecipeError(
                "Tracks needs queries, layers, width and heads of at least 1, and a width that is a multiple of heads"
            )

    def build(self, encoder: Encoder, shape: Shape) -> TracksNet:
        """The task for this encoder; RecipeError where the events have no such truth column."""
        if self.label not in shape.truth:
            raise RecipeError(
                f"Tracks.label is {self.label!r}, and no truth column is called so "
                f"({did_you_mean(self.label, shape.truth)})"
            )
        return TracksNet(self, encoder, tuple(name for name in self.by if name in shape.truth))


class _Layer(nn.Module):
    """Queries look at points, then at each other, then think: pre-norm, residual; 12 W² + 17 W parameters."""

    def __init__(self, width: int, heads: int, param: Parametrisation) -> None:
        super().__init__()
        self.norms = nn.ModuleList(LayerNorm(width) for _ in range(2))
        self.look, self.discuss = (Attention(width, heads, param) for _ in range(2))
        self.think = perceptron(width, 2 * width, width, param)

    def forward(
        self, q: Float[Tensor, "B Q W"], points: Float[Tensor, "B S W"], bias: Float[Tensor, "B Q S"]
    ) -> Float[Tensor, "B Q W"]:
        q = q + self.look(self.norms[0](q), points, bias)
        x = self.norms[1](q)
        q = q + self.discuss(x, x, None)
        return q + self.think(q)


class TracksNet(nn.Module):
    """Tracks, running: at each stage a chance to be a track (B, Q) and one to own each point (B, Q, S)."""

    names = ("class", "dice", "focal")
    references: dict[str, float] = {}  # noqa: RUF012
    bystanders: list[nn.Module] = []  # noqa: RUF012

    def __init__(self, spec: Tracks, encoder: Encoder, by: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.truth = (spec.label, *by)  # the truth columns that predictions are kept beside
        self.spec, param, width = spec, encoder.param, spec.width
        self.mix = LayerMix.of(encoder, width, spec.embedding)
        self.points = perceptron(width, width, width, param)
        self.content, self.position = (nn.Parameter(torch.randn(spec.queries, width)) for _ in range(2))
        self.declared = {"content": declare_vector(spec.queries), "position": declare_vector(spec.queries)}
        self.layers = nn.ModuleList(_Layer(width, spec.heads, param) for _ in range(spec.layers))
        self.kind = perceptron(width, width, 2, param)  # no track, track
        self.mask = perceptron(width, width, width, param)

    def weights(self, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, " B"]]:
        """1 for events with a point that is in a track, else 0."""
        some = ((tokens.truth[self.spec.label] >= 0) & tokens.mask).any(1).float()
        return dict.fromkeys(self.names, some)

    def forward(self, encoder: Encoder, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, " B"]]:
        tracks = one_hot_tracks(tokens.truth[self.spec.label], tokens.mask)
        stages = self.stages(encoder, tokens)
        with full_precision(tokens.x):
            parts = [track_losses(kind, owned, tracks, tokens.mask, self.spec.weigh) for kind, owned in stages]
        return {name: torch.stack([part[name] for part in parts]).sum(0) for name in self.names}

    def stages(self, encoder: Encoder, tokens: Tokens) -> list[tuple[Float[Tensor, "B Q 2"], Float[Tensor, "B Q S"]]]:
        """Logits of the kinds and of owning each point, before the first layer and after each; in FP32."""
        hidden = encoder(tokens, blocks=True)
        with full_precision(hidden.points):
            points = self.points(self.mix(hidden)).masked_fill(~tokens.mask[..., None], 0.0)
            q = self.content.expand(len(tokens), -1, -1)
            found = [self._heads(q, points)]
            for layer in self.layers:
                bias = F.logsigmoid(found[-1][1]).clamp(min=_LEAST)  # looks where the stage before saw its track
                q = layer(q + self.position, points, bias.masked_fill(~tokens.mask[:, None], _NEVER))
                found.append(self._heads(q, points))
        return found

    def _heads(
        self, q: Float[Tensor, "B Q W"], points: Float[Tensor, "B S W"]
    ) -> tuple[Float[Tensor, "B Q 2"], Float[Tensor, "B Q S"]]:
        return self.kind(q), self.mask(q) @ points.transpose(1, 2)

    def predict(self, encoder: Encoder, tokens: Tokens) -> dict[str, Tensor]:
        """`found` (B, S): the query that claims each point, or -1; `score` (B, S): how surely."""
        kind, owned = self.stages(encoder, tokens)[-1]
        sure = kind.softmax(-1)
        is_track = sure[..., 1] > sure[..., 0]
        score, query = (owned.sigmoid() * (sure[..., 1] * is_track)[..., None]).max(1)
        return {"found": query.masked_fill(score <= 0, NONE), "score": score}

    def measure(self, table: Mapping[str, np.ndarray]) -> Measured:
        """As `measure_tracks`, in bins of the columns `by` as well."""
        return measure_tracks(table, self.spec.label, self.spec.by)


_LEAST = -13.8155  # ln 1e-6: no point is quite out of sight
_NEVER = -1e9
