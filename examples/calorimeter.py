"""A detector of one's own, whole: hits of a toy calorimeter, told apart into electrons and pions.

    python examples/calorimeter.py data/showers
    multiplet train examples/calorimeter.py:showers runs/showers data=data/showers
    multiplet evaluate runs/showers --known examples/calorimeter.py

What a new detector needs: the columns of its events, what is derived from them, and a recipe. The showers are a toy
(depth by a gamma distribution, width by an exponential), made here so that anybody can run the file.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from multiplet import Classify, Encode, Events, Feature, Recipe, Represent, Train, Transformer
from multiplet.cloud import Cloud
from multiplet.data.arrow import write_events
from multiplet.data.batches import Batches
from multiplet.data.columns import Column, Columns
from multiplet.optim import AdamW
from multiplet.representation.features import Log
from multiplet.representation.orders import Descending

SCHEMA = (
    Column("x", "cm"),
    Column("y", "cm"),
    Column("depth", "cm", about="from the front of the calorimeter"),
    Column("energy", "MeV"),
    Column("label", "", "event", truth=True, dtype="int8", classes=("electron", "pion")),
)


def make_showers(events: int, seed: int) -> Columns:
    """Showers of 20 to 60 hits; pions start later, reach deeper and are wider."""
    generator = np.random.default_rng(seed)
    hits = generator.integers(20, 60, events)
    offsets = np.concatenate([[0], np.cumsum(hits)])
    label = generator.integers(0, 2, events)
    pion = np.repeat(label, hits) == 1
    start = np.repeat(np.where(label == 1, generator.exponential(3, events), 0), hits)
    depth = start + generator.gamma(3.0, np.where(pion, 3.4, 3.0))
    radius, angle = generator.exponential(np.where(pion, 2.8, 2.5)), generator.uniform(-np.pi, np.pi, len(pion))
    values = {
        "x": radius * np.cos(angle),
        "y": radius * np.sin(angle),
        "depth": depth,
        "energy": generator.lognormal(2.0, 1.0, len(pion)) * np.exp(-radius / 5),
    }
    floats = {name: value.astype(np.float32) for name, value in values.items()}
    return Columns(SCHEMA, offsets.astype(np.int64), {**floats, "label": label.astype(np.int8)})


@dataclass(frozen=True)
class CalorimeterHits:
    """Quantities of hits: the columns, and the distance from the axis of the shower, weighted by energy."""

    def point(self, cloud: Cloud) -> dict[str, Tensor]:
        """Name → (B, N): all columns, and radius in cm."""
        weight = cloud.point("energy") * cloud.mask
        total = weight.sum(1, keepdim=True).clamp(min=1e-6)
        across = [cloud.point(name) - (cloud.point(name) * weight).sum(1, keepdim=True) / total for name in ("x", "y")]
        return {**cloud.points, "radius": torch.hypot(*across)}

    def event(self, cloud: Cloud) -> dict[str, Tensor]:
        """Name → (B,): nothing is measured for a shower as a whole."""
        return {}


def showers(data: str = "data/showers", width: int = 64, steps: int = 200) -> Recipe:
    """Tell electrons from pions."""
    features = (Feature("depth", unit="cm"), Feature("radius", unit="cm"), Feature("energy", Log(), unit="MeV"))
    return Recipe(
        data=Events(data),
        represent=Represent(features, CalorimeterHits(), Descending("energy")),
        encoder=Encode(Transformer(width, depth=2)),
        objective=Classify(),
        optim=AdamW(rate=3e-3, warmup=20),
        train=Train(steps=steps, batches=Batches(64)),
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for number, (split, size) in enumerate({"train": 4000, "validation": 500, "test": 2000}.items()):
        write_events(folder / split / "00000.arrow", make_showers(size, number), {"generator": "toy calorimeter"})
    print(f"6500 showers in {folder}")
