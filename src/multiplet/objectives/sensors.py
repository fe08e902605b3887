"""Masked sensors: hide which sensor some pulses came from, and name it from when and how bright they and others are.

PolarBERT's pretraining for neutrino telescopes: the sensors are the vocabulary. Time, charge and flag of a hidden pulse
stay visible; its id, and its position where the encoder reads one, do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from multiplet.draws import FIXED, Draws
from multiplet.encoder import Encoder, Hidden
from multiplet.errors import RecipeError
from multiplet.heads import event_vector, masked_mean
from multiplet.intervals import Measured, bootstrap, like_weights, weight_rows
from multiplet.layers import Linear, Vector, full_precision
from multiplet.objectives.event_losses import event_losses, means
from multiplet.objectives.pointing import Pointing
from multiplet.representation.telescope import PLACE
from multiplet.representation.tokens import Shape, Tokens
from multiplet.spec import did_you_mean

_SAME_STRING = 1.0  # m between the axes of two sensors


@dataclass(frozen=True)
class MaskedSensors:
    """Hide the sensor of each token whose id `auxiliary` is 0 with probability `hide`, and classify it.

    "sensor" is the cross-entropy in nats, the mean inside an event, then over the events that have something hidden;
    "charge" is `charge` times the mean squared error of the representation's event targets, from the event's vector (0:
    none). `tied` compares with the encoder's own vectors of the sensors instead of learning others; `pointing`
    lets a hidden token point at pulses that are seen, where places of sensors are known. `group` hides
    so many neighbouring ids at once: 1 all pulses of a sensor, 60 of an IceCube string, 0 each pulse by itself. Events
    with more points than `long` are measured apart as well.
    """

    hide: float = 0.25
    charge: float = 1.0
    tied: bool = False
    pointing: Pointing | None = None
    group: int = 0
    sensor: str = "sensor_id"
    auxiliary: str = "auxiliary"
    long: int = 127

    def __post_init__(self) -> None:
        if not 0 < self.hide < 1 or self.charge < 0 or self.group < 0:
            raise RecipeError(
                "MaskedSensors.hide must lie in (0, 1), charge and group must be at least 0; they are "
                f"{self.hide}, {self.charge}, {self.group}"
            )

    def build(self, encoder: Encoder, shape: Shape) -> MaskedSensorsNet:
        """The objective for this encoder; RecipeError where ids are missing or would be given away by features."""
        for name in (self.sensor, self.auxiliary):
            if name not in shape.ids:
                raise RecipeError(
                    f"MaskedSensors needs the id {name!r} in Represent.ids ({did_you_mean(name, shape.ids)})"
                )
        if f"id_{self.sensor}" not in encoder.embed:
            raise RecipeError(f"MaskedSensors hides the id {self.sensor!r}: name it in Encode.ids")
        made = zip(shape.columns, shape.quantities, strict=True)
        if shown := [name for name, of in made if of in PLACE and name not in encoder.spec.place]:
            raise RecipeError(
                f"the features {shown} give away which sensor is hidden: name them in Encode.place, which hides them "
                "with it, or leave them out"
            )
        if self.pointing and not shape.places.get(self.sensor):
            raise RecipeError(f"MaskedSensors.pointing needs to know where sensors are: set Id({self.sensor!r}).place")
        if self.charge and not shape.event_targets:
            raise RecipeError(
                "MaskedSensors.charge needs something to predict of the event: set "
                "Represent.event_targets=(TOTAL_CHARGE,), or charge=0"
            )
        return MaskedSensorsNet(self, encoder, shape)


class MaskedSensorsNet(nn.Module):
    """MaskedSensors, running."""

    bystanders: list[nn.Module] = []  # noqa: RUF012
    truth: tuple[str, ...] = ()

    def __init__(self, spec: MaskedSensors, encoder: Encoder, shape: Shape) -> None:
        super().__init__()
        self.spec, self.id = spec, f"id_{spec.sensor}"
        param, codes, own = encoder.param, shape.ids[spec.sensor], encoder.widths[f"id_{spec.sensor}"]
        self.names = ("sensor", "charge") if spec.charge else ("sensor",)
        self.references = {"sensor: all alike": math.log(codes)}
        self.mask = nn.ModuleDict(
            {
                part: Vector(encoder.widths[part], encoder.param, std=1.0)
                for part in (self.id, "place")
                if part in encoder.embed
            }
        )
        self.scale = (int(own) * own.ratio) ** -0.5 if spec.tied else 1.0  # vectors of spread 1, read as µP reads
        self.out = Linear(encoder.width, own if spec.tied else codes, param, bias=True, zero=param.zero_readout)
        self.pointing = spec.pointing.build(encoder.width, param) if spec.pointing else None
        self.event: Linear | None = None
        if spec.charge:
            targets = len(shape.event_targets)
            self.event = Linear(encoder.width, targets, param, bias=True, zero=param.zero_readout)

    def hidden(self, tokens: Tokens, draws: Draws) -> Bool[Tensor, "B S"]:
        """Where the sensor is hidden in this step."""
        group = self.spec.group
        slots = tokens.ids[self.spec.sensor] // group if group else tokens.index
        drawn = draws.uniform("sensors", tokens.event, slots, 1)[..., 0] < self.spec.hide
        return drawn & self.candidates(tokens)

    def candidates(self, tokens: Tokens) -> Bool[Tensor, "B S"]:
        """Tokens whose sensor may be hidden."""
        return tokens.mask & (tokens.ids[self.spec.auxiliary] == 0)

    def weights(self, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, " B"]]:
        """For "sensor" 1 where a sensor is hidden, for "charge" where there is a token; else 0."""
        found = {"sensor": self.hidden(tokens, draws).any(1).float(), "charge": tokens.mask.any(1).float()}
        return {name: found[name] for name in self.names}

    def forward(self, encoder: Encoder, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, " B"]]:
        hide = self.hidden(tokens, draws)
        hidden = self.encode(encoder, tokens, hide)
        losses = {"sensor": _mean(self.cross_entropy(self.logits(encoder, hidden, tokens, hide), tokens, hide), hide)}
        if self.event is not None:
            losses["charge"] = self.spec.charge * self.event_error(hidden, tokens)
        return losses

    def encode(self, encoder: Encoder, tokens: Tokens, hide: Bool[Tensor, "B S"]) -> Hidden:
        """The encoder's output, with learned vectors where the sensor and its place are hidden."""
        return encoder(tokens, replace={part: (hide, vector()) for part, vector in self.mask.items()})

    def logits(
        self, encoder: Encoder, hidden: Hidden, tokens: Tokens, hide: Bool[Tensor, "B S"]
    ) -> Float[Tensor, "n V"]:
        """Of each hidden token, in FP32; of no other, for most of the cost is here."""
        with full_precision(hidden.points):
            found = self.out(hidden.points[hide].float())
            if self.spec.tied:
                found = F.linear(found, encoder.vectors(self.spec.sensor, tokens)) * self.scale
            if self.pointing is not None:
                ids, places = tokens.ids[self.spec.sensor], tokens.places[self.spec.sensor]
                return self.pointing(found, hidden.points.float(), ids, hide, tokens.mask & ~hide, places)
            return found

    def cross_entropy(
        self, logits: Float[Tensor, "n V"], tokens: Tokens, hide: Bool[Tensor, "B S"]
    ) -> Float[Tensor, " n"]:
        """-ln p of the true sensor."""
        return F.cross_entropy(logits, tokens.ids[self.spec.sensor][hide], reduction="none")

    def event_error(self, hidden: Hidden, tokens: Tokens) -> Float[Tensor, " B"]:
        """The mean squared error of the event's targets."""
        assert self.event is not None
        with full_precision(hidden.points):
            return (self.event(event_vector(hidden)) - tokens.targets["event"]).square().mean(-1)

    def predict(self, encoder: Encoder, tokens: Tokens) -> dict[str, Float[Tensor, " B"]]:
        """Per event, on the masks of every validation; NaN where nothing is hidden.

        "sensor", the mean cross-entropy of its `hidden` tokens; the shares of them whose sensor was the likeliest,
        `top_1`, or among five, `top_5`; and between the likeliest and the true one, where places are known, the share
        on the `same_string`, the `distance` and `distance_z` in m. "charge" is the squared error, whatever it weighs.
        """
        hide = self.hidden(tokens, FIXED)
        hidden = self.encode(encoder, tokens, hide)
        logits, true = self.logits(encoder, hidden, tokens, hide), tokens.ids[self.spec.sensor][hide]
        losses = {"sensor": _mean(self.cross_entropy(logits, tokens, hide), hide)}
        if self.event is not None:
            losses["charge"] = self.event_error(hidden, tokens)
        found = event_losses(losses, self.weights(tokens, FIXED), tokens) | {"hidden": hide.sum(1).float()}
        best = logits.topk(min(5, logits.shape[1])).indices
        right = {"top_1": best[:, 0] == true, "top_5": (best == true[:, None]).any(1)}
        found |= {name: _mean(value.float(), hide, torch.nan) for name, value in right.items()}
        if self.spec.sensor in tokens.places:
            found |= _apart(tokens.places[self.spec.sensor], best[:, 0], true, hide)
        return found

    def measure(self, table: Mapping[str, np.ndarray]) -> Measured:
        """Means over events with something hidden, with 68 % bootstrap intervals over events.

        Of the cross-entropy also the median of events, the mean over pulses, and the perplexity exp of that; of
        "charge" the root mean square.
        """
        pairs = [table[name][table["hidden"] > 0].astype(np.float64) for name in ("sensor", "hidden")]
        metrics = means(table, ("sensor",)) | {
            "sensor, median": bootstrap(np.median, pairs[0]),
            "sensor, by pulse": bootstrap(_by_pulse, *pairs),
            "perplexity": bootstrap(_perplexity, *pairs),
            "nothing hidden": bootstrap(np.mean, (table["hidden"] == 0).astype(np.float64)),
        }
        for name, chosen in self._by_points(table).items():
            metrics[f"sensor, {name} {self.spec.long} points"] = bootstrap(np.mean, pairs[0][chosen])
        for name in (name for name in _LABELS if name in table):
            metrics[_LABELS[name]] = means(table, (name,))[name]
        if "charge" in table:
            square = table["charge"].astype(np.float64)
            metrics["charge, root mean square"] = bootstrap(_root_mean, square[~np.isnan(square)])
        return Measured(metrics)

    def _by_points(self, table: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Which of the events with something hidden are short and which long; empty where there are not both."""
        if "points" not in table:
            return {}
        long = table["points"][table["hidden"] > 0] > self.spec.long
        return {"up to": ~long, "above": long} if long.any() and not long.all() else {}


_LABELS = {
    "top_1": "top-1",
    "top_5": "top-5",
    "same_string": "same string",
    "distance": "distance (m)",
    "distance_z": "distance in z (m)",
}


def _mean(values: Float[Tensor, " n"], hide: Bool[Tensor, "B S"], nothing: float = 0.0) -> Float[Tensor, " B"]:
    """The mean over each event's hidden tokens, or `nothing`."""
    mean = masked_mean(values.new_zeros(hide.shape).masked_scatter(hide, values), hide)
    return mean if nothing == 0.0 else mean.masked_fill(~hide.any(1), nothing)


def _apart(
    places: Float[Tensor, "V C"], found: Int[Tensor, " n"], true: Int[Tensor, " n"], hide: Bool[Tensor, "B S"]
) -> dict[str, Float[Tensor, " B"]]:
    """How far the sensors found are from the true ones, on average; those in unknown places are left out."""
    step = (places[found] - places[true])[:, :3]
    known = hide.masked_scatter(hide, step.isfinite().all(1))
    step = step[step.isfinite().all(1)].abs()
    same = (step[:, :2] < _SAME_STRING).all(1).float()
    each = {"same_string": same, "distance": step.norm(dim=1), "distance_z": step[:, 2]}
    return {name: _mean(value, known, torch.nan) for name, value in each.items()}


def _by_pulse(loss: np.ndarray, pulses: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    rows = weight_rows(weights, len(loss))
    return like_weights(weights, rows @ (loss * pulses) / (rows @ pulses))


def _perplexity(loss: np.ndarray, pulses: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    mean = np.exp(_by_pulse(loss, pulses, weights))
    return mean if isinstance(mean, np.ndarray) else float(mean)


def _root_mean(squares: np.ndarray) -> float:
    return math.sqrt(squares.mean())
