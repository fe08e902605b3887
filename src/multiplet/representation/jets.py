"""Jets: the quantities of a jet's constituents, and the published lists of features made of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from multiplet import kinematics
from multiplet.cloud import Cloud
from multiplet.data.columns import IDENTITY
from multiplet.representation.features import BIT, Feature, Log, SymLog

FLAGS = ("is_electron", "is_muon", "is_photon", "is_charged_hadron", "is_neutral_hadron")


@dataclass(frozen=True)
class JetConstituents:
    """Quantities of constituents in the JetClass columns: px py pz energy in GeV, deta dphi in rad, d0 dz in mm.

    `deta` and `dphi` are taken as measured, relative to the jet axis; in JetClass files deta carries the sign of the
    jet's η, so that forward is always positive.
    """

    def point(self, cloud: Cloud) -> dict[str, Tensor]:
        """Name → (B, N): all point columns, and pt, eta, phi, dr, pt_rel, energy_rel, q_over_pt."""
        px, py, pz, energy = (cloud.point(name) for name in ("px", "py", "pz", "energy"))
        pt = kinematics.pt(px, py)
        return cloud.points | {
            "pt": pt,
            "eta": torch.asinh(pz / pt.clamp(min=1e-8)),
            "phi": kinematics.phi(px, py),
            "dr": torch.hypot(cloud.point("deta"), cloud.point("dphi")),
            "pt_rel": pt / cloud.event["jet_pt"][:, None],
            "energy_rel": energy / cloud.event["jet_energy"][:, None],
            "q_over_pt": cloud.point("charge") / pt.clamp(min=1e-8),
        }

    def event(self, cloud: Cloud) -> dict[str, Tensor]:
        """Name → (B,): the event columns, without the identity."""
        return {name: value for name, value in cloud.event.items() if name != IDENTITY}


_TRACK = (
    Feature("d0", SymLog(0.05), unit="mm"),
    Feature("dz", SymLog(0.05), unit="mm"),
    Feature("d0_err", SymLog(0.01), unit="mm"),
    Feature("dz_err", SymLog(0.01), unit="mm"),
)
_BITS = tuple(Feature(flag, scale=BIT) for flag in FLAGS)

# The 21 inputs of the masked-diffusion talk (indico 1386125, contribution 6139689).
CONSTITUENTS = (
    Feature("pt", unit="GeV"),
    Feature("eta"),
    Feature("phi", unit="rad"),
    Feature("energy", unit="GeV"),
    Feature("pt", Log(), unit="GeV"),
    Feature("energy", Log(), unit="GeV"),
    Feature("dphi", unit="rad"),
    Feature("deta"),
    Feature("dr"),
    Feature("pt_rel", Log()),
    Feature("energy_rel", Log()),
    Feature("q_over_pt", SymLog(0.1), unit="1/GeV"),
    *_TRACK,
    *_BITS,
)

# The same without copies of one another: 14 columns, of which one-hot identity leaves 13 degrees of freedom.
INDEPENDENT = (
    Feature("pt", Log(), unit="GeV"),
    Feature("deta"),
    Feature("dphi", unit="rad"),
    Feature("energy", Log(), unit="GeV"),
    Feature("charge"),
    *_TRACK,
    *_BITS,
)
