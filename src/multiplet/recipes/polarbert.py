"""PolarBERT: pulses of a neutrino telescope as words, its sensors as the vocabulary (NeurIPS 2024 ML4PS, no. 259)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from multiplet.backbones.mamba import Mamba
from multiplet.backbones.recurrent import GRU
from multiplet.backbones.transformer import Transformer
from multiplet.data.batches import Batches
from multiplet.data.events import Events
from multiplet.data.mixture import Mixture
from multiplet.embedding import Concatenate, Fourier, Where
from multiplet.encoder import Backbone, Encode
from multiplet.errors import RecipeError
from multiplet.model import ShippedObjective
from multiplet.objectives.pointing import Pointing
from multiplet.objectives.sensors import MaskedSensors
from multiplet.optim import AdamW
from multiplet.parametrisation import MuP
from multiplet.recipe import Recipe, Train, open_run
from multiplet.recipes.ways import put_to
from multiplet.representation.merging import BySensor
from multiplet.representation.represent import Represent
from multiplet.representation.selection import Subsample
from multiplet.representation.telescope import IDS, IN_TIME, PLACE, PULSES, SENSORS, TOTAL_CHARGE, Pulses
from multiplet.spec import did_you_mean
from multiplet.tasks.direction import Angular, Direction, VonMisesFisher
from multiplet.tasks.regress import Regress
from multiplet.tasks.together import Together

_POINTS = 20_000  # padded pulses in one forward pass

_PULSES = Represent(PULSES, Pulses(), IN_TIME, ids=IDS, event_targets=(TOTAL_CHARGE,))  # scales are published
TOKENS = {
    "subsample": replace(_PULSES, select=Subsample(127)),
    "whole": replace(_PULSES, select=Subsample(127, training_only=True)),
    "pulses": _PULSES,
    "sensors": replace(_PULSES, features=SENSORS, merge=BySensor(8)),
}


def backbone_of(name: str, width: int, depth: int) -> Backbone:
    """One that reads all of an event: attention to a set, or a scan both ways in the order of time.

    All have 14 width² parameters a block, to 4 %.
    """
    made: dict[str, Callable[[], Backbone]] = {
        "transformer": lambda: Transformer(width, depth, head_dim=16, group=1, position=None, expansion=10 / 3),
        "gru": lambda: GRU(width, depth),
        "mamba": lambda: Mamba(width, depth, state=max(width // 8, 1), bidirectional=True),
    }
    if name not in made:
        raise RecipeError(f"there is no backbone {name!r} ({did_you_mean(name, made)})")
    return made[name]()


def polarbert(
    data: str = "data/telescope",
    width: int = 64,
    depth: int = 4,
    backbone: str = "transformer",
    tokens: str = "subsample",
    steps: int = 2000,
    batch: int = 128,
    rate: float = 2e-3,
    geometry: bool = True,
    pointing: bool = False,
) -> Recipe:
    """Pretrain on pulses without labels: which sensor saw the hidden ones, and the charge of the whole event.

    `tokens` are what the encoder reads: "subsample", at most 127 pulses of an event, drawn afresh in every step, as
    published; "whole", the same in training, and all of them elsewhere; "pulses", always all of them; "sensors", one
    token for each sensor that was hit, with its place (hidden with its id), its charge and its first eight pulses.
    `backbone` is "transformer", "gru" or "mamba".

    With `geometry` the encoder is told where sensors are, and a hidden one is compared with what it makes of that. With
    `pointing` too, a hidden pulse may point at pulses that are seen: sensors are named much better, and an encoder that
    is spared that work is worth much less to directions (2.76 instead of 3.37 nats, 78.9° instead of 58.5°).

    The published model is width=256 depth=8 with the plain encoder layer: encoder.backbone.group=1, head_dim=32,
    gated=false, expansion=4, layer_norm=true, final_norm=false. What differs: µP, and the cosine of AdamW instead of
    one cycle; no rows for padding and mask in the table of sensors, and no class for padding. The rate was not tuned.

        multiplet simulate telescope --out data/telescope --events 60000
        multiplet train polarbert runs/polarbert data=data/telescope
    """
    if tokens not in TOKENS:
        raise RecipeError(f"there are no tokens {tokens!r} ({did_you_mean(tokens, TOKENS)})")
    if pointing and not geometry:
        raise RecipeError("pointing needs to know where sensors are: leave geometry on")
    place = PLACE if tokens == "sensors" else ()
    return Recipe(
        data=Events(data),
        represent=TOKENS[tokens],
        encoder=Encode(
            backbone_of(backbone, width, depth),
            MuP(base_width=64, base_depth=4),
            ids=("sensor_id",),
            place=place,
            join=Concatenate(0.25 if place else 0.5),
            event=True,
            features=Fourier(("time_0" if place else "time",), bands=12),
            where=Where() if geometry else None,
        ),
        objective=MaskedSensors(tied=geometry, pointing=Pointing() if pointing else None),
        optim=AdamW(rate=rate, warmup=100, final=0.01),
        train=Train(
            steps=steps,
            batches=Batches(batch, points_at_once=_POINTS),
            validate_every=250,
            validation_events=1000,
            save_every=250,
        ),
    )


def _on_events(name: str, task: Direction | Regress, about: str) -> Callable[..., Recipe]:
    """A recipe for one task on events of a telescope; all have the same arguments."""

    def recipe(
        run: str = "",
        data: str = "data/telescope",
        labels: int = 0,
        skip: int = 0,
        encoder: str = "",
        unlabelled: str = "",
        steps: int = 2000,
        batch: int = 128,
        rate: float = 1e-3,
        width: int = 64,
        depth: int = 4,
        backbone: str = "transformer",
        tokens: str = "subsample",
    ) -> Recipe:
        way = encoder or ("tuned" if run else "scratch")
        base = put_to(task, run, way, lambda: polarbert(data, width, depth, backbone, tokens))
        labelled = Events(data, skip, labels or None)
        events: Events | Mixture = labelled
        objective: ShippedObjective = task
        if unlabelled:
            if way not in ("tuned", "scratch"):
                raise RecipeError(
                    f"encoder={way} learns nothing from unlabelled events: take encoder=tuned, or scratch"
                )
            events = Mixture(
                {"unlabelled": Events(unlabelled), "labelled": labelled}, unlabelled=("unlabelled",), even=True
            )
            pretraining = open_run(run).recipe.objective if run else None
            if not isinstance(pretraining, MaskedSensors):
                pretraining = MaskedSensors(tied=base.encoder.where is not None)
            objective = Together({"sensors": pretraining, name: task})
        look = max(steps // 5, 1)
        return replace(
            base,
            data=events,
            objective=objective,
            optim=AdamW(rate=rate, warmup=min(100, look), final=0.01),
            train=Train(
                steps=steps,
                batches=Batches(batch, points_at_once=_POINTS, by_length=False),
                validate_every=look,
                validation_events=2000,
                save_every=look,
            ),
        )

    recipe.__name__ = recipe.__qualname__ = name
    recipe.__doc__ = f"""{about}

    `encoder` says what the head reads: "tuned", as usual, or "frozen", the encoder of `run`; "random", one of the same
    shape that was never trained; "scratch", as without a run, one trained with the labels alone; "nothing", the
    embedded pulses; "features", the same with one linear map of the features. Without a run `width`, `depth`,
    `backbone` and `tokens` are those of polarbert. `labels` is how many labelled events to train on (0: all), from
    place `skip` of the training split on. `unlabelled` is a folder of other events, measured ones for instance, on
    which the encoder goes on to learn without labels in the same steps, with the loss it was pretrained with added;
    truth they may have is not read, and the smaller of both samples comes round as often as makes them about even. The
    rate was not tuned; published for millions of labels: 1.5e-5.

        multiplet train {name} runs/{name} run=runs/polarbert labels=10000
    """
    return recipe


direction = _on_events(
    "direction",
    Direction(losses=(Angular(), VonMisesFisher(0.05))),
    "Find where the neutrino came from, and how sure that is: opening angle + 0.05 · von Mises-Fisher.",
)
energy = _on_events("energy", Regress("energy", centre=3.5), "Find the neutrino's energy: squared error of log10 E.")
