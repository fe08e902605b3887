"""Merging: points of one sensor become one token, so that long events cost as many tokens as sensors were hit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from multiplet.errors import RecipeError
from multiplet.representation.orders import sort
from multiplet.representation.tokens import gather


@dataclass(frozen=True)
class BySensor:
    """One token for every sensor that was hit. Its quantities are those of its first pulse, but for these:

    `pulses` it has, `charge` of all of them, `auxiliary` 1 only if all of them are; and of the first pulses k = 0, 1, …
    below `first`, `time_k`, `charge_k` and `auxiliary_k`. A pulse that there is not has no charge, the time of the
    first one, and is auxiliary.
    """

    first: int = 8
    sensor: str = "sensor_id"

    def __post_init__(self) -> None:
        if self.first < 1:
            raise RecipeError(f"BySensor.first is {self.first}; it must be at least 1")

    def __call__(
        self, quantities: dict[str, Tensor], mask: Bool[Tensor, "B N"]
    ) -> tuple[dict[str, Tensor], Int[Tensor, "B M"], Bool[Tensor, "B M"]]:
        """Quantities of the sensors (B, M), the point that is the first of each, and which sensors are real."""
        if missing := [n for n in (self.sensor, "time", "charge", "auxiliary") if n not in quantities]:
            raise RecipeError(f"BySensor asks for {missing}; there are {sorted(quantities)}")
        places = sort(tuple(quantities[name] for name in (self.sensor, "time", "charge")), mask)
        ordered = {name: gather(value, places) for name, value in quantities.items()}
        real, points = gather(mask, places), mask.sum(1, keepdim=True)
        new = real.clone()  # the slot begins a sensor
        new[:, 1:] &= ordered[self.sensor][:, 1:] != ordered[self.sensor][:, :-1]
        sensors = new.sum(1)
        width = int(sensors.max()) if len(sensors) else 0
        begin = (~new).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
        slot = torch.arange(width, device=mask.device)
        found = slot < sensors[:, None]
        begin = torch.where(found, begin, points)  # sensors that there are not begin, and end, behind the last pulse
        end = torch.cat([begin[:, 1:], points], dim=1)[:, :width]
        at = begin.clamp(max=max(mask.shape[1] - 1, 0))
        merged = {name: gather(value, at) for name, value in ordered.items()}
        merged["charge"] = _sums(ordered["charge"], real, begin, end).to(ordered["charge"].dtype)
        merged["pulses"] = end - begin
        silent = _sums(ordered["auxiliary"] != 0, real, begin, end) == merged["pulses"]
        merged["auxiliary"] = silent.to(ordered["auxiliary"].dtype)
        for k in range(self.first):
            there, here = begin + k < end, torch.where(begin + k < end, begin + k, at)
            merged[f"time_{k}"] = gather(ordered["time"], here)
            merged[f"charge_{k}"] = gather(ordered["charge"], here).masked_fill(~there, 0)
            merged[f"auxiliary_{k}"] = gather(ordered["auxiliary"], here).masked_fill(~there, 1)
        return {name: value.masked_fill(~found, 0) for name, value in merged.items()}, gather(places, at), found


def _sums(values: Tensor, real: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """The sum of the real values (B, N) in each range of slots (B, M), in 64 bits: running sums taken apart."""
    running = torch.nn.functional.pad(values.double().masked_fill(~real, 0).cumsum(1), (1, 0))
    return running.gather(1, end) - running.gather(1, begin)
