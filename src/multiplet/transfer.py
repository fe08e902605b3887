"""One run's gift to another: the representation and the encoder of a trained run, put to a new task."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from multiplet.checkpoint import Checkpoint, require_newest
from multiplet.dimensions import Declared
from multiplet.errors import RecipeError, RunError
from multiplet.files import read_json
from multiplet.model import CARRIED, Account, Model, load_weights
from multiplet.record import as_of_now, read_record
from multiplet.spec import differences, to_dict


@dataclass(frozen=True)
class Scratch:
    """Start from nothing: the control of every transfer."""

    def carry(self, model: Model) -> Account | None:
        """Leave the model as it was made."""
        return None

    def prepare(self, model: Model) -> None:
        """Nothing is frozen."""


@dataclass(frozen=True)
class FineTune:
    """Carry representation and encoder from a run, and train everything.

    `layer_decay` d (as for masked autoencoders, arXiv 2111.06377): of L blocks the last moves at d times the rate, each
    other at d times the rate of the next, the embedding at d^(L + 1); the head, and a norm behind the blocks, at the
    full rate.
    """

    run: str
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.layer_decay <= 1:
            raise RecipeError(f"FineTune.layer_decay is {self.layer_decay}; it must lie in (0, 1]")

    def carry(self, model: Model) -> Account | None:
        """Copy what is carried; RunError where it does not fit, or the run has no valid checkpoint."""
        return _carry(Path(self.run), model)

    def prepare(self, model: Model) -> None:
        """Slow down what lies deep in the encoder."""
        if self.layer_decay == 1:
            return
        last = len(getattr(model.encoder.backbone, "blocks", ())) + 1
        for name, part in model.encoder.named_modules():
            match name.split("."):
                case ["backbone", "blocks", number, *_]:
                    layer = int(number) + 1
                case ["backbone", *_]:
                    layer = last
                case _:
                    layer = 0
            declared: dict[str, Declared] = getattr(part, "declared", {})
            slow = self.layer_decay ** (last - layer)
            declared.update({parameter: replace(one, factor=slow) for parameter, one in declared.items()})


@dataclass(frozen=True)
class Frozen:
    """Carry representation and encoder from a run, and train only what is new."""

    run: str

    def carry(self, model: Model) -> Account | None:
        """Copy what is carried; RunError as for FineTune."""
        return _carry(Path(self.run), model)

    def prepare(self, model: Model) -> None:
        """The encoder asks for no gradient, so no optimiser ever sees it."""
        model.encoder.requires_grad_(False)


@dataclass(frozen=True)
class FrozenRandom:
    """Carry the representation from a run, leave the encoder as it was made, and train only what is new.

    The control of every frozen encoder: what its shape alone is worth, without pretraining.
    """

    run: str

    def carry(self, model: Model) -> Account | None:
        """Copy the representation; RunError as for FineTune."""
        return _carry(Path(self.run), model, ("represent",))

    def prepare(self, model: Model) -> None:
        """The encoder asks for no gradient."""
        model.encoder.requires_grad_(False)


Adapt = Scratch | FineTune | Frozen | FrozenRandom
_FREE = ("represent.select:", "represent.select.")  # what may differ between a run and what it is carried to


def _carry(run: Path, model: Model, parts: tuple[str, ...] = CARRIED) -> Account:
    """Copy these parts; representation and encoder must be described alike in the run and in the model.

    But which points are drawn of a long event may differ: nothing is fitted on the drawn ones, and no weight belongs to
    one of them.
    """
    checkpoint = require_newest(run)
    theirs, mine = read_record(run)["recipe"], {"represent": model.represent.spec, "encoder": model.encoder.spec}
    stored = {part: as_of_now(theirs.get(part), spec) for part, spec in mine.items()}
    found = differences(stored, {part: to_dict(spec) for part, spec in mine.items()})
    if lines := [line for line in found if not line.startswith(_FREE)]:
        raise RunError(
            f"what {run} learned does not fit this recipe: {'; '.join(lines[:5])}; build it with carry({str(run)!r}, …)"
        )
    return replace(load_weights(model, checkpoint.weights(), parts), source=source_of(run, checkpoint))


def source_of(run: Path, checkpoint: Checkpoint) -> str:
    """Which weights of a run were carried, as recipe.json says it: run, step and hash."""
    hashed = read_json(checkpoint.path / "manifest.json")["sha256"]["weights.safetensors"]
    return f"{run} step {checkpoint.step} ({hashed[:12]})"
