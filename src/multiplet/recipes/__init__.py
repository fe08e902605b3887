"""Recipes: one file a paper. `multiplet train NAME OUT` finds a function here by its name, `study` those of # These give many recipes, by the name of their cell.
STUDIES = ("rate_transfer", "telescope_controls", "tpc_controls")
