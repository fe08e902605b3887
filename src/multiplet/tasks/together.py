"""Together: several objectives on one encoder in one run, such as labels on simulation and none needed on data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from multiplet.draws import Draws
from multiplet.encoder import Encoder
from multiplet.errors import RecipeError
from multiplet.intervals import Measured
from multiplet.objectives.masked import Masked
from multiplet.objectives.neighbours import NextNeighbours
from multiplet.objectives.sensors import MaskedSensors
from multiplet.representation.tokens import Shape, Tokens
from multiplet.spec import did_you_mean
from multiplet.tasks.classify import Classify
from multiplet.tasks.direction import Direction
from multiplet.tasks.regress import Regress

Part = Masked | NextNeighbours | MaskedSensors | Classify | Direction | Regress


@dataclass(frozen=True)
class Together:
    """The sum of the losses of `parts`, each times what `weigh` says (1 where it says nothing).

    A loss is called PART.LOSS, and is written with its weight. Events count in the parts that they have labels for.
    """

    parts: Mapping[str, Part]
    weigh: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := sorted(self.weigh.keys() - self.parts.keys()):
            raise RecipeError(
                f"Together.weigh: there is no part {unknown[0]!r} ({did_you_mean(unknown[0], self.parts)})"
            )
        if not self.parts or not all(weight > 0 for weight in self.weigh.values()):
            raise RecipeError(f"Together needs one part at least, and weights above 0; they are {dict(self.weigh)}")

    def build(self, encoder: Encoder, shape: Shape) -> TogetherNet:
        """The objectives for this encoder, in the order of `parts`."""
        return TogetherNet(self, {name: part.build(encoder, shape) for name, part in self.parts.items()})


class TogetherNet(nn.Module):
    """Together, running. Each part runs the encoder, since some hide from it what others read."""

    def __init__(self, spec: Together, parts: Mapping[str, Any]) -> None:
        super().__init__()
        self.spec, self.parts = spec, nn.ModuleDict(parts)
        self.names = tuple(f"{part}.{name}" for part, net in self._nets for name in net.names)
        self.bystanders: list[nn.Module] = [one for _, net in self._nets for one in net.bystanders]
        self.truth = tuple(dict.fromkeys(column for _, net in self._nets for column in net.truth))

    @property
    def _nets(self) -> list[tuple[str, Any]]:
        return list(self.parts.items())

    def _weight(self, part: str) -> float:
        return self.spec.weigh.get(part, 1.0)

    @property
    def references(self) -> dict[str, float]:
        """Those of the parts, each beside the losses it belongs to, with their weights."""
        found: dict[str, float] = {}
        for part, net in self._nets:
            for label, value in net.references.items():
                loss, _, about = label.partition(": ")
                names = [loss] if about else net.names
                found |= {f"{part}.{name}: {about or label}": self._weight(part) * value for name in names}
        return found

    def weights(self, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, " B"]]:
        """Those of the parts."""
        found = {part: net.weights(tokens, draws) for part, net in self._nets}
        return {f"{part}.{name}": value for part, values in found.items() for name, value in values.items()}

    def forward(self, encoder: Encoder, tokens: Tokens, draws: Draws) -> dict[str, Float[Tensor, " B"]]:
        found = {part: net(encoder, tokens, draws) for part, net in self._nets}
        return {
            f"{part}.{name}": self._weight(part) * value
            for part, values in found.items()
            for name, value in values.items()
        }

    def predict(self, encoder: Encoder, tokens: Tokens) -> dict[str, Tensor]:
        """What the parts predict of events; RecipeError where two call it the same, or one predicts points."""
        found: dict[str, Tensor] = {}
        for part, net in self._nets:
            values = net.predict(encoder, tokens)
            if twice := sorted(found.keys() & values.keys()):
                raise RecipeError(f"{part} and another part of Together both predict {twice}: evaluate them apart")
            if points := sorted(name for name, value in values.items() if value.dim() > 1):
                raise RecipeError(f"{part} predicts {points} of points: Together is for objectives that predict events")
            found |= values
        return found

    def measure(self, table: Mapping[str, np.ndarray]) -> Measured:
        """What the parts measure, by PART: METRIC where there are several."""
        of = {part: net.measure(table) for part, net in self._nets}
        classes = next((one for one in of.values() if one.confusion is not None), Measured({}))
        return Measured(
            {f"{part}: {name}": value for part, one in of.items() for name, value in one.metrics.items()},
            classes.classes,
            classes.confusion,
            tuple(binned for one in of.values() for binned in one.binned),
        )


def parts_of(objective: Any) -> tuple[Any, ...]:
    """The objectives of a recipe: those put together, or the only one."""
    return tuple(objective.parts.values()) if isinstance(objective, Together) else (objective,)
