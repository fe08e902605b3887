"""Neutrino telescopes: the quantities of pulses, and PolarBERT's features of them and of the sensors that were hit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from multiplet.cloud import Cloud
from multiplet.data.columns import EVENT_NAMES
from multiplet.representation.features import Feature, Log, Published, SymLog
from multiplet.representation.orders import Ascending
from multiplet.representation.tokenizers import Id

MODULES = 5160  # 86 strings of 60


@dataclass(frozen=True)
class Pulses:
    """Quantities of pulses with the columns sensor_id, time in ns, charge in photo-electrons, auxiliary, x, y, z in m.

    Of the event: how many `pulses` it has, their `total_charge`, and where that lies on average: `charge_x`, `charge_y`
    and `charge_z`, 0 where there is none.
    """

    def point(self, cloud: Cloud) -> dict[str, Tensor]:
        """Name → (B, N): the point columns."""
        return dict(cloud.points)

    def event(self, cloud: Cloud) -> dict[str, Tensor]:
        """Name → (B,): the event columns without the identity, and what is summed over all real pulses."""
        charge = cloud.point("charge").double().masked_fill(~cloud.mask, 0.0)  # in 64 bits: sums of 10⁵ pulses
        total = charge.sum(1)
        summed = {"pulses": cloud.mask.sum(1).float(), "total_charge": total.float()}
        for axis in ("x", "y", "z"):
            place = cloud.point(axis).double().masked_fill(~cloud.mask, 0.0)
            summed[f"charge_{axis}"] = ((charge * place).sum(1) / total.clamp(min=1e-9)).float()
        return {name: value for name, value in cloud.event.items() if name not in EVENT_NAMES} | summed


# The scales that GraphNeT and PolarBERT use for IceCube. Feature's logarithm is natural: ln q / (3 ln 10) = log10(q)/3,
# and a charge of 0, which stands for a pulse that is not there, becomes -1.
_TIME = Published(1e4, 3e4)
_CHARGE = Published(0.0, 3 * math.log(10))
_FLAG = Published(0.5, 1.0)

PULSES = (
    Feature("time", scale=_TIME, unit="ns"),
    Feature("charge", Log(1e-3), _CHARGE, "p.e."),
    Feature("auxiliary", scale=_FLAG),
)
PLACE = ("x", "y", "z")
POSITION = tuple(Feature(axis, scale=Published(0.0, 500.0), unit="m") for axis in PLACE)


def sensor_features(first: int) -> tuple[Feature, ...]:
    """Of a sensor that was hit: its place, log1p(n)/3 - 1 of its n pulses, their charge, and its `first` pulses."""
    pulses = [
        Feature(f"{name}_{k}", transform, scale, unit)
        for k in range(first)
        for name, transform, scale, unit in ((f.quantity, f.transform, f.scale, f.unit) for f in PULSES)
    ]
    return (*POSITION, Feature("pulses", SymLog(), Published(3.0, 3.0)), PULSES[1], *pulses)


SENSORS = sensor_features(8)  # as many as BySensor keeps if it is not told otherwise

# log10 of the charge over 100 p.e.: squared errors are in decades, and no time is lost on learning where zero is.
TOTAL_CHARGE = Feature("total_charge", Log(1e-3), Published(2 * math.log(10), math.log(10)), "p.e.")
CHARGE_CENTRE = tuple(Feature(f"charge_{axis}", scale=Published(0.0, 500.0), unit="m") for axis in PLACE)

IDS = (Id("sensor_id", MODULES, PLACE), Id("auxiliary", 2))
# What stays visible of a hidden pulse decides ties first: between two others of its time, its place would tell its id.
IN_TIME = Ascending("time", ("charge", "auxiliary", "sensor_id"))
