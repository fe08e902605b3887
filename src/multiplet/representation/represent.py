"""Represent: Cloud → Tokens: quantities, order, standardised features, ids. Runs on the device, on whole batches."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from multiplet.cloud import Cloud
from multiplet.data.columns import EVENT_NAMES, Column
from multiplet.draws import FIXED, Draws
from multiplet.errors import RecipeError
from multiplet.representation.features import Feature, Standardiser
from multiplet.representation.jets import JetConstituents
from multiplet.representation.merging import BySensor
from multiplet.representation.orders import AsMeasured, Order, sort
from multiplet.representation.selection import Subsample
from multiplet.representation.telescope import Pulses
from multiplet.representation.tokenizers import Id, Tokenizer, places_of
from multiplet.representation.tokens import Shape, Tokens, gather
from multiplet.representation.tpc import Spacepoints


@dataclass(frozen=True)
class Measured:
    """The columns of the events as they are."""

    def point(self, cloud: Cloud) -> dict[str, Tensor]:
        """Name → (B, N)."""
        return dict(cloud.points)

    def event(self, cloud: Cloud) -> dict[str, Tensor]:
        """Name → (B,), without the identity."""
        return {name: value for name, value in cloud.event.items() if name not in EVENT_NAMES}


Quantities = Measured | JetConstituents | Spacepoints | Pulses


@dataclass(frozen=True)
class Represent:
    """How points become tokens.

    `targets` lists what objectives predict (the features themselves where empty); `ids` are measured names of points,
    and a tokenizer adds the id "code"; `most` keeps the first points of the order; `clip` bounds standardised values;
    what is fitted is fitted on the first `fit_events` of training.

    `event_targets` are predicted of the event as a whole, as it was measured, whatever of it becomes tokens. `merge`
    makes one token of several points, whose truth is then gone; `select` draws which tokens of a long event are kept.
    """

    features: tuple[Feature, ...]
    quantities: Quantities = field(default_factory=Measured)
    order: Order = field(default_factory=AsMeasured)
    targets: tuple[Feature, ...] = ()
    conditions: tuple[Feature, ...] = ()
    ids: tuple[Id, ...] = ()
    tokenizer: Tokenizer | None = None
    most: int | None = None
    clip: float = 10.0
    fit_events: int = 10_000
    event_targets: tuple[Feature, ...] = ()
    merge: BySensor | None = None
    select: Subsample | None = None

    def __post_init__(self) -> None:
        for name in ("features", "targets", "conditions", "event_targets"):
            names = [feature.name for feature in getattr(self, name)]
            if repeated := sorted({n for n in names if names.count(n) > 1}):
                raise RecipeError(f"Represent.{name} lists {repeated} more than once")
        if not self.features:
            raise RecipeError("Represent.features is empty: name at least one quantity")

    def build(self, schema: tuple[Column, ...]) -> RepresentNet:
        """The map for events with these columns."""
        return RepresentNet(self, schema)


class RepresentNet(nn.Module):
    """Represent, running. Its fitted numbers are buffers: saved with the model, never fitted twice."""

    fitted: Tensor

    def __init__(self, spec: Represent, schema: tuple[Column, ...]) -> None:
        super().__init__()
        self.spec = spec
        self.features = Standardiser(spec.features, spec.clip)
        self.other_targets = Standardiser(spec.targets, spec.clip) if spec.targets else None
        self.conditions = Standardiser(spec.conditions, spec.clip)
        self.event_targets = Standardiser(spec.event_targets, spec.clip) if spec.event_targets else None
        self.order = spec.order.build()
        self.tokenizer = spec.tokenizer.build(len(self.targets.features)) if spec.tokenizer else None
        self.register_buffer("fitted", torch.tensor(False))
        for one in (one for one in spec.ids if one.place):
            self.register_buffer(f"places_{one.column}", torch.full((one.codes, len(one.place)), torch.nan))
        kept = [column for column in schema if not (spec.merge and column.truth and column.level == "point")]
        made_of = getattr(spec.quantities, "made_of", {})
        self.shape = Shape(
            columns=tuple(feature.name for feature in spec.features),
            quantities=tuple(made_of.get(feature.quantity, feature.quantity) for feature in spec.features),
            targets=tuple(feature.name for feature in self.targets.features),
            conditions=tuple(feature.name for feature in spec.conditions),
            ids={one.column: one.codes for one in spec.ids}
            | ({"code": self.tokenizer.codes} if self.tokenizer else {}),
            classes={column.name: column.classes for column in kept if column.classes},
            truth=tuple(column.name for column in kept if column.truth),
            event_targets=tuple(feature.name for feature in spec.event_targets),
            places={one.column: len(one.place) for one in spec.ids if one.place},
        )

    @property
    def targets(self) -> Standardiser:
        """What objectives predict: features of their own, or those the encoder reads."""
        return self.features if self.other_targets is None else self.other_targets

    @torch.no_grad()
    def fit(self, *samples: Cloud) -> None:
        """Fit order, standardisation and tokenizer to these events, once; a second time raises RecipeError."""
        if bool(self.fitted):
            raise RecipeError("this representation is fitted already: what it has learned is part of the model")
        clean = [_clean(sample) for sample in samples]
        events = [self.spec.quantities.event(sample) for sample in clean]
        event = {name: torch.cat([part[name] for part in events]) for name in events[0]}
        every = torch.ones(sum(map(len, clean)), dtype=torch.bool, device=clean[0].mask.device)
        points, mask = _together([self._points(sample) for sample in clean])
        self.features.fit(points, mask)
        self.order.fit(points, mask)
        if self.other_targets is not None:
            self.other_targets.fit(points, mask)
        self.conditions.fit(event, every)
        if self.event_targets is not None:
            self.event_targets.fit(event, every)
        if self.tokenizer is not None:
            self.tokenizer.fit(self.targets(points)[mask])
        for one in (one for one in self.spec.ids if one.place):
            self.get_buffer(f"places_{one.column}").copy_(places_of(one, points, mask))
        self.fitted.fill_(True)

    @torch.no_grad()
    def forward(self, cloud: Cloud, draws: Draws | None = None) -> Tokens:
        """The events as tokens; what lies in padded slots of the cloud has no influence, not even if it is NaN.

        A selection is drawn with `draws`: those of the step in training; with None, everywhere else, it is always the
        same, or all of the event.
        """
        if not torch.compiler.is_compiling() and not self._ready:
            raise RecipeError("this representation was never fitted: call fit(sample) or load a trained run")
        cloud = _clean(cloud)
        quantities, source, real = self._points(cloud)
        places = sort(self.order.keys(quantities), real)[:, : self.spec.most]
        rank = torch.arange(places.shape[1], device=real.device).expand_as(places)
        select = self.spec.select
        if select is not None and not (select.training_only and draws is None):
            rank = select(quantities, places, real, cloud.index, draws or FIXED)
            places = gather(places, rank)
        mask = gather(real, places)
        hidden = ~mask[..., None]
        x = gather(self.features(quantities), places).masked_fill(hidden, 0.0)
        targets = x if self.other_targets is None else gather(self.targets(quantities), places)
        targets = targets.masked_fill(hidden, 0.0)
        index = gather(source, places)
        event = self.spec.quantities.event(cloud) if self.spec.conditions or self.event_targets is not None else {}
        return Tokens(
            x=x,
            mask=mask,
            rank=rank,
            index=index,
            event=cloud.index,
            cond=self.conditions(event) if self.spec.conditions else x.new_zeros(len(cloud), 0),
            ids=self._ids(quantities, places, mask, cloud.index)
            | ({"code": self.tokenizer.encode(targets)} if self.tokenizer else {}),
            targets={"x": targets} | ({} if self.event_targets is None else {"event": self.event_targets(event)}),
            truth={
                name: gather(value, index) if value.dim() == 2 else value
                for name, value in cloud.truth.items()
                if value.dim() == 1 or self.spec.merge is None
            },
            places={one.column: self.get_buffer(f"places_{one.column}") for one in self.spec.ids if one.place},
        )

    def _points(self, cloud: Cloud) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Quantities (B, N) of what becomes tokens, the point of the cloud each came from, and which are real."""
        quantities = self.spec.quantities.point(cloud)
        if self.spec.merge is not None:
            return self.spec.merge(quantities, cloud.mask)
        return quantities, torch.arange(cloud.mask.shape[1], device=cloud.mask.device).expand_as(cloud.mask), cloud.mask

    @property
    def _ready(self) -> bool:
        if not getattr(self, "_known_fitted", False):  # one look at the device, not one a batch
            self._known_fitted = bool(self.fitted)
        return self._known_fitted

    def _ids(self, quantities: dict[str, Tensor], places: Tensor, mask: Tensor, event: Tensor) -> dict[str, Tensor]:
        """Measured ids; one outside its range raises RecipeError on a CPU, and is an indexing error on a GPU."""
        if missing := [one.column for one in self.spec.ids if one.column not in quantities]:
            raise RecipeError(f"Represent.ids asks for {missing}; there are {sorted(quantities)}")
        ids = {one.column: gather(quantities[one.column], places).long().masked_fill(~mask, 0) for one in self.spec.ids}
        for one in self.spec.ids if mask.device.type == "cpu" else ():
            wrong = (ids[one.column] < 0) | (ids[one.column] >= one.codes)
            for row, slot in wrong.nonzero()[:1].tolist():
                raise RecipeError(
                    f"{one.column} is {int(ids[one.column][row, slot])} in the event at place {int(event[row])} of its "
                    f"split; Id allows 0 to {one.codes - 1}"
                )
        return ids


def _together(parts: list[tuple[dict[str, Tensor], Tensor, Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
    """Quantities and mask of all parts: as they are where there is one, else the real points of all in one row."""
    if len(parts) == 1:
        return parts[0][0], parts[0][2]
    rows = {name: torch.cat([points[name][mask] for points, _, mask in parts])[None] for name in parts[0][0]}
    return rows, torch.ones_like(next(iter(rows.values())), dtype=torch.bool)


def _clean(cloud: Cloud) -> Cloud:
    """Padded slots set to zero, so that nothing in them can spread; infinities to NaN, so that none can hide."""
    empty = ~cloud.mask
    clear = {name: _no_infinity(value).masked_fill(empty, 0) for name, value in cloud.points.items()}
    return replace(cloud, points=clear, event={name: _no_infinity(value) for name, value in cloud.event.items()})


def _no_infinity(value: Tensor) -> Tensor:
    return value.masked_fill(value.isinf(), torch.nan) if value.is_floating_point() else value
