"""Recipes: one file a paper. `multiplet train NAME OUT` finds a function here by its name, `study` those of STUDIES."""

from multiplet.recipes.controls import telescope_controls as telescope_controls
from multiplet.recipes.controls import tpc_controls as tpc_controls
from multiplet.recipes.fm4npp import fm4npp, noise_tagging, particle_id, track_finding
from multiplet.recipes.jet_study import masked_diffusion as masked_diffusion
from multiplet.recipes.maskdiff import jet_classes, maskdiff
from multiplet.recipes.polarbert import direction, energy, polarbert
from multiplet.recipes.rates import rate_transfer as rate_transfer

__all__ = [
    "direction",
    "energy",
    "fm4npp",
    "jet_classes",
    "maskdiff",
    "noise_tagging",
    "particle_id",
    "polarbert",
    "track_finding",
]
STUDIES = (
    "masked_diffusion",
    "rate_transfer",
    "telescope_controls",
    "tpc_controls",
)  # many recipes each, by the name of their cell
