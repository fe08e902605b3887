"""µP: roles from dimensions, rules as numbers, the coordinate check, which the standard parametrisation must fail."""

from __future__ import annotations

import copy
import math
import pickle
from collections import defaultdict
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from multiplet.backbones.mamba import Mamba
from multiplet.backbones.mamba2 import Mamba2
from multiplet.backbones.recurrent import GRU, RecurrentBlock
from multiplet.backbones.transformer import Transformer
from multiplet.data.events import Events
from multiplet.draws import Draws
from multiplet.encoder import Backbone, Concatenate, Encode
from multiplet.errors import RecipeError
from multiplet.layers import Linear
from multiplet.model import Model, Objective
from multiplet.objectives.decoder import CrossDecoder
from multiplet.objectives.diffusion import Diffusion
from multiplet.objectives.masked import Masked
from multiplet.optim import AdamW
from multiplet.parametrisation import MuP, Role, Standard, Width, declare, declare_vector, declared_parameters
from multiplet.representation.jets import CONSTITUENTS, JetConstituents
from multiplet.representation.orders import Descending
from multiplet.representation.represent import Represent
from multiplet.tasks.classify import Classify
from toys import SCHEMA

WIDTHS = (64, 128, 256)
BACKBONE = Transformer(depth=2, head_dim=16)
SLOT = Encode(  # PolarBERT's parts: side by side, plain blocks, a slot to read from
    Transformer(depth=2, head_dim=16, group=1, position=None, gated=False, layer_norm=True, attention_bias=True),
    place=("deta", "dphi"),
    join=Concatenate(0.25),
    event=True,
)
MASKED = Masked(decoder=CrossDecoder(depth=1, head_dim=16), target=Diffusion(depth=2, reference=False))


def build(
    width: int, param: Standard, objective: Objective, encode: Encode | Backbone = BACKBONE, seed: int = 0
) -> Model:
    represent = Represent(CONSTITUENTS, JetConstituents(), Descending("pt"))
    encode = encode if isinstance(encode, Encode) else Encode(encode)
    encode = replace(encode, backbone=replace(encode.backbone, width=width), param=param)
    return Model(represent, encode, objective, SCHEMA, seed)


def test_the_role_of_a_matrix_follows_from_which_dimensions_grow() -> None:
    width = Width(256, 2.0)
    assert declare(21, width).role is Role.INPUT
    assert declare(width, width * 4).role is Role.HIDDEN
    assert declare(width, 10).role is Role.OUTPUT
    assert declare(3, 4).role is Role.FIXED
    assert declare_vector(width).role is Role.VECTOR
    assert declare_vector(10).role is Role.FIXED


def test_a_width_keeps_its_ratio_through_products_copies_and_pickles() -> None:
    width = Width(256, 2.0)
    for other in (width * 4, 4 * width, copy.deepcopy(width), pickle.loads(pickle.dumps(width))):
        assert isinstance(other, Width)
        assert other.ratio == 2.0
    assert width * 0.5 == 128


@pytest.mark.parametrize("width", [64, 128, 256])
def test_rules_as_numbers(width: int) -> None:
    """Spread, multiplier and rate of each role at base width 64 (µP, table 8; depth as CompleteP)."""
    param, m = MuP(base_width=64, base_depth=2, depth_power=0.5), width / 64
    d = param.width(width)
    hidden, inward, out = declare(d, d, depth=8), declare(21, d), declare(d, 10)
    assert param.spread(hidden) == pytest.approx(1 / math.sqrt(width))
    assert param.spread(inward) == pytest.approx(1 / math.sqrt(21))
    assert param.spread(out) == pytest.approx(1 / math.sqrt(64))
    assert (param.multiplier(hidden), param.multiplier(inward), param.multiplier(out)) == (1, 1, 1 / m)
    assert param.rate(hidden) == pytest.approx(1 / m * (8 / 2) ** -0.5)
    assert (param.rate(inward), param.rate(out), param.rate(declare_vector(d))) == (1, 1, 1)
    assert param.residual(0, 8) == (1.0, pytest.approx(0.5))


def test_at_the_base_width_both_parametrisations_are_the_same() -> None:
    standard, mup = Standard(), MuP(base_width=64, base_depth=2)
    for a, b in ((64, 64), (64, 256), (21, 64), (64, 10)):
        ends = [[p.width(n) if n % 64 == 0 else n for n in (a, b)] for p in (standard, mup)]
        first, second = declare(*ends[0], depth=2), declare(*ends[1], depth=2)
        assert standard.spread(first) == pytest.approx(mup.spread(second))
        assert (standard.multiplier(first), standard.rate(first)) == (mup.multiplier(second), mup.rate(second))
    assert standard.residual(0, 2) == mup.residual(0, 2)


@pytest.mark.parametrize("objective", [MASKED, Classify()])
def test_every_parameter_is_declared_and_the_table_survives_copies(objective: Objective) -> None:
    model = build(64, MuP(), objective)
    table = declared_parameters(model)
    assert set(table) == {name for name, _ in model.named_parameters()}
    assert declared_parameters(copy.deepcopy(model)) == table
    roles = {name: declared.role for name, declared in table.items()}
    assert roles["encoder.embed.x.weight"] is Role.INPUT
    assert roles["encoder.backbone.blocks.0.feed.down.weight"] is Role.HIDDEN
    assert roles["encoder.backbone.blocks.0.mix.norm.gain"] is Role.VECTOR


def test_a_parameter_that_no_layer_declares_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"0\.weight"):
        declared_parameters(nn.Sequential(nn.Linear(2, 2)))


def test_matrices_start_with_the_spread_they_should() -> None:
    for width in WIDTHS:
        layer = Linear(MuP(64).width(width), MuP(64).width(width), MuP(64))
        assert layer.weight.std().item() == pytest.approx(1 / math.sqrt(width), rel=0.05)
        assert layer.weight.mean().abs().item() < 0.01


def test_multiplier_spread_and_rate_can_be_traded(toys: Path) -> None:
    """abc-symmetry for Adam: multiplier · θ, spread / θ, rate / θ leaves training as it was."""
    torch.manual_seed(0)
    x, y, theta = torch.randn(64, 8, dtype=torch.double), torch.randn(64, 3, dtype=torch.double), 4.0
    losses = []
    for scale in (1.0, theta):
        torch.manual_seed(1)
        net = nn.ModuleList([Linear(8, Width(32), Standard()), Linear(Width(32), 3, Standard())]).double()
        net[1].multiplier = scale
        with torch.no_grad():
            net[1].weight /= scale
        groups = [{"params": net[0].parameters(), "lr": 1e-2}, {"params": net[1].parameters(), "lr": 1e-2 / scale}]
        optimiser = torch.optim.Adam(groups, eps=1e-16)
        history = []
        for _ in range(20):
            loss = (net[1](torch.tanh(net[0](x))) - y).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            history.append(loss.item())
        losses.append(history)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def movements(
    param: Standard,
    objective: Objective,
    toys: Path,
    steps: int = 6,
    rate: float = 1e-2,
    encode: Encode | Backbone = BACKBONE,
    seeds: int = 1,
) -> dict[str, dict]:
    """For each hooked output and width: RMS of what it moved from its first value, at the last step; and the loss.

    Means over `seeds`: one event vector is one draw of its entries, so that a single slope scatters by 0.2.
    """
    dataset = Events(str(toys)).open()
    sample = dataset.read("train", np.arange(100))
    result: dict[str, dict] = defaultdict(lambda: dict.fromkeys(WIDTHS, 0.0))
    for width, seed in product(WIDTHS, range(seeds)):
        model = build(width, param, objective, encode, seed)
        model.represent.fit(sample)
        tokens, seen = model.tokens(dataset.read("train", np.arange(64))), {}
        for name, module in hooked(model).items():
            module.register_forward_hook(partial(note, seen, name))
        optimiser = AdamW(rate=rate, warmup=0, final=1.0, decay=0.0).build(model, param, steps)
        first: dict[str, torch.Tensor] = {}
        for step in range(steps):
            losses = model(tokens, Draws(0, 0))
            loss = torch.stack([value.mean() for value in losses.values()]).sum()
            values = {name: (out[0] if isinstance(out, tuple) else out).detach() for name, out in seen.items()}
            first = first or values
            optimiser.zero_grad()
            loss.backward()
            optimiser.step(step)
        for name, value in values.items():
            result[name][width] += (value - first[name]).square().mean().sqrt().item() / seeds
        result["loss"][width] += loss.item() / seeds
    return result


def note(seen: dict, name: str, net: nn.Module, inputs: tuple, output: object) -> None:
    seen[name] = output


def hooked(model: Model) -> dict[str, nn.Module]:
    modules = {f"block {n}": block for n, block in enumerate(model.encoder.backbone.blocks)}
    last = model.encoder.backbone.blocks[-1]
    if isinstance(last, RecurrentBlock):
        modules |= {f"{name} of the last mixer": part for name, part in last.mixers[0].named_children()}
    else:
        modules["query"] = last.attention.query
    if isinstance(model.objective.spec, Masked):
        modules |= {f"decoder {n}": block for n, block in enumerate(model.objective.decoder.blocks)}
        modules |= {f"head {n}": block for n, block in enumerate(model.objective.target.head.blocks)}
        modules["noise"] = model.objective.target.head
    else:
        modules["logits"] = model.objective.out
    return modules


def slopes(moved: dict[str, dict]) -> dict[str, float]:
    """The slope of log2(movement) against log2(width)."""
    x = np.log2(WIDTHS)
    return {name: float(np.polyfit(x, np.log2([values[w] for w in WIDTHS]), 1)[0]) for name, values in moved.items()}


@pytest.mark.parametrize(
    ("objective", "encode", "rate", "flat", "seeds"),
    [
        pytest.param(Classify(), BACKBONE, 1e-2, 0.1, 1, id="classify"),
        pytest.param(MASKED, BACKBONE, 3e-3, 0.15, 1, id="diffusion"),
        pytest.param(Classify(), SLOT, 1e-2, 0.1, 4, id="event-slot", marks=pytest.mark.slow),
        pytest.param(Classify(), GRU(depth=2), 1e-2, 0.1, 1, id="gru", marks=pytest.mark.slow),
        pytest.param(Classify(), Mamba(depth=2), 1e-2, 0.1, 1, id="mamba", marks=pytest.mark.slow),
        pytest.param(
            Classify(), Mamba2(depth=2, state=16, head_dim=16), 1e-2, 0.1, 1, id="mamba2", marks=pytest.mark.slow
        ),
    ],
)
def test_coordinate_check(
    objective: Objective, encode: Encode | Backbone, rate: float, flat: float, seeds: int, toys: Path
) -> None:
    """After six steps of Adam nothing moves by an amount that depends on width under µP; under standard it does.

    For the diffusion head the rate is the tuned one: at three times that its blocks, whose gates start at zero, still
    have slopes up to 0.3 at these widths (docs/log.md).
    """
    mup = movements(MuP(base_width=64, base_depth=2), objective, toys, rate=rate, encode=encode, seeds=seeds)
    standard = movements(Standard(), objective, toys, rate=rate, encode=encode, seeds=seeds)
    slope_mup, slope_standard = slopes(mup), slopes(standard)
    slope_mup.pop("loss")
    assert max(abs(value) for value in slope_mup.values()) <= flat, slope_mup
    assert max(slope_standard.values()) > 0.4, slope_standard
