"""Event losses: what an objective without labels writes for each event, and what these are worth on average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from multiplet.errors import NonFiniteError
from multiplet.intervals import Estimate, bootstrap
from multiplet.representation.tokens import Tokens


def event_losses(values: Mapping[str, Tensor], weights: Mapping[str, Tensor], tokens: Tokens) -> dict[str, Tensor]:
    """The losses of each event (B,), NaN where its weight is 0.

    Raises NonFiniteError where a loss that counts is not finite, so that NaN means nothing else.
    """
    for name, value in values.items():
        if bad := tokens.event[(weights[name] > 0) & ~value.isfinite()].tolist():
            raise NonFiniteError(f"{name} is not finite for the events at places {bad[:5]} of the split, from 0 on")
    return {name: value.masked_fill(weights[name] == 0, torch.nan) for name, value in values.items()}


def means(table: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, Estimate]:
    """The mean of each column over the events that have a value in it, with a 68 % bootstrap interval."""
    values = {name: table[name].astype(np.float64) for name in names}
    return {name: bootstrap(np.mean, value[~np.isnan(value)]) for name, value in values.items()}
