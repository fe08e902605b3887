"""Ways: what becomes of a pretrained encoder when it is put to a task, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from multiplet.backbones.nothing import Nothing
from multiplet.embedding import Learned
from multiplet.errors import RecipeError
from multiplet.model import ShippedObjective
from multiplet.recipe import Recipe, open_run
from multiplet.spec import did_you_mean
from multiplet.transfer import Adapt, FineTune, Frozen, FrozenRandom, Scratch

_ADAPTS: dict[str, Callable[[str], Adapt]] = {"tuned": FineTune, "frozen": Frozen, "random": FrozenRandom}
WAYS = (*_ADAPTS, "scratch", "nothing", "features")


def put_to(task: ShippedObjective, run: str, encoder: str, fresh: Callable[[], Recipe]) -> Recipe:
    """A recipe for this task, with the representation and the encoder of a run, or of `fresh` without one.

    `encoder` is "tuned" or "frozen", the one of the run; "random", one of the same shape that was never trained,
    frozen; "scratch", one trained with the labels alone; "nothing", the embedded points; "features", the same with one
    learned linear map of the features in place of what embedded them. RecipeError for another one, and where a run is
    needed and not given.
    """
    if encoder not in WAYS:
        raise RecipeError(f"there is no encoder {encoder!r} ({did_you_mean(encoder, WAYS)})")
    if encoder in _ADAPTS and not run:
        raise RecipeError(f"encoder={encoder} needs a run to carry from, such as run=runs/pretrained")
    return in_way(encoder, task, open_run(run).recipe if run else fresh(), run)


def in_way(encoder: str, task: ShippedObjective, base: Recipe, run: str) -> Recipe:
    """`put_to` for the recipe of a run that need not be there before this recipe is trained."""
    encode = base.encoder
    if encoder in ("nothing", "features"):
        encode = replace(encode, backbone=Nothing(encode.backbone.width), event=False)
    if encoder == "features":
        if isinstance(encode.features, Learned):
            raise RecipeError("encoder=features: one linear map embeds them as it is: take encoder=nothing")
        encode = replace(encode, features=Learned())
    adapt = _ADAPTS[encoder](run) if encoder in _ADAPTS else Scratch()
    return replace(base, encoder=encode, objective=task, adapt=adapt, seed=0)
