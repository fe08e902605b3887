"""Controls of FM4NPP: what the frozen encoder is worth beside none, a random one, and training all of it."""

from __future__ import annotations

from multiplet.errors import RecipeError
from multiplet.recipe import Recipe
from multiplet.recipes.fm4npp import CONTROLS, noise_tagging, particle_id, track_finding
from multiplet.spec import did_you_mean, override

TASKS = {"tracks": track_finding, "noise": noise_tagging, "particles": particle_id}
_FIRST = ("frozen", "nothing", "random")  # light: no gradient reaches an encoder


def tpc_controls(
    run: str = "runs/fm4npp",
    data: str = "data/tpc",
    labels: tuple[int, ...] = (300, 1000),
    seeds: int = 3,
    skip: int = 0,
    steps: int = 200,
    batch: int = 8,
    adapter: int = 64,
    rate: float = 4e-3,
    tasks: tuple[str, ...] = tuple(TASKS),
    encoders: tuple[str, ...] = CONTROLS,
) -> dict[str, Recipe]:
    """Three tasks × what the adapter reads × labels × seeds; tracks are given twice the steps.

    Seed s has labelled events of its own, from place skip + s · labels of the training split on, the same for every
    encoder. Adapters are `adapter` wide (published: 256). The light cells come first.

        multiplet study tpc_controls runs/controls run=runs/fm4npp data=data/tpc
    """
    for name, given, allowed in (("tasks", tasks, tuple(TASKS)), ("encoders", encoders, CONTROLS)):
        if unknown := [one for one in given if one not in allowed]:
            raise RecipeError(f"{name}: there is no {unknown[0]!r} ({did_you_mean(unknown[0], allowed)})")
    changes = {"objective.width": str(adapter), "optim.rate": str(rate), "train.validation_events": "100"}
    cells = {}
    for count in labels:
        for group in (_FIRST, tuple(set(CONTROLS) - set(_FIRST))):
            for seed in range(seeds):
                for task in tasks:
                    for encoder in sorted(one for one in group if one in encoders):
                        name, long = f"{task}-{encoder}-{count}-s{seed}", steps * (1 + (task == "tracks"))
                        made = TASKS[task](run, data, count, skip + seed * count, encoder, long, batch)
                        cells[name] = override(made, {**changes, "train.validate_every": str(long), "seed": str(seed)})
    return cells
