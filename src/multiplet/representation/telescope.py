"""Neutrino telescopes: the quantities of pulses, and PolarBERT's features of them and of the sensors that were hit.

Recipes read PULSES, or SENSORS where a token is a sensor. POSITION says where a sensor is, and ICE how far light goes
there. Both tell which sensor it is: an encoder that reads them names them in Encode.place, and MaskedSensors hides them
together with the id. They are then a third part of the embedding, which needs room beside the two others:

    recipe = polarbert()
    features = (*PULSES, *POSITION, *ICE)
    place = tuple(feature.name for feature in (*POSITION, *ICE))
    recipe = replace(
        recipe,
        represent=replace(recipe.represent, features=features),
        encoder=replace(recipe.encoder, place=place, join=Concatenate(0.25)),
    )
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from multiplet.cloud import Cloud
from multiplet.data.columns import EVENT_NAMES
from multiplet.ice import LEVELS, ideal_inverse_lengths
from multiplet.representation.features import Feature, Log, Published, SymLog
from multiplet.representation.orders import Ascending
from multiplet.representation.tokenizers import Id

MODULES = 5160  # 86 strings of 60
MADE_OF = {"ice_scattering": "z", "ice_absorption": "z"}  # quantity → what it tells, for it is made of nothing else


@dataclass(frozen=True)
class Pulses:
    """Quantities of pulses with the columns sensor_id, time in ns, charge in photo-electrons, auxiliary, x, y, z in m.

    Where there is a z and no column of the name, `ice_scattering` and `ice_absorption` are lengths in m of effective
    scattering and of absorption in the ice at the sensor. They are those of `multiplet.ice`, whatever ice events were
    made with; those of other ice come in as columns of these names.

    Of the event: how many `pulses` it has, their `total_charge`, and where that lies on average: `charge_x`, `charge_y`
    and `charge_z`, 0 where there is none.
    """

    made_of = MADE_OF

    def point(self, cloud: Cloud) -> dict[str, Tensor]:
        """Name → (B, N): the point columns, and the lengths in the ice."""
        made = dict(zip(MADE_OF, _in_ice(cloud.points["z"]), strict=True)) if "z" in cloud.points else {}
        return made | cloud.points

    def event(self, cloud: Cloud) -> dict[str, Tensor]:
        """Name → (B,): the event columns without the identity, and what is summed over all real pulses."""
        charge = cloud.point("charge").double().masked_fill(~cloud.mask, 0.0)  # in 64 bits: sums of 10⁵ pulses
        total = charge.sum(1)
        summed = {"pulses": cloud.mask.sum(1).float(), "total_charge": total.float()}
        for axis in ("x", "y", "z"):
            place = cloud.point(axis).double().masked_fill(~cloud.mask, 0.0)
            summed[f"charge_{axis}"] = ((charge * place).sum(1) / total.clamp(min=1e-9)).float()
        return {name: value for name, value in cloud.event.items() if name not in EVENT_NAMES} | summed


@cache
def _lengths(device: torch.device) -> Tensor:
    """Lengths in m (2, levels) at each of LEVELS, copied to a device once."""
    return torch.from_numpy(1 / np.stack(ideal_inverse_lengths())).float().to(device)


def _in_ice(z: Tensor) -> Tensor:
    """Lengths (2, B, N) at z (B, N): linear between the levels, those of the outermost beyond them; of NaN NaN."""
    lengths = _lengths(z.device)
    place = (z - float(LEVELS[0])).clamp(0, len(LEVELS) - 1)
    below = place.nan_to_num().long().clamp(max=len(LEVELS) - 2)
    low = lengths[:, below]
    return low + (place - below) * (lengths[:, below + 1] - low)


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

# How often the length has doubled since that in clear ice at the middle of the telescope, 36 m and 124 m. The ideal ice
# has 3.45 as the quotient of both everywhere: there one of them says all.
ICE = tuple(
    Feature(f"ice_{kind}", Log(), Published(math.log(length), math.log(2)), "m")
    for kind, length in (("scattering", 36.0), ("absorption", 3.45 * 36.0))
)


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
