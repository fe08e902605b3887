"""Model: representation + encoder + objective as one module, and its weights as one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from multiplet.cloud import Cloud
from multiplet.data.columns import Column
from multiplet.draws import Draws
from multiplet.encoder import Encode, Encoder
from multiplet.errors import RunError
from multiplet.intervals import Measured
from multiplet.objectives.masked import Masked
from multiplet.objectives.neighbours import NextNeighbours
from multiplet.objectives.sensors import MaskedSensors
from multiplet.representation.represent import Represent
from multiplet.representation.tokens import Shape, Tokens
from multiplet.tasks.classify import Classify
from multiplet.tasks.direction import Direction
from multiplet.tasks.regress import Regress
from multiplet.tasks.tag import Tag
from multiplet.tasks.together import Together
from multiplet.tasks.tracks import Tracks


@runtime_checkable
class ObjectiveNet(Protocol):
    """What the loop trains: losses (B,) by name, and before them the weight of each event in their means.

    Weights are a function of tokens and draws alone, so the denominators of a global batch are known before anything
    is computed; means over ranks and over the parts of a batch are then exact.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The losses it gives."""
        ...

    @property
    def references(self) -> Mapping[str, float]:
        """Trivial values to read the losses against."""
        ...

    @property
    def bystanders(self) -> list[nn.Module]:
        """Modules trained beside the model, for comparison only; they must not influence it."""
        ...

    @property
    def truth(self) -> tuple[str, ...]:
        """Columns of the truth that predictions are kept beside."""
        ...

    def weights(self, tokens: Tokens, draws: Draws) -> dict[str, Tensor]:
        """Name → (B,): what each event counts."""
        ...

    def __call__(self, encoder: Encoder, tokens: Tokens, draws: Draws) -> dict[str, Tensor]:
        """Name → (B,): the losses, finite where the weight is 0."""
        ...

    def predict(self, encoder: Encoder, tokens: Tokens) -> dict[str, Tensor]:
        """Name → (B,) or (B, S): what is written for each event, or for each point of it."""
        ...

    def measure(self, table: Mapping[str, np.ndarray]) -> Measured:
        """What predictions are worth, from their columns and those of `truth`."""
        ...


@runtime_checkable
class Objective(Protocol):
    """What a recipe says of an objective or a task."""

    def build(self, encoder: Encoder, shape: Shape) -> ObjectiveNet:
        """The network, on top of this encoder."""
        ...


class Model(nn.Module):
    """representation, encoder and objective; their parameters' names start with these three words."""

    def __init__(
        self, represent: Represent, encode: Encode, objective: Objective, schema: tuple[Column, ...], seed: int = 0
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.represent = represent.build(schema)
            self.encoder = encode.build(self.represent.shape)
            self.objective: Any = objective.build(self.encoder, self.represent.shape)

    def tokens(self, cloud: Cloud, draws: Draws | None = None) -> Tokens:
        """The events as the encoder reads them; `draws` are those of a training step, None always selects alike."""
        return self.represent(cloud, draws)

    def forward(self, tokens: Tokens, draws: Draws) -> dict[str, Tensor]:
        """Losses (B,) by name."""
        return self.objective(self.encoder, tokens, draws)

    def counts(self) -> dict[str, int]:
        """Parameters of encoder and objective, those of bystanders apart."""
        bystanders = sum(p.numel() for module in self.objective.bystanders for p in module.parameters())
        objective = sum(p.numel() for p in self.objective.parameters())
        return {
            "encoder": sum(p.numel() for p in self.encoder.parameters()),
            "objective": objective - bystanders,
            "reference": bystanders,
        }


@dataclass(frozen=True)
class Account:
    """What loading matched."""

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]  # left as they were made
    unused: tuple[str, ...]  # in the file, and not asked for
    numbers: int
    source: str = ""  # the run, the step and the start of the hash of what was loaded

    def __str__(self) -> str:
        def group(names: tuple[str, ...]) -> str:
            heads = [name.split(".")[0] for name in names]
            return ", ".join(f"{head} {heads.count(head)}" for head in dict.fromkeys(heads)) or "none"

        origin = f"{self.source}: " if self.source else ""
        return (
            f"loaded {origin}{len(self.loaded)} tensors, {self.numbers:,} numbers ({group(self.loaded)}); "
            f"new: {group(self.fresh)}; left in the file: {group(self.unused)}"
        )


CARRIED = ("represent", "encoder")  # what is pretrained, saved and carried


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], parts: tuple[str, ...] | None = None) -> Account:
    """Copy weights into the model, strictly: for the named parts (all where None) names and shapes must agree.

    Raises RunError listing everything that does not fit; then nothing has been copied.
    """
    own = model.state_dict()

    def wanted(name: str) -> bool:
        return parts is None or name.split(".")[0] in parts

    faults = [f"{name} is missing in the file" for name in own if wanted(name) and name not in weights]
    faults += [f"{name} is not part of this model" for name in weights if wanted(name) and name not in own]
    faults += [
        f"{name} has shape {tuple(weights[name].shape)} where {tuple(own[name].shape)} is needed"
        for name in own
        if wanted(name) and name in weights and weights[name].shape != own[name].shape
    ]
    if faults:
        raise RunError(
            f"these weights do not fit the model: {'; '.join(faults[:10])}{' …' if len(faults) > 10 else ''}"
        )
    loaded = tuple(name for name in own if wanted(name))
    with torch.no_grad():
        for name in loaded:
            own[name].copy_(weights[name])
    return Account(
        loaded,
        tuple(name for name in own if not wanted(name)),
        tuple(name for name in weights if not wanted(name)),
        sum(own[name].numel() for name in loaded),
    )


# What a recipe.json may name; any other class with Objective's methods trains too, and is named to `open_run` as known.
ShippedObjective = Masked | NextNeighbours | MaskedSensors | Classify | Tag | Tracks | Direction | Regress | Together
