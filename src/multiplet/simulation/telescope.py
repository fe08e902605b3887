"""IceCube-like events of a neutrino telescope: parametrised light and ice, in NumPy alone.

These events are *like* those of a cubic kilometre of instrumented ice: analytic ice and yields of light in place of
followed photons, and a simple readout; no atmospheric muons, tau neutrinos or afterpulses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite
from typing import ClassVar

import numpy as np

from multiplet.data.columns import Column, Columns, concatenate, count_offsets
from multiplet.data.formats.telescope_layout import DIRECTION, INTERACTIONS, PULSES, SIMULATED
from multiplet.errors import DataError
from multiplet.simulation.blocks import block_seed
from multiplet.simulation.telescope_array import Ice, Modules, ideal_ice, ideal_modules
from multiplet.simulation.telescope_events import SHARES, Neutrinos, draw_neutrinos, light
from multiplet.simulation.telescope_light import Light
from multiplet.simulation.telescope_pulses import Pulses, read_out

SCHEMA = (*PULSES, *DIRECTION, *SIMULATED)
_REVISION = "2"  # raised whenever the same seed gives other events
_FIRST, _MORE = 272, 32  # neutrinos made at a time: about a block's triggers, then what may still lack
_PATIENCE = 300  # batches without a trigger


@dataclass(frozen=True)
class Telescope:
    """Neutrinos of 100 GeV to 1 PeV, with a spectrum ∝ E^-gamma, that trigger a telescope.

    The array and the ice are idealised ones; telescope_array reads those of a user's files. `interactions` are those
    that happen, in the proportions they always have. Raises DataError for an impossible gamma or interaction.
    """

    gamma: float = 1.9
    modules: Modules = field(default_factory=ideal_modules)
    ice: Ice = field(default_factory=ideal_ice)
    interactions: tuple[str, ...] = INTERACTIONS

    schema: ClassVar[tuple[Column, ...]] = SCHEMA
    streams: ClassVar[tuple[str, ...]] = ("neutrinos",)

    def __post_init__(self) -> None:
        if not isfinite(self.gamma) or abs(self.gamma) > 10:
            raise DataError(f"gamma is {self.gamma}: a spectrum E^-gamma needs a number from -10 to 10, such as 1.9")
        if not self.interactions or set(self.interactions) - set(INTERACTIONS):
            raise DataError(f"interactions are {self.interactions}: name at least one of {', '.join(INTERACTIONS)}")

    def provenance(self) -> dict[str, str]:
        """What decides the events but the seed."""
        return {
            "generator": "IceCube-like neutrino events: parametrised light, analytic or given ice, simple readout",
            "revision": _REVISION,
            "numpy": np.__version__,
            "gamma": str(self.gamma),
            **({} if set(self.interactions) == set(INTERACTIONS) else {"interactions": " ".join(self.interactions)}),
            "modules": "ideal" if self.modules == ideal_modules() else self.modules.digest,
            "ice": "ideal" if self.ice == ideal_ice() else self.ice.digest,
        }

    def block(self, stream: str, number: int, seed: int, events: int) -> Columns:
        """So many triggered events; a shorter block holds the first of a longer one."""
        if stream not in self.streams:
            raise DataError(f"there is no stream {stream!r} here: {', '.join(self.streams)}")
        detector = _light(self.modules, self.ice)
        rng = np.random.Generator(np.random.SFC64(block_seed(seed, stream, number, "telescope")))
        weights = [share * (name in self.interactions) for name, share in zip(INTERACTIONS, SHARES, strict=True)]
        shares = [weight / sum(weights) for weight in weights]
        found, missing, batch, idle = [], events, _FIRST, 0
        while missing > 0:
            made = _events(rng, detector, batch, self.gamma, shares)
            found.append(made.take(np.arange(min(missing, len(made)))))
            missing -= len(found[-1])
            batch, idle = _MORE, 0 if len(made) else idle + 1
            if idle == _PATIENCE:
                raise DataError("hardly a neutrino triggers this array: are its positions metres, its strings dense?")
        return concatenate(found)


@lru_cache(2)
def _light(modules: Modules, ice: Ice) -> Light:
    return Light(modules, ice)


def _events(rng: np.random.Generator, detector: Light, neutrinos: int, gamma: float, shares: list[float]) -> Columns:
    """The events, of so many neutrinos, that trigger."""
    drawn = draw_neutrinos(rng, neutrinos, gamma, shares)
    seen = detector.shine(rng, drawn, light(rng, drawn))
    return _columns(read_out(rng, seen, neutrinos, len(detector.modules)), drawn, detector)


def _columns(pulses: Pulses, drawn: Neutrinos, detector: Light) -> Columns:
    number = np.bincount(pulses.event, minlength=len(drawn))
    kept = np.flatnonzero(number)
    place = detector.modules.position[pulses.sensor]
    values = {
        "sensor_id": pulses.sensor,
        "time": pulses.time,
        "charge": pulses.charge,
        "auxiliary": pulses.auxiliary,
        **{name: place[:, axis] for axis, name in enumerate("xyz")},
        **{name: getattr(drawn, name)[kept] for name in ("azimuth", "zenith", "energy", "interaction")},
        **{f"vertex_{name}": drawn.vertex[kept, axis] for axis, name in enumerate("xyz")},
    }
    columns = {c.name: np.ascontiguousarray(values[c.name], c.dtype) for c in SCHEMA}
    return Columns(SCHEMA, count_offsets(number[kept]), columns)
