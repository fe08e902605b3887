"""Controls: what a pretrained encoder is worth on few labels, beside none, a random one, and training from scratch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from multiplet.errors import RecipeError
from multiplet.recipe import Recipe
from multiplet.recipes.fm4npp import noise_tagging, particle_id, track_finding
from multiplet.recipes.polarbert import direction, energy
from multiplet.recipes.ways import WAYS
from multiplet.spec import did_you_mean, override

_Tasks = Mapping[str, Callable[..., Recipe]]
TPC: _Tasks = {"tracks": track_finding, "noise": noise_tagging, "particles": particle_id}
TELESCOPE: _Tasks = {"direction": direction, "energy": energy}


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
    tasks: tuple[str, ...] = tuple(TPC),
    encoders: tuple[str, ...] = WAYS,
) -> dict[str, Recipe]:
    """FM4NPP: three tasks × what the adapter reads × labels × seeds; tracks are given twice the steps.

    Adapters are `adapter` wide (published: 256). Seed s has labelled events of its own, from place skip + s · labels of
    the training split on, the same for every encoder.

        multiplet study tpc_controls runs/controls run=runs/fm4npp data=data/tpc
    """
    cells = {}
    for name, (task, encoder, count, start, seed) in _cells(TPC, tasks, encoders, labels, seeds, skip):
        long = steps * (1 + (task == "tracks"))
        changes = {"objective.width": adapter, "optim.rate": rate, "train.validation_events": 100}
        changes |= {"train.validate_every": long, "seed": seed}
        made = TPC[task](run, data, count, start, encoder, long, batch)
        cells[name] = override(made, {key: str(value) for key, value in changes.items()})
    return cells


def telescope_controls(
    run: str = "runs/polarbert",
    data: str = "data/telescope",
    labels: tuple[int, ...] = (1000,),
    seeds: int = 3,
    skip: int = 0,
    steps: int = 300,
    batch: int = 64,
    rate: float = 1e-3,
    tasks: tuple[str, ...] = ("direction",),
    encoders: tuple[str, ...] = WAYS,
) -> dict[str, Recipe]:
    """PolarBERT: direction or energy × what becomes of the encoder × labels × seeds, with labels as in `tpc_controls`.

    multiplet study telescope_controls runs/telescope-controls run=runs/polarbert data=data/telescope
    """
    cells = {}
    for name, (task, encoder, count, start, seed) in _cells(TELESCOPE, tasks, encoders, labels, seeds, skip):
        made = TELESCOPE[task](run, data, count, start, encoder, "", steps, batch, rate)
        cells[name] = override(made, {"seed": str(seed)})
    return cells


def _cells(
    known: _Tasks,
    tasks: Sequence[str],
    encoders: Sequence[str],
    labels: Sequence[int],
    seeds: int,
    skip: int,
) -> Iterator[tuple[str, tuple[str, str, int, int, int]]]:
    """Names and task, encoder, labels, place of the first and seed of cells; those that train no encoder come first."""
    for name, given, allowed in (("tasks", tasks, tuple(known)), ("encoders", encoders, WAYS)):
        if unknown := [one for one in given if one not in allowed]:
            raise RecipeError(f"{name}: there is no {unknown[0]!r} ({did_you_mean(unknown[0], allowed)})")
    heavy = [one for one in encoders if one in ("tuned", "scratch")]
    light = [one for one in encoders if one not in heavy]
    for count in labels:
        for group in (light, heavy):
            for seed in range(seeds):
                for task in tasks:
                    for one in group:
                        yield f"{task}-{one}-{count}-s{seed}", (task, one, count, skip + seed * count, seed)
