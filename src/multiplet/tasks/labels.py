"""Labels: numbers that events are labelled with, NaN where one has none."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from multiplet.errors import NonFiniteError, RecipeError
from multiplet.representation.tokens import Shape, Tokens
from multiplet.spec import did_you_mean


def require_truth(shape: Shape, task: str, **columns: str) -> None:
    """Raise RecipeError where a truth column that a field of the task names does not exist."""
    for field, name in columns.items():
        if name not in shape.truth:
            raise RecipeError(
                f"{task}.{field} is {name!r}, and no truth column is called so ({did_you_mean(name, shape.truth)}): "
                f"convert the events with it, or name it (objective.{field})"
            )


def event_label(tokens: Tokens, name: str) -> Float[Tensor, " B"]:
    """A truth column of events as numbers; RecipeError where it belongs to points."""
    label = tokens.truth[name]
    if label.dim() != 1:
        raise RecipeError(f"{name} is truth of points, one number each: this task takes a number an event")
    return label.to(torch.float32)


def require_found(table: Mapping[str, np.ndarray], *names: str) -> None:
    """Raise NonFiniteError where events (rows,) with all these labels were given a prediction that is not finite.

    Such events would pass for events without a label, and the rest for all of them.
    """
    labelled = np.logical_and.reduce([np.isfinite(table[name].astype(float)) for name in names])
    for name in names:
        bad = labelled & ~np.isfinite(table[f"found_{name}"].astype(float))
        if bad.any():
            raise NonFiniteError(
                f"found_{name} is not finite for {bad.sum()} of {labelled.sum()} labelled events, the first in row "
                f"{int(np.argmax(bad))}: the model overflows on them, so nothing is measured"
            )
