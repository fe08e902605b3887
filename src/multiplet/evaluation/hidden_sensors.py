"""Hidden sensors named without training: by how often each sensor is hit, and by what was hit at the same time.

The references that a network pretrained on masked sensors is measured beside, on the masks of every evaluation. Both
give a probability to each of V sensors; quoted is the mean of -ln p of the true one inside an event, then over events.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from multiplet.data.batches import Batches, load, sequential
from multiplet.data.events import Dataset, Split
from multiplet.draws import FIXED
from multiplet.heads import masked_mean
from multiplet.intervals import Estimate, bootstrap
from multiplet.model import Model
from multiplet.objectives.sensors import MaskedSensorsNet
from multiplet.representation.tokens import Tokens

EVENTS = 3000  # of the split, from its start
COUNTED = 20_000  # training events
SPREAD = (0.045, 0.08, 0.20, 0.30, 0.20, 0.08, 0.045)  # of a hit over its string, from three below to three above
DECAY, FLOOR = 400.0, 1e-3  # ns; what a hit at any other time counts
_POINTS, _CELLS = 20_000, 20_000_000


@torch.no_grad()
def references(model: Model, dataset: Dataset, split: Split) -> dict[str, Estimate]:
    """`sensor: by frequency` and, where times and places of sensors are known, `sensor: by a kernel in time`.

    {} for another objective. Frequency: pulses that are not auxiliary in training events, one more for each sensor.
    Kernel: the visible ones of the event with weights exp(-|Δt|/400 ns) + 0.001, each spread over its sensor and three
    to either side on the string; 5 %, and what falls off an end, over all sensors.
    """
    net = model.objective
    if not isinstance(net, MaskedSensorsNet) or not dataset.size("train"):
        return {}
    device = next(model.parameters()).device
    frequency = _frequency(model, net, dataset)
    found: dict[str, list[Tensor]] = {}
    work = sequential(dataset, split, Batches(512, points_at_once=_POINTS), min(EVENTS, dataset.size(split)))
    for cloud in (cloud for _, clouds in load(dataset, split, work) for cloud in clouds):
        tokens = model.tokens(cloud.to(device))
        hide = net.hidden(tokens, FIXED)
        given = {"by frequency": frequency[tokens.ids[net.spec.sensor][hide]].log()}
        places = tokens.places.get(net.spec.sensor)
        time = model.represent.features.inverse(tokens.x).get("time")
        if places is not None and time is not None:
            given["by a kernel in time"] = _kernel(tokens, net, time, hide, neighbours(places.cpu().numpy()).to(device))
        for name, logs in given.items():
            mean = masked_mean(logs.new_zeros(hide.shape).masked_scatter(hide, -logs), hide)
            found.setdefault(f"sensor: {name}", []).append(mean[hide.any(1)])
    values = {name: torch.cat(parts).double().cpu().numpy() for name, parts in found.items()}
    return {name: bootstrap(np.mean, value) for name, value in values.items() if len(value)}


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
    """The share of pulses each sensor has in training, of those that are candidates for hiding."""
    counts = torch.ones(model.represent.shape.ids[net.spec.sensor])
    work = sequential(dataset, "train", Batches(512, points_at_once=10 * _POINTS), min(COUNTED, dataset.size("train")))
    for cloud in (cloud for _, clouds in load(dataset, "train", work) for cloud in clouds):
        good = cloud.mask & (cloud.points[net.spec.auxiliary] == 0)
        counts += torch.bincount(cloud.points[net.spec.sensor][good].long(), minlength=len(counts))
    return (counts / counts.sum()).to(next(model.parameters()).device)


def _kernel(
    tokens: Tokens,
    net: MaskedSensorsNet,
    time: Float[Tensor, "B S"],
    hide: Bool[Tensor, "B S"],
    near: Int[Tensor, "V 7"],
) -> Float[Tensor, " n"]:
    """ln p of the true sensor of each hidden token."""
    sensor, spread = tokens.ids[net.spec.sensor].long(), torch.tensor(SPREAD, device=time.device)
    visible = tokens.mask & ~hide & (tokens.ids[net.spec.auxiliary] == 0)
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
