"""Recipes: one file a paper. `multiplet train NAME OUT` finds a function here by its name, `study` those of STUDIES."""

from multiplet.recipes.controls import tpc_controls as tpc_controls
from multiplet.recipes.fm4npp import fm4npp, noise_tagging, particle_id, track_finding
from multiplet.recipes.maskdiff import jet_classes, maskdiff

__all__ = ["fm4npp", "jet_classes", "maskdiff", "noise_tagging", "particle_id", "track_finding"]
STUDIES = ("tpc_controls",)  # functions that give many recipes, by the name of their cell
