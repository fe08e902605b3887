"""Masked pretraining with a diffusion loss, without a tokenizer (M. Morinaga, indico 1386125, contribution 6139689)."""

from __future__ import annotations

from dataclasses import replace

from multiplet.backbones.transformer import Transformer
from multiplet.data.batches import Batches
from multiplet.data.events import Events
from multiplet.encoder import Encode
from multiplet.errors import RecipeError
from multiplet.objectives.decoder import CrossDecoder
from multiplet.objectives.diffusion import Diffusion
from multiplet.objectives.masked import Masked
from multiplet.optim import AdamW, ScheduleFree
from multiplet.parametrisation import MuP, UnitMuP
from multiplet.recipe import Recipe, Train
from multiplet.recipes.ways import put_to
from multiplet.representation.features import Feature
from multiplet.representation.jets import CONSTITUENTS, INDEPENDENT, RELATIVE, RELATIVE_INDEPENDENT, JetConstituents
from multiplet.representation.orders import Descending
from multiplet.representation.represent import Represent
from multiplet.spec import did_you_mean
from multiplet.tasks.classify import Classify
from multiplet.transfer import FineTune, Scratch

BATCH_WITH_LABELS = 128
_DEPTH = {128: 4, 256: 8, 512: 12}  # the talk's 1M, 8M and 47M encoders
_FEATURES: dict[str, tuple[tuple[Feature, ...], tuple[Feature, ...]]] = {  # name → inputs, targets (none: the inputs)
    "all": (CONSTITUENTS, ()),
    "independent": (CONSTITUENTS, INDEPENDENT),
    "relative": (RELATIVE, RELATIVE_INDEPENDENT),
}


def _represent(features: str) -> Represent:
    if features not in _FEATURES:
        raise RecipeError(f"there are no features {features!r} ({did_you_mean(features, _FEATURES)})")
    inputs, targets = _FEATURES[features]
    return Represent(inputs, JetConstituents(), Descending("pt"), targets, most=128)


def maskdiff(
    data: str = "data/jets",
    width: int = 128,
    depth: int = 0,
    steps: int = 5000,
    batch: int = 256,
    features: str = "relative",
) -> Recipe:
    """Pretrain on jets without labels: hide half of the constituents, predict half of the hidden ones by diffusion.

    What differs from the talk: µP instead of u-µP (which is `encoder.param=UnitMuP optim.rate=1.0`), batch 256 instead
    of 2048 and warm-up 200 instead of 1000 for small encoders, heavy tails through a symmetric logarithm, positions are
    the original rank.

    Other targets on the same encoder and masks: `objective.target=MeanSquared`, or `objective.target=Code` with
    `represent.tokenizer=KMeans`, `FSQ` or `VQ`.

    `features` is "relative" (without η and φ of constituents), "independent" (the talk's 21 as inputs, predicting 14
    that are no copies of one another) or "all" (the 21, predicting all, as in the talk): with those a small encoder
    spends itself on where the jet points, and fine-tuning is worse than training from scratch (docs/log.md). On
    52,000 simulated jets, width 64:

        multiplet train maskdiff runs/pretrained data=data/jets data.take=52000 width=64 steps=3641

    25 minutes on one processor core. What that is worth is a matter of chance: five encoders that differ by seed or
    decay of the pretraining, fine-tuned on 1,000 labels, are +0.017, +0.006, -0.034, +0.024 and -0.019 of ten-class
    accuracy from one trained from scratch. Ids as targets gain: k-means +0.023 and, from another seed, +0.035, VQ
    +0.022, FSQ +0.017. A squared error and hiding 12.5 or 75 % did harm (docs/results/masked_diffusion.md).
    """
    depth = depth or _DEPTH.get(width, 4)
    return Recipe(
        data=Events(data),
        represent=_represent(features),
        encoder=Encode(Transformer(width, depth), MuP(base_width=128, base_depth=4)),
        objective=Masked(
            hide=0.5, predict=0.25, decoder=CrossDecoder(depth=2 if depth <= 4 else 4), target=Diffusion()
        ),
        optim=ScheduleFree(rate=3e-3, warmup=200),
        train=Train(steps=steps, batches=Batches(batch), validate_every=500, save_every=500),
    )


def jet_classes(
    run: str = "",
    data: str = "data/jets",
    labels: int = 0,
    skip: int = 0,
    encoder: str = "",
    steps: int = 1000,
    width: int = 128,
    depth: int = 0,
    features: str = "relative",
) -> Recipe:
    """Tell the ten jet classes apart: from a pretrained run, or from scratch without one.

    `encoder` says what the head reads: "tuned", as usual, or "frozen", the encoder of `run`; "random", one of the same
    shape that was never trained; "scratch", as without a run, one trained with the labels alone; "nothing", the
    features through one linear map. `labels` is how many labelled jets to train on (0: all), from place
    `skip` of the training split on; `width`, `depth` and `features` are for training from scratch, a run brings its
    own. For the result above:

        multiplet train jet_classes runs/tuned run=runs/pretrained labels=1000 skip=52000 steps=100 seed=0
        multiplet train jet_classes runs/scratch width=64 labels=1000 skip=52000 steps=100 seed=0

    100 steps on 1,000 labels (20–30 s on one core), 600 on 10,000 (2.5 minutes): accuracy 0.587 and 0.697 fine-tuned,
    0.564 and 0.679 from scratch, means over seeds.
    """
    way = encoder or ("tuned" if run else "scratch")
    base = put_to(Classify(), run, way, lambda: maskdiff(data, width, depth, features=features))
    return with_labels(base, Events(data, skip, labels or None), steps)


def with_labels(base: Recipe, data: Events, steps: int) -> Recipe:
    """The recipe with these events, so many steps, and the optimiser and the batches of `jet_classes`.

    The head of a frozen encoder trains at ten times the rate: after 100 steps on 1,000 labels its cross-entropy is 1.48
    instead of 1.76 (1.49 at thirty times). Under u-µP the rate is 1, as in its pretraining; it was not chosen here.
    """
    rate = 1.0 if isinstance(base.encoder.param, UnitMuP) else 3e-3
    if not isinstance(base.adapt, FineTune | Scratch):
        rate *= 10
    # Batches by length would be batches by class; random ones, cut into parts by length, waste as little on padding.
    batches = Batches(BATCH_WITH_LABELS, by_length=False, points_at_once=2500)
    train = Train(steps=steps, batches=batches, validate_every=max(steps // 5, 1), save_every=max(steps // 2, 1))
    return replace(base, data=data, optim=AdamW(rate, warmup=30), train=train)
