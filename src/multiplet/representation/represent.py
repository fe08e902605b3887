"""Represent: Cloud → Tokens: quantities, order, standardised features, ids. Runs on the device, on whole batches."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from multiplet.cloud import Cloud
from multiplet.data.columns import EVENT_NAMES, Column
from multiplet.errors import RecipeError
from multiplet.representation.features import Feature, Standardiser
from multiplet.representation.jets import JetConstituents
from multiplet.representation.orders import AsMeasured, Order, sort
from multiplet.representation.tokenizers import Id, Tokenizer
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


Quantities = Measured | JetConstituents | Spacepoints


@dataclass(frozen=True)
class Represent:
    """How points become tokens.

    `targets` lists what objectives predict (the features themselves where empty); `ids` are measured names of points,
    and a tokenizer adds the id "code"; `most` keeps the first points of the order; `clip` bounds standardised values;
    what is fitted is fitted on the first `fit_events` of training.
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

    def __post_init__(self) -> None:
        for name in ("features", "targets", "conditions"):
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
        self.order = spec.order.build()
        self.tokenizer = spec.tokenizer.build(len(self.targets.features)) if spec.tokenizer else None
        self.register_buffer("fitted", torch.tensor(False))
        self.shape = Shape(
            columns=tuple(feature.name for feature in spec.features),
            targets=tuple(feature.name for feature in self.targets.features),
            conditions=tuple(feature.name for feature in spec.conditions),
            ids={one.column: one.codes for one in spec.ids}
            | ({"code": self.tokenizer.codes} if self.tokenizer else {}),
            classes={column.name: column.classes for column in schema if column.classes},
            truth=tuple(column.name for column in schema if column.truth),
        )

    @property
    def targets(self) -> Standardiser:
        """What objectives predict: features of their own, or those the encoder reads."""
        return self.features if self.other_targets is None else self.other_targets

    @torch.no_grad()
    def fit(self, sample: Cloud) -> None:
        """Fit order, standardisation and tokenizer to these events, once; a second time raises RecipeError."""
        if bool(self.fitted):
            raise RecipeError("this representation is fitted already: what it has learned is part of the model")
        sample = _clean(sample)
        points, event = self.spec.quantities.point(sample), self.spec.quantities.event(sample)
        self.features.fit(points, sample.mask)
        self.order.fit(points, sample.mask)
        if self.other_targets is not None:
            self.other_targets.fit(points, sample.mask)
        self.conditions.fit(event, torch.ones(len(sample), dtype=torch.bool, device=sample.mask.device))
        if self.tokenizer is not None:
            self.tokenizer.fit(self.targets(points)[sample.mask])
        self.fitted.fill_(True)

    @torch.no_grad()
    def forward(self, cloud: Cloud) -> Tokens:
        """The events as tokens; what lies in padded slots of the cloud has no influence, not even if it is NaN."""
        if not torch.compiler.is_compiling() and not self._ready:
            raise RecipeError("this representation was never fitted: call fit(sample) or load a trained run")
        cloud = _clean(cloud)
        quantities = self.spec.quantities.point(cloud)
        places = self._order(quantities, cloud.mask)
        mask = gather(cloud.mask, places)
        hidden = ~mask[..., None]
        x = gather(self.features(quantities), places).masked_fill(hidden, 0.0)
        targets = x if self.other_targets is None else gather(self.targets(quantities), places)
        targets = targets.masked_fill(hidden, 0.0)
        truth = {k: gather(v, places) if v.dim() == 2 else v for k, v in cloud.truth.items()}
        return Tokens(
            x=x,
            mask=mask,
            rank=torch.arange(places.shape[1], device=mask.device).expand_as(places),
            index=places,
            event=cloud.index,
            cond=self.conditions(self.spec.quantities.event(cloud))
            if self.spec.conditions
            else x.new_zeros(len(cloud), 0),
            ids=self._ids(quantities, places, mask)
            | ({"code": self.tokenizer.encode(targets)} if self.tokenizer else {}),
            targets={"x": targets},
            truth=truth,
        )

    @property
    def _ready(self) -> bool:
        if not getattr(self, "_known_fitted", False):  # one look at the device, not one a batch
            self._known_fitted = bool(self.fitted)
        return self._known_fitted

    def _ids(self, quantities: dict[str, Tensor], places: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Measured ids; one outside its range raises RecipeError on a CPU, and is an indexing error on a GPU."""
        ids = {one.column: gather(quantities[one.column], places).long().masked_fill(~mask, 0) for one in self.spec.ids}
        for one in self.spec.ids:
            if (
                mask.device.type == "cpu"
                and mask.any()
                and not 0 <= ids[one.column].amin() <= ids[one.column].amax() < one.codes
            ):
                low, high = int(ids[one.column].amin()), int(ids[one.column].amax())
                raise RecipeError(f"{one.column} runs from {low} to {high}; Id allows 0 to {one.codes - 1}")
        return ids

    def _order(self, quantities: dict[str, Tensor], mask: Tensor) -> Tensor:
        return sort(self.order.keys(quantities), mask)[:, : self.spec.most]


def _clean(cloud: Cloud) -> Cloud:
    """Padded slots set to zero, so that nothing in them can spread; infinities to NaN, so that none can hide."""
    empty = ~cloud.mask
    clear = {name: _no_infinity(value).masked_fill(empty, 0) for name, value in cloud.points.items()}
    return replace(cloud, points=clear, event={name: _no_infinity(value) for name, value in cloud.event.items()})


def _no_infinity(value: Tensor) -> Tensor:
    return value.masked_fill(value.isinf(), torch.nan) if value.is_floating_point() else value
