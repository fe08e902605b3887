"""Classify: one label an event, from the mean of the encoder's outputs (global average pooling)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from multiplet.draws import Draws
from multiplet.encoder import Encoder
from multiplet.errors import RecipeError
from multiplet.heads import event_vector
from multiplet.intervals import Measured, bootstrap
from multiplet.layers import Linear, full_precision
from multiplet.metrics import Rejection, accuracy, auc, auc_one_versus_one, confusion, rejection, two_class_score
from multiplet.representation.tokens import Shape, Tokens
from multiplet.spec import did_you_mean


@dataclass(frozen=True)
class Classify:
    """Cross-entropy on the truth column `label`; events where it is below 0 are unlabelled and left out.

    `background` is the class that rejections are measured against; the first one where empty.
    """

    label: str = "label"
    background: str = ""

    def build(self, encoder: Encoder, shape: Shape) -> ClassifyNet:
        """The task for this encoder; RecipeError where the events carry no such label with named classes."""
        if self.label not in shape.classes:
            raise RecipeError(
                f"Classify.label is {self.label!r}, and no label of the events is called so "
                f"({did_you_mean(self.label, shape.classes)}): convert them with a label, or name it (objective.label)"
            )
        classes = shape.classes[self.label]
        if self.background and self.background not in classes:
            raise RecipeError(f"Classify.background is {self.background!r} ({did_you_mean(self.background, classes)})")
        return ClassifyNet(self, encoder, classes)


class ClassifyNet(nn.Module):
    """Classify, running: d·C + C parameters."""

    names = ("cross_entropy",)
    references: dict[str, float] = {}  # noqa: RUF012
    bystanders: list[nn.Module] = []  # noqa: RUF012

    def __init__(self, spec: Classify, encoder: Encoder, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.spec, self.classes = spec, classes
        self.out = Linear(encoder.width, len(classes), encoder.param, bias=True, zero=encoder.param.zero_readout)

    def weights(self, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, " B"]]:
        """1 for labelled events with at least one point, else 0."""
        return {"cross_entropy": ((tokens.truth[self.spec.label].long() >= 0) & tokens.mask.any(1)).float()}

    def forward(self, encoder: Encoder, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, " B"]]:
        label = tokens.truth[self.spec.label].long().clamp(min=0)
        return {"cross_entropy": F.cross_entropy(self.logits(encoder, tokens), label, reduction="none")}

    def logits(self, encoder: Encoder, tokens: Tokens) -> Float[Tensor, "B C"]:
        """In FP32."""
        hidden = encoder(tokens)
        with full_precision(hidden.points):
            return self.out(event_vector(hidden))

    def predict(self, encoder: Encoder, tokens: Tokens) -> dict[str, Float[Tensor, " B"]]:
        """`score_CLASS` (B,) for each class: probabilities that sum to 1."""
        scores = self.logits(encoder, tokens).softmax(-1)
        return {f"score_{name}": scores[:, n] for n, name in enumerate(self.classes)}

    @property
    def truth(self) -> tuple[str, ...]:
        """The truth columns that predictions are kept beside."""
        return (self.spec.label,)

    def measure(self, table: Mapping[str, np.ndarray]) -> Measured:
        """Metrics with 68 % bootstrap intervals from predictions and truth, a column each; unlabelled events left out.

        Rejections are 1/ε_B at the first point of the ROC curve with a signal efficiency above the one named, on the
        score s = p_S/(p_S + p_B) and on jets of these two classes only; so is the AUC of a signal, which stands for
        that of all classes where only it and the background occur.
        """
        labelled = table[self.spec.label] >= 0
        label = table[self.spec.label][labelled].astype(np.int64)
        scores = np.stack([table[f"score_{name}"][labelled] for name in self.classes], axis=1)
        present = np.flatnonzero(np.bincount(label, minlength=len(self.classes)) >= FEWEST)
        metrics = {"accuracy": bootstrap(accuracy, label, scores)}
        if len(present) == len(self.classes):
            metrics["auc"] = bootstrap(auc_one_versus_one, label, scores)
        background = self.classes.index(self.spec.background) if self.spec.background else 0
        for signal in present[present != background] if background in present else ():
            pair = (label == signal) | (label == background)
            score, _ = two_class_score(scores[pair], int(signal), background)
            if len(present) == 2 < len(self.classes):
                metrics[f"auc {self.classes[signal]}"] = bootstrap(auc, (label[pair] == signal).astype(int), score)
            for efficiency in EFFICIENCIES:
                name = f"rejection {self.classes[signal]} at {efficiency:.1%}"
                metrics[name] = bootstrap(partial(_rejection, efficiency=efficiency), label[pair] == signal, score)
        counts = confusion(label, scores.argmax(1), len(self.classes))
        return Measured(metrics, self.classes, counts)


EFFICIENCIES = (0.3, 0.5, 0.99, 0.995)
FEWEST = 5  # events of a class below which nothing but the accuracy is measured on it


def _rejection(signal: np.ndarray, score: np.ndarray, efficiency: float) -> Rejection | float:
    if signal.all() or not signal.any():
        return math.nan  # a replicate without one of the two classes has no value
    return rejection(score[signal], score[~signal], efficiency)
