"""FM4NPP: spacepoints in a raster scan, a Mamba pretrained on next neighbours, adapters on top (arXiv 2508.14087)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from multiplet.backbones.mamba import Mamba
from multiplet.backbones.mamba2 import Mamba2
from multiplet.data.batches import Batches
from multiplet.data.events import Events
from multiplet.embedding import Fourier
from multiplet.encoder import Encode
from multiplet.errors import RecipeError
from multiplet.model import ShippedObjective
from multiplet.objectives.neighbours import NextNeighbours
from multiplet.optim import AdamW
from multiplet.parametrisation import MuP
from multiplet.recipe import Recipe, Train
from multiplet.recipes.ways import put_to
from multiplet.representation.represent import Represent
from multiplet.representation.tpc import FEATURES, RASTER, Spacepoints
from multiplet.tasks.tag import Tag
from multiplet.tasks.tracks import Tracks

_POINTS = 16_000  # padded points in one forward pass


def fm4npp(
    data: str = "data/tpc",
    width: int = 64,
    depth: int = 12,
    k: int = 30,
    mamba: int = 1,
    steps: int = 2000,
    batch: int = 32,
) -> Recipe:
    """Pretrain on spacepoints without labels: predict the k nearest points further out from all points before.

    `mamba` is 1 or 2; the state has width/16 numbers, as published. The rate was chosen at width 64 and depth 4, the
    better of 2e-3 and 8e-3 after 150 short steps: look for a better one. µP carries a rate exactly only where the state
    is the same at all widths: at others it is close to right, no more (activations drift by up to width^0.19);
    `encoder.backbone.state=4` keeps that of width 64. What differs from the paper: µP for all of the network; batch 32
    in place of 256, for small samples; losses are means over events.

        multiplet simulate tpc --out data/tpc --events 20000
        multiplet train fm4npp runs/fm4npp data=data/tpc
    """
    if mamba not in (1, 2):
        raise RecipeError(f"mamba is {mamba}; there are 1 and 2")
    state = max(width // 16, 1)
    backbone = Mamba(width, depth, state) if mamba == 1 else Mamba2(width, depth, state)
    return Recipe(
        data=Events(data),
        represent=Represent(FEATURES, Spacepoints(), RASTER, clip=30.0),
        encoder=Encode(backbone, MuP(base_width=64, base_depth=4), features=Fourier()),
        objective=NextNeighbours(k),
        optim=AdamW(rate=8e-3, warmup=100, final=0.1),
        train=Train(
            steps=steps,
            batches=Batches(batch, points_at_once=_POINTS),
            validate_every=250,
            validation_events=300,
            save_every=250,
        ),
    )


def _adapter(name: str, task: ShippedObjective, about: str) -> Callable[..., Recipe]:
    """A recipe for one task on spacepoints; all have the same arguments."""

    def recipe(
        run: str = "",
        data: str = "data/tpc",
        labels: int = 0,
        skip: int = 0,
        encoder: str = "",
        steps: int = 1000,
        batch: int = 16,
        width: int = 64,
        depth: int = 12,
    ) -> Recipe:
        way = encoder or ("frozen" if run else "scratch")
        look = max(steps // 5, 1)
        batches = Batches(batch, by_length=False, points_at_once=_POINTS)
        return replace(
            put_to(task, run, way, lambda: fm4npp(data, width, depth)),
            data=Events(data, skip, labels or None),
            optim=AdamW(rate=1e-3, warmup=50, final=0.1),
            train=Train(steps=steps, batches=batches, validate_every=look, validation_events=300, save_every=look),
        )

    recipe.__name__ = recipe.__qualname__ = name
    recipe.__doc__ = f"""{about}

    `encoder` says what the adapter reads: "frozen", as usual, or "tuned", the one of `run`; "random", one of the same
    shape that was never trained; "scratch", as without a run, one trained with the labels alone; "nothing", the
    embedded points, with φ, η and r in fine steps; "features", the four features through one linear map, about what the
    paper calls AdapterOnly. `labels` is how many labelled events to train on (0: all), from place `skip` of the
    training split on.

        multiplet train {name} runs/{name} run=runs/fm4npp labels=300
    """
    return recipe


track_finding = _adapter(
    "track_finding",
    Tracks("track_id", by=("track_pt", "track_eta")),
    "Group spacepoints into tracks: learned queries that each claim one.",
)
noise_tagging = _adapter(
    "noise_tagging", Tag("noise"), "Tell the spacepoints of soft secondaries from those of other particles."
)
particle_id = _adapter(
    "particle_id",
    Tag("particle"),
    "Say of each spacepoint what particle left it: pion, kaon, proton, electron or another.",
)
