"""Recipes: one file a paper. `multiplet train NAME OUT` finds a function here by its name."""

from multiplet.recipes.fm4npp import fm4npp, noise_tagging, particle_id, track_finding
from multiplet.recipes.maskdiff import jet_classes, maskdiff

__all__ = ["fm4npp", "jet_classes", "maskdiff", "noise_tagging", "particle_id", "track_finding"]
