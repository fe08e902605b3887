"""Hidden sensors named without training: by how often each sensor is hit, and by what was hit at the same time.

The references that a network pretrained on masked sensors is measured beside, on the masks of every evaluation. Both
give a probability to each of V sensors; quoted is the mean of -ln p of the true one inside an event, then over events.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from multiplet.data.events import Dataset, Split
from multiplet.draws import FIXED
from multiplet.evaluation.scores import tokens_of
from multiplet.heads import masked_mean
from multiplet.intervals import Estimate, bootstrap
from multiplet.model import Model
from multiplet.objectives.sensors import MaskedSensorsNet
from multiplet.representation.tokens import Tokens
from multiplet.tasks.together import TogetherNet

COUNTED = 20_000  # training events
SPREAD = (0.045, 0.08, 0.20, 0.30, 0.20, 0.08, 0.045)  # of a hit over its string, from three below to three above
DECAY, FLOOR = 400.0, 1e-3  # ns; what a hit at any other time counts
_CELLS = 20_000_000


def references(model: Model, dataset: Dataset, split: Split) -> dict[str, Estimate]:
    """`sensor: by frequency`, if there are training events, and `sensor: by a kernel in time`, where times are known.

    {} without an objective that hides sensors; of one among several, after its name. Frequency: of tokens that may be
    hidden, in training events of these data, one more for each sensor. Kernel: the visible ones of them in the event,
    with weights exp(-|Δt|/400 ns) + 0.001, each spread over its sensor and three to either side on the string; 5 %, and
    what falls off an end, over all sensors.
    """
    parts = dict(model.objective.parts) if isinstance(model.objective, TogetherNet) else {"": model.objective}
    found: dict[str, Estimate] = {}
    for part, net in parts.items():
        if isinstance(net, MaskedSensorsNet):
            before = f"{part}: sensor: " if part else "sensor: "
            values = losses(model, net, dataset, split)
            found |= {before + name: bootstrap(np.mean, each) for name, each in values.items() if len(each)}
    return found


@torch.no_grad()
def losses(model: Model, net: MaskedSensorsNet, dataset: Dataset, split: Split) -> dict[str, np.ndarray]:
    """Reference → the mean of -ln p in each event that has something hidden, in no order; masks are `FIXED`."""
    frequency = _frequency(model, net, dataset) if dataset.size("train") else None
    found: dict[str, list[Tensor]] = {}
    near: Tensor | None = None  # the same for all events
    for tokens in tokens_of(model, dataset, split):
        hide, given = net.hidden(tokens, FIXED), {}
        if frequency is not None:
            given["by frequency"] = frequency[tokens.ids[net.spec.sensor][hide]].log()
        places = tokens.places.get(net.spec.sensor)
        time = model.represent.features.inverse(tokens.x).get("time")
        if places is not None and time is not None:
            near = neighbours(places.cpu().numpy()).to(time.device) if near is None else near
            given["by a kernel in time"] = _kernel(tokens, net, time, hide, near)
        for name, logs in given.items():
            mean = masked_mean(logs.new_zeros(hide.shape).masked_scatter(hide, -logs), hide)
            found.setdefault(name, []).append(mean[hide.any(1)])
    return {name: torch.cat(parts).double().cpu().numpy() for name, parts in found.items()}


def neighbours(places: Float[np.ndarray, "V C"]) -> Int[Tensor, "V 7"]:
    """The sensors three below to three above each on its string, -1 beyond an end; of unknown places itself alone."""
    known = np.flatnonzero(np.isfinite(places[:, :3]).all(1))
    xyz = np.round(places[known, :3], 1)  # m
    order = known[np.lexsort((xyz[:, 2], xyz[:, 1], xyz[:, 0]))]
    string = np.round(places[order, :2], 1)
    half = len(SPREAD) // 2
    found = np.full((len(places), len(SPREAD)), -1)
    found[:, half] = np.arange(len(places))
    for step in range(1, half + 1):
        same = (string[step:] == string[:-step]).all(1)
        found[order[:-step][same], half + step] = order[step:][same]
        found[order[step:][same], half - step] = order[:-step][same]
    return torch.from_numpy(found)


def _frequency(model: Model, net: MaskedSensorsNet, dataset: Dataset) -> Float[Tensor, " V"]:
    """The share of each sensor among the tokens that may be hidden, in training events."""
    counts = torch.ones(model.represent.shape.ids[net.spec.sensor], device=next(model.parameters()).device)
    for tokens in tokens_of(model, dataset, "train", COUNTED):
        sensor = tokens.ids[net.spec.sensor][net.candidates(tokens)]
        counts += torch.bincount(sensor.long(), minlength=len(counts))
    return counts / counts.sum()


def _kernel(
    tokens: Tokens,
    net: MaskedSensorsNet,
    time: Float[Tensor, "B S"],
    hide: Bool[Tensor, "B S"],
    near: Int[Tensor, "V 7"],
) -> Float[Tensor, " n"]:
    """ln p of the true sensor of each hidden token."""
    sensor, spread = tokens.ids[net.spec.sensor].long(), torch.tensor(SPREAD, device=time.device)
    visible = net.candidates(tokens) & ~hide
    inside = ((near >= 0) * spread).sum(1)
    logs = []
    for place in hide.nonzero().split(max(_CELLS // (len(SPREAD) * hide.shape[1]), 1)):
        event, slot = place.unbind(1)
        weight = (torch.exp(-(time[event] - time[event, slot][:, None]).abs() / DECAY) + FLOOR) * visible[event]
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-12)
        there = near[sensor[event]] == sensor[event, slot][:, None, None]
        hit = torch.einsum("ns,nsk,k->n", weight, there.to(weight.dtype), spread)
        logs.append((hit + (1 - (weight * inside[sensor[event]]).sum(1)) / len(near)).log())
    return torch.cat(logs) if logs else time.new_zeros(0)
