"""Recipes: one file a paper. `multiplet train NAME OUT` finds a function here by its name."""

from multiplet.recipes.maskdiff import jet_classes, maskdiff

__all__ = ["jet_classes", "maskdiff"]
