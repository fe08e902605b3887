"""Faults: which events, columns and features are behind a number that is not finite; looked for after a failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from multiplet.cloud import Cloud
from multiplet.data.batches import Work
from multiplet.data.events import Dataset, Split
from multiplet.representation.represent import Represent

_NAMED = 5  # events in a message


def blame(
    dataset: Dataset,
    work: Work,
    clouds: Sequence[Cloud],
    spec: Represent,
    weights: Sequence[Mapping[str, Tensor]],
    losses: Sequence[Mapping[str, Tensor]],
) -> str:
    """The training events behind an update that is not finite, from weights and losses (B,) of each part by name."""
    for kind, found in (("weight", weights), ("loss", losses)):  # one such weight spoils the losses of all events
        lines = []
        for cloud, values in zip(clouds, found, strict=True):
            bad = torch.stack([~value.isfinite() for value in values.values()]).any(0).cpu()
            lines += not_finite(dataset, "train", cloud, spec, torch.nonzero(bad)[:, 0].tolist())
        if lines:
            return f"the {kind} of {'; '.join(lines[:_NAMED])}"
    mine = [part for part in work.parts if len(part)]
    first = f"; they begin with {dataset.locate('train', int(mine[0][0]))}" if mine else ""
    return f"the losses of this rank's events are finite{first}: see what other ranks say, or lower optim.rate"


def not_finite(dataset: Dataset, split: Split, cloud: Cloud, spec: Represent, rows: Sequence[int]) -> list[str]:
    """For some events of a cloud: file and row, columns that are not finite there, and features made of such."""
    features = _features(spec, cloud)
    return [_line(dataset, split, cloud, features, row) for row in list(rows)[:_NAMED]]


def not_fit(dataset: Dataset, split: Split, clouds: Sequence[Cloud], spec: Represent) -> list[str]:
    """The same for the first events of which a feature is not finite: none may be standardised on."""
    lines: list[str] = []
    for cloud in clouds:
        bad = torch.zeros(len(cloud), dtype=torch.bool)
        for wrong in _features(spec, cloud).values():
            bad |= wrong
        lines += not_finite(dataset, split, cloud, spec, torch.nonzero(bad)[:, 0].tolist())
    return lines[:_NAMED]


def _line(dataset: Dataset, split: Split, cloud: Cloud, features: dict[str, Tensor], row: int) -> str:
    real = cloud.mask[row]
    columns = [name for name, value in cloud.points.items() if not value[row][real].isfinite().all()]
    for name, value in (cloud.event | cloud.truth).items():
        held = value[row] if value.dim() == 1 else value[row][real]
        columns += [] if held.isfinite().all() else [name]
    made = [name for name, wrong in features.items() if wrong[row]]
    said = f"not finite in the file: {', '.join(columns) or 'nothing'}"
    if made:
        said += f"; features that are not: {', '.join(made)}"
    return f"{dataset.locate(split, int(cloud.index[row]))} ({said})"


def _features(spec: Represent, cloud: Cloud) -> dict[str, Tensor]:
    """Name of each feature, target and condition → (B,): whether it is not finite somewhere in the event."""
    point, event = spec.quantities.point(cloud), spec.quantities.event(cloud)
    out = {}
    for feature in (*spec.features, *spec.targets):
        if feature.quantity not in point:
            continue
        value = feature.transform.forward(point[feature.quantity].float())
        out[feature.name] = (~value.isfinite() & cloud.mask).any(1)
    for feature in (*spec.conditions, *spec.event_targets):
        if feature.quantity in event:
            out[feature.name] = ~feature.transform.forward(event[feature.quantity].float()).isfinite()
    return out
