"""Rates: does the best rate of a narrow model serve a wide one? Pretraining at widths × rates, in µP and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from multiplet.errors import RecipeError
from multiplet.recipe import Recipe
from multiplet.recipes.fm4npp import fm4npp
from multiplet.recipes.maskdiff import maskdiff
from multiplet.spec import did_you_mean, override


class _Pretraining(NamedTuple):
    """What is trained where nothing else is asked for."""

    make: Callable[..., Recipe]
    data: str
    widths: tuple[int, ...]
    fields: dict[str, str]  # what must not grow with width for a rate to carry over


_PRETRAINING = {
    "fm4npp": _Pretraining(fm4npp, "data/tpc", (32, 64, 128), {"encoder.backbone.state": "4"}),
    "maskdiff": _Pretraining(maskdiff, "data/jets", (64, 128, 256), {}),
}
_AROUND_ONE = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
_SMALL = (1e-3, 2e-3, 4e-3, 8e-3, 16e-3, 32e-3)
PARAMETRISATIONS = {"mup": ("MuP", _SMALL), "umup": ("UnitMuP", _AROUND_ONE), "standard": ("Standard", _SMALL)}


def rate_transfer(
    recipe: str = "fm4npp",
    data: str = "",
    widths: tuple[int, ...] = (),
    rates: tuple[float, ...] = (),
    parametrisations: tuple[str, ...] = ("mup", "standard"),
    depth: int = 2,
    steps: int = 150,
    batch: int = 16,
    seeds: int = 1,
) -> dict[str, Recipe]:
    """Cells that see the same events in the same order, for each seed, and differ by width, rate and parametrisation.

    The base model of µP is the narrowest here. Nothing is clipped: gradients of the parametrisations differ in size,
    and a norm that always binds would stand in for a rate. Without `data`, `widths` and `rates`: those of the recipe
    and of the parametrisation. RecipeError for what is not known, and without a depth or a seed.

        multiplet study rate_transfer runs/rates recipe=fm4npp
        multiplet study rate_transfer runs/unit recipe=maskdiff parametrisations=umup,mup,standard steps=300 batch=32
    """
    for name, given, allowed in (
        ("recipe", (recipe,), tuple(_PRETRAINING)),
        ("parametrisations", parametrisations, tuple(PARAMETRISATIONS)),
    ):
        if unknown := [one for one in given if one not in allowed]:
            raise RecipeError(f"{name}: there is no {unknown[0]!r} ({did_you_mean(unknown[0], allowed)})")
    if depth < 1 or seeds < 1:
        raise RecipeError(f"depth and seeds are at least 1; given: {depth} and {seeds}")
    pretraining = _PRETRAINING[recipe]
    widths = widths or pretraining.widths
    cells = {}
    for kind in parametrisations:
        param, usual = PARAMETRISATIONS[kind]
        changes = {**pretraining.fields, "encoder.param": param, "train.clip": "none", "optim.warmup": str(steps // 10)}
        if kind == "mup":
            changes |= {"encoder.param.base_width": str(min(widths)), "encoder.param.base_depth": str(depth)}
        changes |= {"train.validate_every": str(steps), "train.save_every": str(steps)}
        for width in widths:
            made = pretraining.make(data or pretraining.data, width=width, depth=depth, steps=steps, batch=batch)
            for rate in rates or usual:
                for seed in range(seeds):
                    changed = override(made, {**changes, "optim.rate": str(rate), "seed": str(seed)})
                    cells[f"{kind}-{width}-{rate:g}-s{seed}"] = changed
    return cells
