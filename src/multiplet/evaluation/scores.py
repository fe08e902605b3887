"""Scores: what a model gives for events, beside columns of theirs, as rows in the order of the events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from multiplet.cloud import Cloud
from multiplet.data.batches import Batches, load, sequential
from multiplet.data.columns import Column
from multiplet.data.events import Dataset, Split
from multiplet.errors import DataError
from multiplet.heads import mean_pool
from multiplet.model import Model
from multiplet.progress import Show
from multiplet.representation.tokens import Tokens

_EVENTS = 4096  # sorted by length together, which saves padding
_POINTS = 20_000  # padded points in one forward pass


@torch.no_grad()
def score(
    model: Model, dataset: Dataset, split: Split, keep: Sequence[str], show: Show, embeddings: bool = False
) -> dict[str, np.ndarray]:
    """Columns (rows,): those of `rows` for all events of a split, in file order, and of each point in its event's.

    Raises DataError for an event with a feature that is not finite.
    """
    device, parts, done = next(model.parameters()).device, [], 0
    for cloud in _clouds(dataset, split):
        tokens = model.tokens(cloud.to(device))
        _require_finite(cloud, tokens, model, dataset, split)
        parts.append(rows(model, cloud, tokens, keep, embeddings))
        done += len(cloud)
        show.update(done, dataset.size(split), "")
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((table["point"], table["index"])) if "point" in table else np.argsort(table["index"])
    return {name: values[order] for name, values in table.items()}


@torch.no_grad()
def rows(
    model: Model, cloud: Cloud, tokens: Tokens, keep: Sequence[str], embeddings: bool = False
) -> dict[str, np.ndarray]:
    """Columns (rows,): one row an event, or one for each of its points where the objective predicts tokens (B, S).

    `index` of the event, `points` it has (or the number `point` of this one, from 0), the columns in `keep`, and what
    the objective predicts, or the mean of the encoder's outputs as emb_000 … instead. Points without a token, beyond
    the `most` of the representation, have no row. Raises DataError where a column to keep has the name of another.
    """
    if embeddings:
        hidden = model.encoder(tokens)
        pooled = mean_pool(hidden.points.float(), hidden.mask)
        found = {f"emb_{n:03d}": value for n, value in enumerate(pooled.cpu().unbind(1))}
    else:
        found = model.objective.predict(model.encoder, tokens)
    event, slot, point = np.arange(len(cloud)), None, None
    made = {"index": cloud.index.numpy(), "points": cloud.mask.sum(1, dtype=torch.int32).numpy()}
    if any(value.dim() == 2 for value in found.values()):
        event, slot = tokens.mask.cpu().numpy().nonzero()
        point = tokens.index.cpu().numpy()[event, slot]
        made = {"index": made["index"][event], "point": point.astype(np.int32)}
    names = [*made, *keep, *found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"these events have columns {twice}, as predictions are called: rename them, or leave them out")
    columns = cloud.points | cloud.event | cloud.truth
    made |= {name: _read(columns[name], event, point) for name in keep}
    return made | {name: _read(value.cpu(), event, slot) for name, value in found.items()}


def tokens_of(model: Model, dataset: Dataset, split: Split, most: int | None = None) -> Iterator[Tokens]:
    """Of the first `most` events of a split, or of all, in parts of like length, so not quite in file order."""
    device = next(model.parameters()).device
    for cloud in _clouds(dataset, split, most):
        yield model.tokens(cloud.to(device))


def require_same(columns: Sequence[Column], others: Sequence[Column], where: str, of: str) -> None:
    """Raise DataError where one of these columns is among the others with other classes, another unit or meaning."""
    theirs = {column.name: column for column in others}
    for mine in columns:
        other = theirs.get(mine.name, mine)
        for what in ("classes", "unit"):
            if (here := getattr(other, what)) != (there := getattr(mine, what)):
                raise DataError(
                    f"{where}: {mine.name} has {what} {here!r}, in {of} it has {what} {there!r}: these events are not "
                    "of the same kind; convert both in the same way"
                )
        if (other.level, other.truth) != (mine.level, mine.truth):
            raise DataError(
                f"{where}: {mine.name} is {_kind(other)}, in {of} {_kind(mine)}: these events are not of the same kind"
            )


def _kind(column: Column) -> str:
    return f"{'truth' if column.truth else 'measured'} of {column.level}s"


def _read(values: Tensor, event: np.ndarray, place: np.ndarray | None) -> np.ndarray:
    """Values (B,) or (B, N) of each row."""
    array = values.numpy()
    return array[event] if array.ndim == 1 else array[event, place]


def _require_finite(cloud: Cloud, tokens: Tokens, model: Model, dataset: Dataset, split: Split) -> None:
    bad = ~tokens.x.isfinite().all(-1) & tokens.mask | ~tokens.cond.isfinite().all(-1)[:, None]
    if not bool(bad.any()):
        return
    place = int(bad.any(1).nonzero()[0, 0])
    slot = int(bad[place].nonzero()[0, 0])
    point = int(tokens.index[place, slot])
    shape, x, cond = model.represent.shape, tokens.x[place, slot].isfinite(), tokens.cond[place].isfinite()
    features = [name for name, fine in zip(shape.columns, x.tolist(), strict=True) if not fine]
    features += [name for name, fine in zip(shape.conditions, cond.tolist(), strict=True) if not fine]
    given = {name: value[place, point] for name, value in cloud.points.items()}
    given |= {name: value[place] for name, value in cloud.event.items()}
    columns = [f"{name} = {float(value)}" for name, value in given.items() if not value.isfinite()]
    raise DataError(
        f"{dataset.locate(split, int(cloud.index[place]))}: {', '.join(features)} of point {point} cannot be computed: "
        f"{', '.join(columns) or 'from its columns'} is not finite; correct the event, or select it away"
    )


def _clouds(dataset: Dataset, split: Split, most: int | None = None) -> Iterator[Cloud]:
    """Events of a split, in parts of like length that fit into memory, so not quite in file order."""
    events = dataset.size(split) if most is None else min(most, dataset.size(split))
    for _, clouds in load(dataset, split, sequential(dataset, split, Batches(_EVENTS, points_at_once=_POINTS), events)):
        yield from clouds
