"""Validation: losses on the first events of the validation split, on the same masks and noise every time."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from multiplet.cloud import Cloud
from multiplet.data.batches import load, sequential
from multiplet.data.events import Dataset
from multiplet.distributed import Ranks
from multiplet.draws import FIXED
from multiplet.errors import NonFiniteError
from multiplet.faults import not_finite
from multiplet.model import Model
from multiplet.recipe import Train


@torch.no_grad()
def validate(model: Model, dataset: Dataset, settings: Train, group: Ranks) -> dict[str, float]:
    """The mean of each loss, the same on all ranks; without those that no event weighs anything in.

    Raises NonFiniteError naming the events of which a loss, or its weight, is not finite.
    """
    wanted = replace(settings.batches, size=min(settings.batches.size, 512))
    sums = {name: torch.zeros(2, dtype=torch.double, device=group.device) for name in model.objective.names}
    work = sequential(dataset, "validation", wanted, min(settings.validation_events, dataset.size("validation")))
    mine = (piece for piece in work if piece.step % group.count == group.rank)
    model.eval()
    for _, clouds in load(dataset, "validation", mine):
        for cloud in clouds:
            tokens = model.tokens(cloud.to(group.device))
            with group.precision(settings.bf16):
                values = model(tokens, FIXED)
            for name, weight in model.objective.weights(tokens, FIXED).items():
                share = torch.where(weight == 0, 0.0, values[name] * weight)
                if not bool(share.isfinite().all()):
                    where = _where(model, dataset, cloud, share)
                    raise NonFiniteError(f"{name} is not finite for {where}")
                sums[name] += torch.stack([share.sum(), weight.sum()])
    model.train()
    means = {name: group.sum(pair).tolist() for name, pair in sums.items()}
    return {name: total / weight for name, (total, weight) in means.items() if weight > 0}


def _where(model: Model, dataset: Dataset, cloud: Cloud, share: Tensor) -> str:
    rows = torch.nonzero(~share.isfinite())[:, 0].tolist()
    return "; ".join(not_finite(dataset, "validation", cloud, model.represent.spec, rows))
