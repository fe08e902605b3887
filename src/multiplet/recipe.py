"""Recipe: everything that decides a run, as one frozen value; and the run folder that keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from multiplet.checkpoint import require_newest
from multiplet.data.batches import Batches
from multiplet.data.columns import Column
from multiplet.data.events import Events
from multiplet.data.mixture import Mixture
from multiplet.encoder import Encode
from multiplet.errors import RecipeError, RunError
from multiplet.model import Model, ShippedObjective, load_weights
from multiplet.optim import AdamW, Optim
from multiplet.record import read_record
from multiplet.representation.represent import Represent
from multiplet.spec import from_dict
from multiplet.transfer import Adapt, Frozen, Scratch


@dataclass(frozen=True)
class Train:
    """How long, in what pieces, and how often to look and to save. `workers` and `device` do not decide results."""

    steps: int = 1000
    batches: Batches = field(default_factory=Batches)
    clip: float | None = 1.0  # largest norm of the gradient
    log_every: int = 10
    validate_every: int = 200
    validation_events: int = 2000
    save_every: int = 200
    keep: int = 2
    workers: int = 0
    device: str = "auto"
    bf16: bool = True  # autocast on a GPU; parameters, norms and heads stay in FP32

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "validate_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise RecipeError(f"Train.{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("workers", "validation_events"):
            if getattr(self, name) < 0:
                raise RecipeError(f"Train.{name} is {getattr(self, name)}; it must be at least 0")
        if self.clip is not None and self.clip <= 0:
            raise RecipeError(f"Train.clip is {self.clip}; it must be above 0, or none")


@dataclass(frozen=True)
class Recipe:
    """The methods section of a run. Its `data` says where events are; all else follows from these values."""

    data: Events | Mixture
    represent: Represent
    encoder: Encode
    objective: ShippedObjective
    adapt: Adapt = field(default_factory=Scratch)
    optim: Optim = field(default_factory=AdamW)
    train: Train = field(default_factory=Train)
    seed: int = 0

    def build(self, schema: tuple[Column, ...]) -> Model:
        """The model for events with these columns, as it starts, before anything is carried."""
        return Model(self.represent, self.encoder, self.objective, schema, self.seed)


@dataclass(frozen=True)
class Run:
    """A run folder, read: the recipe, the columns of its events, and what it was called."""

    path: Path
    name: str
    recipe: Recipe
    schema: tuple[Column, ...]
    raw: dict[str, Any]

    def model(self) -> Model:
        """The trained model, from the newest valid checkpoint, in evaluation mode."""
        model = self.recipe.build(self.schema)
        load_weights(model, require_newest(self.path).weights())
        return model.eval()


def open_run(path: Path | str, known: Sequence[type] = ()) -> Run:
    """Read a run folder; `known` are classes of your own that its recipe names. Executes nothing from the folder.

    RunError where it is no run folder, or its recipe is not one of this version with these classes.
    """
    raw = read_record(Path(path))
    try:
        recipe = from_dict(Recipe, raw["recipe"], known)
        schema = tuple(from_dict(Column, column) for column in raw["schema"])
    except RecipeError as error:
        raise RunError(
            f"{Path(path) / 'recipe.json'} cannot be read: {error}; multiplet {raw['versions'].get('multiplet')} wrote "
            f"it and this is {version('multiplet')}: use that version, or train again"
        ) from error
    return Run(Path(path), raw["name"], recipe, schema, raw)


def carry(run: Path | str, objective: ShippedObjective, adapt: Adapt | None = None, **changes: Any) -> Recipe:
    """A recipe whose representation and encoder come from a run: frozen, or as `adapt` says."""
    base = open_run(run).recipe
    return replace(base, objective=objective, adapt=adapt or Frozen(str(run)), **changes)
