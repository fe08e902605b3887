"""Operations of masked pretraining against PyTorch's counter, and against the formula written out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from multiplet.backbones.mamba import Mamba
from multiplet.backbones.transformer import Transformer
from multiplet.data.events import Events
from multiplet.draws import Draws
from multiplet.embedding import Fourier
from multiplet.encoder import Encode
from multiplet.errors import RecipeError
from multiplet.flops import pretraining_flops
from multiplet.model import Model, Objective
from multiplet.objectives.decoder import CrossDecoder
from multiplet.objectives.diffusion import Diffusion, DiffusionNet
from multiplet.objectives.masked import Masked
from multiplet.objectives.targets import Code, MeanSquared
from multiplet.recipes.maskdiff import maskdiff
from multiplet.representation.jets import CONSTITUENTS, JetConstituents
from multiplet.representation.orders import Descending
from multiplet.representation.represent import Represent
from multiplet.representation.tokenizers import KMeans
from multiplet.tasks.classify import Classify
from toys import SCHEMA, write_toys

LENGTH, EVENTS = 19, 6  # of one length, so that nothing is padded
DECODER = CrossDecoder(2, head_dim=8)
CASES = [
    pytest.param(Encode(Transformer(32, 2, head_dim=8)), Masked(decoder=DECODER, target=Diffusion()), id="diffusion"),
    pytest.param(
        Encode(Transformer(32, 3, head_dim=8, group=1, gated=False, expansion=2.0), event=True),
        Masked(0.75, 0.5, replace(DECODER, width=16), Diffusion(width=24, depth=1, repeats=2, reference=False)),
        id="narrow-decoder",
    ),
    pytest.param(
        Encode(Transformer(64, 1, head_dim=16, group=4), ids=("code",), features=Fourier(("deta", "dphi"))),
        Masked(0.125, None, DECODER, MeanSquared()),
        id="mean-squared",
    ),
    pytest.param(
        Encode(Transformer(32, 1, head_dim=8), place=("deta",)), Masked(decoder=DECODER, target=Code()), id="code"
    ),
]


def build(encode: Encode, objective: Objective) -> Model:
    represent = Represent(CONSTITUENTS, JetConstituents(), Descending("pt"), tokenizer=KMeans(8))
    return Model(represent, encode, objective, SCHEMA)


def shared(model: Model, p: int) -> int:
    """What the heads save: conditions are the same for all copies of a token, and times are no more than there are."""
    target = model.objective.target
    if not isinstance(target, DiffusionNet):
        return 0
    head, k = target.head, target.spec.repeats
    condition, time = (2 * one.numel() for one in (head.condition.weight, head.time_in.weight))
    time += 2 * head.time_out.weight.numel()
    once = 0 if target.reference is None else (p - 1) * condition + max(p - 1000, 0) * time
    return (k - 1) * p * condition + max(k * p - 1000, 0) * time + once


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products by torch's own operations, which its counter knows."""
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(("encode", "objective"), CASES)
def test_operations_are_those_that_pytorch_counts(encode: Encode, objective: Masked, tmp_path: Path) -> None:
    folder = write_toys(tmp_path, 50, 10, 10, least=LENGTH, most=LENGTH)
    cloud = Events(str(folder)).open().read("train", np.arange(50))
    model = build(encode, objective)
    model.represent.fit(cloud)
    tokens = model.tokens(cloud)
    ours = pretraining_flops(model, [LENGTH] * 50)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        losses = model(tokens, Draws(0, 0))
    assert ours.forward + ours.reference - shared(model, ours.predicted) == counter.get_total_flops()
    parts = {name: sum(by.values()) for name, by in counter.get_flop_counts().items()}
    assert ours.encoder == parts["Model.encoder"]
    assert ours.decoder == parts["Model.objective.decoder"]
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        torch.stack([value.mean() for value in losses.values()]).sum().backward()
    backward = 2 * (ours.forward + ours.reference)
    assert 0.8 * backward < counter.get_total_flops() <= backward  # features and times need no gradient


@pytest.mark.parametrize(("d", "depth", "below"), [(128, 4, 2), (256, 8, 4), (512, 12, 4)])
def test_operations_of_the_published_sizes(d: int, depth: int, below: int) -> None:
    recipe = maskdiff(width=d, features="all")
    with torch.device("meta"):
        model = recipe.build(SCHEMA)
    head = 18 * d**2 + (256 + d + 2 * 21) * d
    expected = {"encoder": 0, "decoder": 0, "target": 0}
    for v, p in ((64, 32), (20, 10), (1, 0)):
        expected["encoder"] += depth * (30 * d**2 * v + 4 * d * v**2) + 42 * d * v
        expected["decoder"] += below * (p * 28 * d**2 + 2 * d**2 * v + 4 * d * p * v)
        expected["target"] += 4 * p * 2 * head
    got = pretraining_flops(model, [128, 40, 1])
    assert {name: getattr(got, name) for name in expected} == expected
    assert (got.seen, got.predicted, got.training) == (85, 42, 3 * sum(expected.values()))
    assert got.reference == 42 * 2 * head
    assert got.rule_of_thumb == 6 * 85 * sum(p.numel() for p in model.encoder.parameters())
    assert got.rule_of_thumb == pytest.approx(3 * got.encoder, rel=0.09)  # attention is what it leaves out


def test_what_is_not_counted_is_refused() -> None:
    with pytest.raises(RecipeError, match="not for Classify"):
        pretraining_flops(build(Encode(Transformer(64, 1)), Classify()), [5])
    with pytest.raises(RecipeError, match="not for Mamba"):
        pretraining_flops(build(Encode(Mamba(32, 1)), Masked(decoder=DECODER)), [5])
