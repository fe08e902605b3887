"""Rates: does the best rate of a narrow model serve a wide one? Pretraining at widths × rates, in µP and without."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from multiplet.errors import RecipeError
from multiplet.recipe import Recipe
from multiplet.recipes.fm4npp import fm4npp
from multiplet.recipes.maskdiff import maskdiff
from multiplet.spec import did_you_mean, override

# recipe → its arguments that are not asked for, and fields that must not grow with width for a rate to carry over
_PRETRAINING: dict[str, tuple[Callable[..., Recipe], dict[str, str]]] = {
    "fm4npp": (fm4npp, {"encoder.backbone.state": "4"}),
    "maskdiff": (partial(maskdiff, features="relative"), {}),
}
PARAMETRISATIONS = {"mup": "MuP", "umup": "UnitMuP", "standard": "Standard"}


def rate_transfer(
    recipe: str = "fm4npp",
    data: str = "data/tpc",
    widths: tuple[int, ...] = (32, 64, 128),
    rates: tuple[float, ...] = (2e-3, 4e-3, 8e-3, 16e-3, 32e-3),
    parametrisations: tuple[str, ...] = ("mup", "standard"),
    depth: int = 2,
    steps: int = 150,
    batch: int = 16,
) -> dict[str, Recipe]:
    """Cells of one seed: each sees the same events in the same order, so they differ by width and rate alone.

    multiplet study rate_transfer runs/rates recipe=fm4npp data=data/tpc
    multiplet study rate_transfer runs/unit recipe=maskdiff data=data/jets parametrisations=umup rates=0.25,0.5,1,2
    """
    for name, given, allowed in (
        ("recipe", (recipe,), _PRETRAINING),
        ("parametrisations", parametrisations, PARAMETRISATIONS),
    ):
        if unknown := [one for one in given if one not in allowed]:
            raise RecipeError(f"{name}: there is no {unknown[0]!r} ({did_you_mean(unknown[0], allowed)})")
    make, fields = _PRETRAINING[recipe]
    cells = {}
    for kind in parametrisations:
        param = {"encoder.param": PARAMETRISATIONS[kind]} if kind != "mup" else {}
        for width in widths:
            for rate in rates:
                made = make(data, width=width, depth=depth, steps=steps, batch=batch)
                changes = {"optim.rate": str(rate), "optim.warmup": str(steps // 10)}
                looks = {"train.validate_every": str(steps), "train.save_every": str(steps)}
                cells[f"{kind}-{width}-{rate:g}"] = override(made, {**fields, **param, **changes, **looks})
    return cells
