"""The claims of masked diffusion on jets, measured: what pretraining gains, and what of it the gain depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from multiplet.data.events import Events
from multiplet.objectives.masked import Masked
from multiplet.objectives.targets import Code, MeanSquared
from multiplet.recipe import Recipe
from multiplet.recipes.maskdiff import BATCH_WITH_LABELS, maskdiff, with_labels
from multiplet.recipes.ways import in_way
from multiplet.representation.quantisers import FSQ, VQ
from multiplet.representation.tokenizers import KMeans, Tokenizer
from multiplet.spec import override
from multiplet.tasks.classify import Classify

Cells = dict[str, Recipe]
_TOKENIZERS: dict[str, Tokenizer] = {"kmeans": KMeans(), "vq": VQ(), "fsq": FSQ()}
_RATIOS = ((0.125, None), (0.25, 0.125), (0.5, 0.25), (0.75, 0.25), (0.75, 0.5))  # hidden, predicted; None: one
_SIZES = ((64, 2), (64, 4), (128, 4))  # width, depth
_EPOCHS, _FEWEST_STEPS = 8, 100  # of training with labels
_FEW, _MORE = 1000, 10_000  # labels at which variants are compared; up to the first there are all seeds
_SEEDS_ABOVE = 3


def masked_diffusion(
    out: str,
    data: str = "data/jets",
    two: str = "",
    steps: int = 3000,
    labels: tuple[int, ...] = (300, 1000, 3000, 10_000, 30_000),
    seeds: int = 5,
    width: int = 64,
    depth: int = 4,
    pretrain_each: bool = False,
) -> dict[str, Cells]:
    """Pretraining on all training jets without labels, in many variants, and jet classes with few labels after it.

    Questions: numbers of labels; targets (diffusion, mean squared error, ids of k-means, VQ and FSQ; "unplaced" where
    ranks are not told); how much is hidden and predicted; features; sizes; and, where `two` is a folder of QCD jets and
    top jets, these two classes. Variants are compared at 1,000 labels. Seed s has labelled jets of its own, from place
    s · labels on; above 1,000 labels there are three seeds: 30,000 labels need 90,000 training jets. Labels are seen 8
    times in batches of 128, in 100 steps at least. Each variant is pretrained once, and intervals do not contain what
    another pretraining would have given; with `pretrain_each` seed s carries the pretraining of seed s, and they do.

    What is compared has the same steps, batches and labelled jets; frozen encoders also stand beside a random one of
    the same shape, frozen as it was drawn. The rate with labels was chosen from scratch on 1,000 of them (with all 21
    features), but for the heads of frozen encoders; that of pretraining was chosen for no variant. Training from
    scratch standardises by its labelled jets, what is carried by 10,000 of pretraining. Unplaced variants stand
    beside a training from scratch that is told ranks.

        multiplet simulate jets --out data/jets --events 120000
        multiplet simulate jets --out data/tops --events 40000 --seed 2 --processes QCD,Tbqq
        multiplet study masked_diffusion runs/masked-diffusion data=data/jets two=data/tops
    """

    def cells(pretrained: Cells, ways: tuple[str, ...], data: str, counts: tuple[int, ...], of: str = "") -> Cells:
        return _cells(pretrained, out, ways, data, counts, seeds, of, pretrain_each)

    def pretraining(width: int = width, depth: int = depth, features: str = "relative") -> Recipe:
        made = maskdiff(data, width, depth, steps, features=features)
        return replace(made, train=replace(made.train, validate_every=max(steps // 3, 1)))

    base = pretraining()
    questions = {"Labels": cells({"diffusion": base}, ("tuned", "frozen", "scratch"), data, labels)}
    for title, made in (("Targets", _targets(base)), ("Hidden and predicted", _ratios(base))):
        for way, controls in (("tuned", ("scratch",)), ("frozen", ("random", "scratch"))):
            compared_with = cells({"diffusion": base}, controls, data, (_FEW,))
            questions[f"{title}: {way}"] = cells(made, (way,), data, (_FEW,)) | compared_with
    features = {f"features-{name}": pretraining(features=name) for name in ("independent", "all")}
    questions["Features"] = cells({"diffusion": base} | features, ("tuned", "scratch"), data, (_FEW,))
    sizes = {f"size-{wide}x{deep}": pretraining(wide, deep) for wide, deep in _SIZES if (wide, deep) != (width, depth)}
    questions["Sizes"] = cells({"diffusion": base} | sizes, ("tuned", "scratch"), data, (_FEW, _MORE))
    if two:
        ways = ("tuned", "frozen", "scratch")
        questions["Two classes"] = cells({"diffusion": base}, ways, two, (_FEW, _MORE), "two-")
    return questions


def _targets(base: Recipe) -> Cells:
    """What of a hidden constituent is predicted, on the same encoder and the same masks."""
    masked = _masked(base)
    made = {"diffusion": base, "squares": replace(base, objective=replace(masked, target=MeanSquared()))}
    for name in tuple(made):
        unplaced = {"encoder.backbone.position": "none", "objective.decoder.position": "none"}
        made[f"{name}-unplaced"] = override(made[name], unplaced)
    for name, tokenizer in _TOKENIZERS.items():
        represent = replace(base.represent, tokenizer=tokenizer)
        made[name] = replace(base, represent=represent, objective=replace(masked, target=Code()))
    return made


def _ratios(base: Recipe) -> Cells:
    """How much is hidden, and how much of that predicted."""
    masked, made = _masked(base), {"diffusion": base}
    for hide, predict in _RATIOS:
        if (hide, predict) != (masked.hide, masked.predict):
            objective = replace(masked, hide=hide, predict=predict)
            made[f"hide-{hide}-{predict or 'one'}"] = replace(base, objective=objective)
    return made


def _masked(base: Recipe) -> Masked:
    assert isinstance(base.objective, Masked)
    return base.objective


def _cells(
    pretrained: Cells,
    out: str,
    ways: tuple[str, ...],
    data: str,
    counts: tuple[int, ...],
    seeds: int,
    of: str = "",
    each: bool = False,
) -> Cells:
    """Runs that carry an encoder from others of this study, and after those: each way, number of labels and seed."""
    carried, cells = {}, {}
    for count in counts:
        steps = max(_EPOCHS * count // BATCH_WITH_LABELS, _FEWEST_STEPS)
        for name, base in pretrained.items():
            for way in ways:
                for seed in range(seeds if count <= _FEW else min(seeds, _SEEDS_ABOVE)):
                    run = f"{name}-s{seed}" if each else name
                    if way != "scratch":
                        carried[run] = replace(base, seed=seed) if each else base
                    task = in_way(way, Classify(), base, str(Path(out) / run))
                    labelled = with_labels(task, Events(data, seed * count, count), steps)
                    cells[f"{way}-{name}-{of}{count}-s{seed}"] = replace(labelled, seed=seed)
    return carried | cells
