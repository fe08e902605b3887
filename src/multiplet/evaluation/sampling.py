"""Sampling: the hidden points of events, drawn back by a masked objective from the visible ones, in physical units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from multiplet.data.batches import Batches, cut_parts
from multiplet.data.events import Dataset, Split
from multiplet.draws import FIXED
from multiplet.model import Model
from multiplet.objectives.masked import MaskedNet
from multiplet.objectives.targets import CodeNet
from multiplet.progress import Show
from multiplet.representation.features import BIT, Feature

Table = dict[str, np.ndarray]
FILE = "sampled.parquet"  # of a run folder
TRUE, SAMPLED = "true_", "sampled_"  # before the name of a quantity
SCALE = "jet_pt"  # of the event, in GeV: what pt_rel is relative to
_POINTS = 20_000  # padded points in one forward pass


def can_sample(model: Model) -> bool:
    """Whether the objective gives hidden tokens back."""
    return isinstance(model.objective, MaskedNet) and not isinstance(model.objective.target, CodeNet)


def by_quantity(targets: Sequence[Feature]) -> dict[str, Feature]:
    """The target that a quantity is drawn back from; the last of several, which in our lists is the logarithm."""
    return {feature.quantity: feature for feature in targets}


def sample_back(model: Model, dataset: Dataset, split: Split, events: int, show: Show) -> Table:
    """Columns (rows,) of `events` events, evenly spread over the split: a row a token, by event and rank.

    `index` of the event, `rank` and `hidden` of the token, and of each quantity true_… and sampled_… in its unit, which
    are equal where the token was visible. The masks are those of every evaluation, with all hidden tokens predicted.
    Flags of which a point has one at most are 1 for the largest sampled, other flags where it is above one half.
    """
    size = dataset.size(split)
    chosen = np.unique(np.arange(min(events, size)) * size // max(min(events, size), 1))
    parts, done = [], 0
    for part in cut_parts(chosen, dataset.lengths(split), Batches(points_at_once=_POINTS)):
        parts.append(_rows(model, dataset, split, part))
        done += len(part)
        show.update(done, len(chosen), "sampling")
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((table["rank"], table["index"]))
    table = {name: values[order] for name, values in table.items()}
    flags = [name for name, one in by_quantity(model.represent.targets.features).items() if one.scale == BIT]
    return table | _as_flags(table, flags)


@torch.no_grad()
def _rows(model: Model, dataset: Dataset, split: Split, part: np.ndarray) -> Table:
    assert isinstance(model.objective, MaskedNet)
    cloud = dataset.read(split, part)
    tokens = model.tokens(cloud.to(next(model.parameters()).device))
    drawn, hidden = model.objective.sample(model.encoder, tokens, FIXED)
    event, slot = tokens.mask.cpu().numpy().nonzero()
    found = {"index": cloud.index.numpy()[event]}
    found |= {name: value.cpu().numpy()[event, slot] for name, value in (("rank", tokens.rank), ("hidden", hidden))}
    found |= {name: cloud.event[name].numpy()[event] for name in (SCALE,) if name in cloud.event}
    targets = model.represent.targets
    for prefix, values in ((TRUE, tokens.targets["x"]), (SAMPLED, drawn)):
        physical = targets.inverse(values[tokens.mask].float())
        for quantity, feature in by_quantity(targets.features).items():
            found[prefix + quantity] = physical[feature.name].cpu().numpy()
    return found


def _as_flags(table: Table, names: Sequence[str]) -> Table:
    """The sampled columns of flags as 0 and 1 where a token was hidden."""
    if not names:
        return {}
    true, drawn = (np.stack([table[prefix + name] for name in names], 1) for prefix in (TRUE, SAMPLED))
    one_at_most = len(names) > 1 and bool((true.sum(1) < 1.5).all())
    flags = np.eye(len(names))[drawn.argmax(1)] if one_at_most else drawn > 0.5
    both = np.where(table["hidden"][:, None], flags, true).astype(np.float32)
    return {SAMPLED + name: both[:, n] for n, name in enumerate(names)}


def exchanged(table: Table, names: Sequence[str], same_rank: bool) -> Table:
    """The sampled columns of `names` with each hidden token replaced by a random one, as a control.

    It comes from the hidden tokens of all events, or from those of the same rank (for one of each, from the next rank),
    each of which is used once: what they look like is right, and nothing of the event is known.
    """
    places = np.flatnonzero(table["hidden"])
    turn = np.random.default_rng(0).permutation(len(places))
    order = np.lexsort((turn, table["rank"][places])) if same_rank else turn
    source = np.empty_like(places)
    source[order] = np.roll(places[order], -1)
    found = {SAMPLED + name: table[TRUE + name].copy() for name in names}
    for name in names:
        found[SAMPLED + name][places] = table[TRUE + name][source]
    return found
