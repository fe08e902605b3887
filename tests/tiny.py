"""Tiny recipes for tests of the loop: `tests/tiny.py:masked` and `tests/tiny.py:labels` on the command line."""

from dataclasses import dataclass, replace

from multiplet.backbones.transformer import Transformer
from multiplet.data.batches import Batches
from multiplet.data.events import Events
from multiplet.encoder import Encode, Encoder
from multiplet.heads import mean_pool
from multiplet.objectives.decoder import CrossDecoder
from multiplet.objectives.diffusion import Diffusion
from multiplet.objectives.masked import Masked
from multiplet.objectives.targets import Code
from multiplet.optim import AdamW, ScheduleFree
from multiplet.parametrisation import MuP
from multiplet.recipe import Recipe, Train
from multiplet.representation.jets import CONSTITUENTS, JetConstituents
from multiplet.representation.orders import Descending
from multiplet.representation.represent import Represent
from multiplet.representation.tokenizers import KMeans
from multiplet.representation.tokens import Shape
from multiplet.tasks.classify import Classify, ClassifyNet
from multiplet.transfer import Adapt, Scratch

REPRESENT = Represent(CONSTITUENTS, JetConstituents(), Descending("pt"), fit_events=200)
ENCODE = Encode(Transformer(32, 1, head_dim=8), MuP(base_width=16, base_depth=1))


def train(steps: int) -> Train:
    """Short, and with edges of every kind in a few steps."""
    return Train(steps, Batches(32), log_every=1, validate_every=5, validation_events=40, save_every=4, keep=3)


def masked(data: str, steps: int = 20, free: bool = True) -> Recipe:
    """Pretraining by diffusion."""
    objective = Masked(
        decoder=CrossDecoder(1, head_dim=8), target=Diffusion(width=16, depth=1, repeats=2, fixed_repeats=4)
    )
    optim = ScheduleFree(rate=5e-3, warmup=3) if free else AdamW(rate=2e-3, warmup=3)
    return Recipe(Events(data), REPRESENT, ENCODE, objective, Scratch(), optim, train(steps))


def labels(data: str, steps: int = 20, adapt: Adapt | None = None) -> Recipe:
    """Classification."""
    return Recipe(Events(data), REPRESENT, ENCODE, Classify(), adapt or Scratch(), AdamW(2e-3, 3), train(steps))


@dataclass(frozen=True)
class Early:
    """Labels from the first block alone: what is behind it in the encoder gets no gradient."""

    def build(self, encoder: Encoder, shape: Shape) -> ClassifyNet:
        """As Classify, with other logits."""
        net = Classify().build(encoder, shape)
        net.logits = lambda encoder, tokens: net.out(mean_pool(encoder(tokens, blocks=True).blocks[0], tokens.mask))
        return net


def early(data: str, steps: int = 20) -> Recipe:
    """Classification that leaves parameters of the encoder unread, in batches that leave the second rank without one
    event at the end of an epoch."""
    short = replace(train(steps), batches=Batches(13))  # 300 = 23 · 13 + 1
    return replace(labels(data, steps), objective=Early(), train=short)


def codes(data: str, steps: int = 20) -> Recipe:
    """Pretraining on the codes of k-means."""
    represent = replace(REPRESENT, tokenizer=KMeans(16))
    objective = Masked(decoder=CrossDecoder(1, head_dim=8), target=Code())
    return Recipe(Events(data), represent, ENCODE, objective, Scratch(), AdamW(2e-3, 3), train(steps))
