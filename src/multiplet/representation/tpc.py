"""Time projection chambers: the quantities of spacepoints, and FM4NPP's features and order of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from multiplet import kinematics
from multiplet.cloud import Cloud
from multiplet.data.columns import EVENT_NAMES
from multiplet.representation.features import Feature, Published
from multiplet.representation.raster import RasterScan

_TINY = 1e-6  # cm


@dataclass(frozen=True)
class Spacepoints:
    """Quantities of spacepoints with the columns x, y, z in cm, the beam along z, and energy in ADC counts."""

    def point(self, cloud: Cloud) -> dict[str, Tensor]:
        """Name → (B, N): all point columns, r in cm, phi in (-π, π], and eta = asinh(z/r) as seen from the origin."""
        x, y, z = (cloud.point(name) for name in ("x", "y", "z"))
        r = torch.hypot(x, y)
        derived = {"r": r, "phi": kinematics.phi(x, y), "eta": torch.asinh(z / r.clamp(min=_TINY))}
        return {**cloud.points, **derived}

    def event(self, cloud: Cloud) -> dict[str, Tensor]:
        """Name → (B,): the event columns, without the identity."""
        return {name: value for name, value in cloud.event.items() if name not in EVENT_NAMES}


# FM4NPP's published numbers (arXiv 2508.14087): energy to mean 0 and spread 1, the others to [0, 1] over |η| < 2, all φ
# and the radii of the rows of sPHENIX's chamber.
FEATURES = (
    Feature("energy", scale=Published(253.0982, 268.7093), unit="ADC"),
    Feature("eta", scale=Published(-2.0, 4.0)),
    Feature("phi", scale=Published(-math.pi, 2 * math.pi), unit="rad"),
    Feature("r", scale=Published(31.371997833251953, 75.38493347167969 - 31.371997833251953), unit="cm"),
)

RASTER = RasterScan()  # 6 × 8 × 8 boxes in r, φ, η, with the gaps between the chamber's three groups of rows
