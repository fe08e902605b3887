"""multiplet: foundation models for nuclear and particle physics: one encoder for every detector and task.

The verbs of the command line are functions of the same names: simulate, convert, inspect, train, submit, evaluate,
predict, report, demo.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "Cloud": "cloud",
    "Events": "data.events",
    "Represent": "representation.represent",
    "Feature": "representation.features",
    "Encode": "encoder",
    "Transformer": "backbones.transformer",
    "Mamba": "backbones.mamba",
    "Mamba2": "backbones.mamba2",
    "Masked": "objectives.masked",
    "NextNeighbours": "objectives.neighbours",
    "Classify": "tasks.classify",
    "Tag": "tasks.tag",
    "Tracks": "tasks.tracks",
    "Recipe": "recipe",
    "Train": "recipe",
    "open_run": "recipe",
    "carry": "recipe",
    "simulate": "simulation.blocks",
    "convert": "data.convert",
    "inspect": "data.inspection",
    "submit": "submission",
    "train": "training",
    "evaluate": "evaluation.evaluate",
    "predict": "evaluation.prediction",
    "report": "evaluation.summary",
    "demo": "demonstration",
    "doctor": "diagnosis",
}
__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for, so that `import multiplet` and `--help` stay quick."""
    if name not in _WHERE:
        raise AttributeError(f"module 'multiplet' has no attribute {name!r}")
    return getattr(import_module(f"multiplet.{_WHERE[name]}"), name)
