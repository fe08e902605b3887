"""Identity: which run a folder holds, as its recipe.json says, and whether another one would go on in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from multiplet.data.events import Dataset, EventFiles
from multiplet.data.mixture import MixedFiles
from multiplet.errors import RunError
from multiplet.files import write_json, writing
from multiplet.optim import ScheduleFree
from multiplet.recipe import Recipe
from multiplet.record import as_of_now, read_record, record
from multiplet.spec import differences

# What may differ when a run goes on: the data's place (their fingerprint is compared); without a schedule, steps too.
_FREE = ("train.workers", "train.device", "data.path")


class Identity:
    """A recipe and its data beside what recipe.json says; RunError where a run has begun and is another one."""

    def __init__(self, recipe: Recipe, out: Path, dataset: Dataset, name: str, command: str, begun: bool) -> None:
        data = dataset.fingerprint() if isinstance(dataset, EventFiles | MixedFiles) else type(dataset).__name__
        self._out, self._begun = out, begun  # before the first checkpoint nothing is lost
        self._mine = record(recipe, name, command, dataset.schema, data)
        self._theirs: dict[str, Any] = read_record(out) if (out / "recipe.json").is_file() else {}
        self._mine["carried"] = self._theirs.get("carried")
        if self._theirs and begun:
            free = (*_FREE, *(f"data.sources.{name}.path" for name in getattr(recipe.data, "sources", ())))
            free += ("train.steps",) if isinstance(recipe.optim, ScheduleFree) else ()
            stored = as_of_now(self._theirs["recipe"], recipe)
            lines = [d for d in differences(stored, self._mine["recipe"]) if not d.startswith(free)]
            lines += differences(self._theirs["data"], self._mine["data"], "data")
            if lines:
                raise RunError(f"{out} holds a run of another recipe ({'; '.join(lines[:5])}): choose another folder")

    def carried(self, source: str | None) -> None:
        """Say what a run starts with: run, step and hash. RunError where it first started with something else."""
        before, self._mine["carried"] = self._mine["carried"], source
        if before and before != source and self._theirs["recipe"] == self._mine["recipe"]:
            raise RunError(
                f"{self._out} first started from {before}, which is now {source}: remove {self._out} to start anew"
            )

    def write(self) -> None:
        """Write recipe.json, but leave that of a run that goes on unchanged."""
        if not self._begun or self._theirs.get("recipe") != self._mine["recipe"]:
            path = self._out / "recipe.json"
            with writing(path):
                write_json(path, self._mine)
