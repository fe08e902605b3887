"""Tag: one class a point, such as the kind of its particle, or whether it is noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from multiplet.adapters import PointHead
from multiplet.draws import Draws
from multiplet.encoder import Encoder
from multiplet.errors import RecipeError
from multiplet.heads import masked_mean
from multiplet.intervals import Measured, bootstrap, like_weights, weight_rows
from multiplet.layers import full_precision
from multiplet.representation.tokens import Shape, Tokens
from multiplet.spec import did_you_mean


@dataclass(frozen=True)
class Tag:
    """Cross-entropy on the classes of points in the truth column `label`; points where it is below 0 are left out.

    Losses are means over an event's points, or with `by_point` over all points of a batch, as published for FM4NPP.
    `width` and `heads` are those of the adapter; with `embedding` it reads the embedded points beside the blocks.
    """

    label: str
    by_point: bool = True
    width: int = 256
    heads: int = 4
    embedding: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or self.heads < 1 or self.width % self.heads:
            raise RecipeError(f"Tag.width is {self.width}; it must be a multiple of heads, {self.heads}")

    def build(self, encoder: Encoder, shape: Shape) -> TagNet:
        """The task for this encoder; RecipeError where the points carry no such label with named classes."""
        if self.label not in shape.classes:
            raise RecipeError(
                f"Tag.label is {self.label!r}, and no label of the events is called so "
                f"({did_you_mean(self.label, shape.classes)})"
            )
        return TagNet(self, encoder, shape.classes[self.label])


class TagNet(nn.Module):
    """Tag, running."""

    names = ("cross_entropy",)
    references: dict[str, float] = {}  # noqa: RUF012
    bystanders: list[nn.Module] = []  # noqa: RUF012

    def __init__(self, spec: Tag, encoder: Encoder, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.spec, self.classes = spec, classes
        self.head = PointHead(encoder, len(classes), spec.width, spec.heads, spec.embedding)

    @property
    def truth(self) -> tuple[str, ...]:
        """The truth columns that predictions are kept beside."""
        return (self.spec.label,)

    def _counted(self, tokens: Tokens) -> Tensor:
        return (tokens.truth[self.spec.label].long() >= 0) & tokens.mask

    def weights(self, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, " B"]]:
        """The labelled points of each event, or without `by_point` 1 where there is one."""
        points = self._counted(tokens).sum(1)
        return {"cross_entropy": (points if self.spec.by_point else points.clamp(max=1)).float()}

    def forward(self, encoder: Encoder, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, " B"]]:
        label = tokens.truth[self.spec.label].long().clamp(min=0)
        loss = F.cross_entropy(self.logits(encoder, tokens).transpose(1, 2), label, reduction="none")
        return {"cross_entropy": masked_mean(loss, self._counted(tokens))}

    def logits(self, encoder: Encoder, tokens: Tokens) -> Float[Tensor, "B S C"]:
        """In FP32."""
        hidden = encoder(tokens, blocks=True)
        with full_precision(hidden.points):
            return self.head(hidden)

    def predict(self, encoder: Encoder, tokens: Tokens) -> dict[str, Float[Tensor, "B S"]]:
        """`score_CLASS` (B, S) for each class: probabilities that sum to 1."""
        scores = self.logits(encoder, tokens).softmax(-1)
        return {f"score_{name}": scores[..., n] for n, name in enumerate(self.classes)}

    def measure(self, table: Mapping[str, np.ndarray]) -> Measured:
        """Accuracy, macro recall and macro precision over points, with 68 % bootstrap intervals over events.

        A class that no point has, or that none was given, is left out of the macro mean it has no part in.
        """
        labelled = table[self.spec.label] >= 0
        label, classes = table[self.spec.label][labelled].astype(np.int64), len(self.classes)
        scores = np.stack([table[f"score_{name}"][labelled] for name in self.classes], axis=1)
        _, event = np.unique(table["index"][labelled], return_inverse=True)
        place = (event * classes + label) * classes + scores.argmax(1)
        events = int(event.max(initial=-1)) + 1
        counts = np.bincount(place, minlength=events * classes**2).reshape(events, classes**2)
        metrics = {
            name: bootstrap(partial(function, classes=classes), counts)
            for name, function in (("accuracy", _accuracy), ("macro recall", _recall), ("macro precision", _precision))
        }
        return Measured(metrics, self.classes, counts.sum(0).reshape(classes, classes))


def _pooled(counts: np.ndarray, classes: int, weights: np.ndarray | None) -> np.ndarray:
    """Confusions (R, C, C), rows the truth, from those of each event (E, C²)."""
    rows = weight_rows(weights, len(counts))
    return (rows @ counts).reshape(len(rows), classes, classes)


def _accuracy(counts: np.ndarray, classes: int, weights: np.ndarray | None = None) -> np.ndarray | float:
    table = _pooled(counts, classes, weights)
    return like_weights(weights, table.trace(axis1=1, axis2=2) / table.sum((1, 2)))


def _recall(counts: np.ndarray, classes: int, weights: np.ndarray | None = None) -> np.ndarray | float:
    return like_weights(weights, _macro(_pooled(counts, classes, weights), 2))


def _precision(counts: np.ndarray, classes: int, weights: np.ndarray | None = None) -> np.ndarray | float:
    return like_weights(weights, _macro(_pooled(counts, classes, weights), 1))


def _macro(table: np.ndarray, axis: int) -> np.ndarray:
    """The mean over classes of the diagonal divided by the sums over an axis, classes with sum 0 left out."""
    total = table.sum(axis)
    share = np.diagonal(table, axis1=1, axis2=2) / np.where(total > 0, total, np.nan)
    return np.asarray(np.nanmean(share, axis=1))
