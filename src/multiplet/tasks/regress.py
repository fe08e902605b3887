"""Regress: one number an event, such as its energy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from multiplet.adapters import perceptron
from multiplet.draws import Draws
from multiplet.encoder import Encoder
from multiplet.errors import DataError, RecipeError
from multiplet.heads import event_vector
from multiplet.intervals import Measured, bootstrap
from multiplet.layers import full_precision
from multiplet.representation.tokens import Shape, Tokens
from multiplet.tasks.angle_scores import FEWEST, median_in_bins, powers, quantile
from multiplet.tasks.labels import event_label, require_found, require_truth


@dataclass(frozen=True)
class Regress:
    """Squared error of the truth column `label`, or of its log10 with `log`; NaN is no label, and left out.

    Labels are taken as (value - centre)/spread, so that the error of always saying `centre` is about 1 where these are
    the mean and the standard deviation of what is predicted, in decades with `log`.
    """

    label: str = "energy"
    log: bool = True
    centre: float = 0.0
    spread: float = 1.0

    def __post_init__(self) -> None:
        if self.spread <= 0:
            raise RecipeError(f"Regress.spread is {self.spread}; it must be above 0")

    def build(self, encoder: Encoder, shape: Shape) -> RegressNet:
        """The task for this encoder; RecipeError where the events have no such truth column."""
        require_truth(shape, "Regress", label=self.label)
        return RegressNet(self, encoder)


class RegressNet(nn.Module):
    """Regress, running: 4D² + 11D + 1 parameters."""

    names = ("squared_error",)
    references: dict[str, float] = {}  # noqa: RUF012
    bystanders: list[nn.Module] = []  # noqa: RUF012

    def __init__(self, spec: Regress, encoder: Encoder) -> None:
        super().__init__()
        self.spec, self.truth = spec, (spec.label,)
        self.out = perceptron(encoder.width, encoder.width * 4, 1, encoder.param)

    def _target(self, tokens: Tokens) -> Float[Tensor, " B"]:
        """What is predicted, NaN where there is no label; RecipeError on a CPU for one that has no logarithm."""
        label = event_label(tokens, self.spec.label)
        if self.spec.log:
            if label.device.type == "cpu" and (bad := label <= 0).any():
                raise RecipeError(
                    f"{self.spec.label} is {float(label[bad][0])} in the event at place {int(tokens.event[bad][0])} of "
                    "the split, which has no logarithm: leave it unlabelled (NaN), or take log=False"
                )
            label = label.log10()
        return (label - self.spec.centre) / self.spec.spread

    def weights(self, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, " B"]]:
        """1 for labelled events with at least one point, else 0."""
        return {"squared_error": (~self._target(tokens).isnan() & tokens.mask.any(1)).float()}

    def forward(self, encoder: Encoder, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, " B"]]:
        target = self._target(tokens)
        error = self.value(encoder, tokens) - target
        return {"squared_error": torch.where(target.isnan(), 0.0, error).square()}

    def value(self, encoder: Encoder, tokens: Tokens) -> Float[Tensor, " B"]:
        """(value - centre)/spread, in FP32."""
        hidden = encoder(tokens)
        with full_precision(hidden.points):
            return self.out(event_vector(hidden))[:, 0]

    def predict(self, encoder: Encoder, tokens: Tokens) -> dict[str, Float[Tensor, " B"]]:
        """`found_LABEL`, in the label's unit."""
        value = self.spec.centre + self.spec.spread * self.value(encoder, tokens)
        return {f"found_{self.spec.label}": 10**value if self.spec.log else value}

    def measure(self, table: Mapping[str, np.ndarray]) -> Measured:
        """Errors found - true (of log10 with `log`) over labelled events, with 68 % bootstrap intervals over events.

        The median of the error and of its size stand in bins of the truth as well. Raises DataError where no event has
        a label.
        """
        true, found = table[self.spec.label].astype(float), table[f"found_{self.spec.label}"].astype(float)
        labelled = ~np.isnan(true)
        if not labelled.any():
            raise DataError(f"none of {len(true)} events has a label in {self.spec.label} to measure by")
        error, what = errors(table, self.spec.label, self.spec.log)
        error, true, found = error[labelled], true[labelled], found[labelled]
        size = np.abs(error)
        metrics = {
            f"rms error of {what}": bootstrap(_rms, error),
            f"mean error of {what}": bootstrap(np.mean, error),
            f"median |error| of {what}": bootstrap(np.median, size),
            f"68% of |error| of {what} below": bootstrap(partial(quantile, share=0.68), size),
        }
        if self.spec.log:
            metrics["share within a factor of 2"] = bootstrap(np.mean, size < np.log10(2))
        if len(np.unique(true)) < FEWEST:
            return Measured(metrics)
        edges = powers(true, 10**0.5) if self.spec.log else np.quantile(true, np.linspace(0, 1, 11))
        edges[-1] = np.nextafter(edges[-1], np.inf)  # the largest is in the last bin
        edges = np.unique(edges)
        binned = tuple(
            median_in_bins(values, true, edges, self.spec.label, f"true {self.spec.label}", f"median {name} of {what}")
            for values, name in ((error, "error"), (size, "|error|"))
        )
        return Measured(metrics, binned=binned)


def errors(table: Mapping[str, np.ndarray], label: str, log: bool) -> tuple[np.ndarray, str]:
    """found - true of each event, of log10 with `log`, NaN without a label; and what that is the error of.

    Raises NonFiniteError where what was found is no number.
    """
    require_found(table, label)
    true, found = (table[name].astype(float) for name in (label, f"found_{label}"))
    return (np.log10(found / true), f"log10 {label}") if log else (found - true, label)


def _rms(error: np.ndarray) -> np.floating:
    return np.sqrt(np.mean(np.square(error)))
