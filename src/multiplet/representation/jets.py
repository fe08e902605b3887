"""Jets: the quantities of a jet's constituents, and the published lists of features made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from multiplet import kinematics
from multiplet.cloud import Cloud
from multiplet.data.columns import EVENT_NAMES
from multiplet.representation.features import BIT, Feature, Log, SymLog

FLAGS = ("is_electron", "is_muon", "is_photon", "is_charged_hadron", "is_neutral_hadron")


_TINY = 1e-8  # GeV: keeps quotients finite in padded slots
# quantity → what it is computed from (event columns count for each point), and how; in this order
_DERIVED: dict[str, tuple[tuple[str, ...], Callable[..., Tensor]]] = {
    "pt": (("px", "py"), kinematics.pt),
    "eta": (("pz", "pt"), lambda pz, pt: torch.asinh(pz / pt.clamp(min=_TINY))),
    "phi": (("px", "py"), kinematics.phi),
    "dr": (("deta", "dphi"), torch.hypot),
    "pt_rel": (("pt", "jet_pt"), torch.div),
    "energy_rel": (("energy", "jet_energy"), torch.div),
    "q_over_pt": (("charge", "pt"), lambda charge, pt: charge / pt.clamp(min=_TINY)),
}


@dataclass(frozen=True)
class JetConstituents:
    """Quantities of constituents in the JetClass columns: px py pz energy in GeV, deta dphi in rad, d0 dz in mm.

    `deta` and `dphi` are taken as measured, relative to the jet axis; in JetClass files deta carries the sign of the
    jet's η, so that forward is always positive.
    """

    def point(self, cloud: Cloud) -> dict[str, Tensor]:
        """Name → (B, N): all point columns, and of pt, eta, phi, dr, pt_rel, energy_rel, q_over_pt what they allow."""
        have = {**cloud.points, **{name: value[:, None] for name, value in cloud.event.items()}}
        found = dict(cloud.points)
        for name, (needs, function) in _DERIVED.items():
            if name not in found and all(need in have for need in needs):
                found[name] = have[name] = function(*(have[need] for need in needs))
        return found

    def event(self, cloud: Cloud) -> dict[str, Tensor]:
        """Name → (B,): the event columns, without the identity."""
        return {name: value for name, value in cloud.event.items() if name not in EVENT_NAMES}


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

# Without η, φ and the scales of momenta: where the jet points is no use to most tasks. log pT and log E together still
# tell |η| of a constituent.
RELATIVE = tuple(feature for feature in CONSTITUENTS if feature.name not in ("pt", "eta", "phi", "energy"))
RELATIVE_INDEPENDENT = tuple(
    Feature("pt_rel", Log()) if feature.name == "log_pt" else feature
    for feature in INDEPENDENT
    if feature.name != "log_energy"
)
