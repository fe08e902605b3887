"""µP and u-µP: roles from dimensions, rules as numbers, the coordinate check, which Standard must fail."""

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
from multiplet.dimensions import Role, Width, declare, declare_rows, declare_token, declare_vector, declared_parameters
from multiplet.draws import Draws
from multiplet.embedding import Concatenate
from multiplet.encoder import Backbone, Encode
from multiplet.errors import RecipeError
from multiplet.layers import Embedding, FeedForward, Linear, SwiGLU, Vector
from multiplet.model import Model, Objective
from multiplet.objectives.decoder import CrossDecoder
from multiplet.objectives.diffusion import Diffusion
from multiplet.objectives.masked import Masked
from multiplet.objectives.targets import MeanSquared
from multiplet.optim import AdamW
from multiplet.parametrisation import MuP, Standard, UnitMuP
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


@pytest.mark.parametrize("width", [64, 128, 256])
def test_rules_of_u_mup_as_numbers(width: int) -> None:
    """Unit spread; 1/√fan_in forward and as rate, 1/fan_in and 1 for readouts, 1/√width for what is looked up."""
    param = UnitMuP()
    d = param.width(width)
    hidden, inward, out = declare(d * 4, d, depth=9), declare(21, d), declare(d, 10)
    table, token = declare_rows(512, d, 0.02), declare_token(d, 0.02)
    assert {param.spread(one) for one in (hidden, inward, out, table, token, declare(3, 4, std=0.1))} == {1.0}
    assert param.multiplier(hidden) == pytest.approx(1 / math.sqrt(4 * width))
    assert param.multiplier(inward) == param.rate(inward) == pytest.approx(1 / math.sqrt(21))
    assert (param.multiplier(out), param.rate(out)) == (1 / width, 1.0)
    assert param.rate(hidden) == pytest.approx(1 / math.sqrt(4 * width) / 3)
    assert param.rate(table) == param.rate(token) == pytest.approx(1 / math.sqrt(width))
    learned = Embedding(512, d, param).declared["weight"], Vector(d, param).declared["value"]
    assert learned == (replace(table, std=1.0), token)
    assert param.rate(declare(3, 4)) == pytest.approx(1 / math.sqrt(3))
    assert param.rate(declare_vector(d)) == param.rate(declare_vector(10)) == 0.01
    assert (param.attention_scale(32), param.gate_gain) == (1 / 32, pytest.approx(1.6818, rel=1e-4))
    assert 100 ** param.attention_power(32) == pytest.approx(math.exp((1 - 1 / 129) * math.log(10)))


def test_branches_of_u_mup_add_what_they_should() -> None:
    """τ_i = 1/√(L + i) by default; otherwise all branches of a kind add as much, in the ratios that are set."""
    for depth, index in ((1, 0), (1, 1), (4, 3), (12, 23)):
        skip, branch = UnitMuP().residual(index, depth)
        assert branch / skip == pytest.approx(1 / math.sqrt(depth + index))
        assert skip**2 + branch**2 == pytest.approx(1)
    depth, shares, entered = 4, [], 1.0
    for index in range(2 * depth):
        skip, branch = UnitMuP(residual_gain=0.5, attention_ratio=3.0).residual(index, depth)
        shares, entered = [share * skip for share in shares] + [branch], entered * skip
    assert shares[::2] == pytest.approx([shares[0]] * depth)
    assert shares[1::2] == pytest.approx([shares[1]] * depth)
    attention, other = (math.sqrt(sum(share**2 for share in shares[n::2])) for n in (0, 1))
    assert attention / other == pytest.approx(3.0)
    assert math.sqrt((attention**2 + other**2) / 2) / entered == pytest.approx(0.5)


@pytest.mark.parametrize("bad", [{"residual_gain": 0.0}, {"attention_ratio": -1.0}])
def test_u_mup_refuses_gains_that_are_not_positive(bad: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="above 0"):
        UnitMuP(**bad)


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
    widths: tuple[int, ...] = WIDTHS,
) -> dict[str, dict]:
    """For each hooked output and width: RMS of what it moved from its first value, at the last step; and the loss.

    Means over `seeds`: one event vector is one draw of its entries, so that a single slope scatters by 0.2.
    """
    dataset = Events(str(toys)).open()
    sample = dataset.read("train", np.arange(100))
    result: dict[str, dict] = defaultdict(lambda: dict.fromkeys(widths, 0.0))
    for width, seed in product(widths, range(seeds)):
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
    return {
        name: float(np.polyfit(np.log2(list(values)), np.log2(list(values.values())), 1)[0])
        for name, values in moved.items()
    }


UNIT_TARGETS = [
    pytest.param(Classify(), BACKBONE, id="classify"),
    pytest.param(Classify(), SLOT, id="event-slot"),
    pytest.param(MASKED, BACKBONE, id="diffusion"),
    pytest.param(replace(MASKED, target=MeanSquared()), Transformer(depth=6, head_dim=16), id="deep"),
]


@pytest.mark.parametrize(("objective", "encode"), UNIT_TARGETS)
def test_everything_is_of_order_one_in_u_mup(objective: Objective, encode: Encode | Backbone, toys: Path) -> None:
    """At the start: the output of every layer, but for readouts, which fall as 1/√width, and those that start at 0.

    The method counts on independent tokens. Those of an event are not, so that attention gives up to 4.5 instead of 1.
    """
    dataset, seen = Events(str(toys)).open(), {}
    model = build(128, UnitMuP(), objective, encode)
    model.represent.fit(dataset.read("train", np.arange(100)))
    layers = {name: module for name, module in model.named_modules() if not list(module.children())}
    layers |= {name: module for name, module in model.named_modules() if name.split(".")[-2:-1] == ["blocks"]}
    for name, module in layers.items():
        module.register_forward_hook(partial(note, seen, name))
    tokens = model.tokens(dataset.read("train", np.arange(64)))
    model(tokens, Draws(0, 0))
    roles = {name: one.role for name, one in declared_parameters(model).items()}
    checked = 0
    for name, value in seen.items():
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or name.startswith("represent"):
            continue
        size = value.detach().square().mean().sqrt().item()
        if roles.get(f"{name}.weight") is Role.OUTPUT:
            assert size * math.sqrt(128) < 2.0, (name, size)
        elif size > 0 or not name.startswith("objective.target.head"):
            low, high = (0.5, 3.0) if name.split(".")[-2] == "blocks" else (0.25, 6.0)
            assert low < size < high, (name, size)
            checked += 1
    assert checked > 10


@pytest.mark.parametrize("slots", [8, 128])
def test_with_independent_tokens_every_output_of_u_mup_is_one(slots: int) -> None:
    """In one block. Attention makes tokens alike, so that of the next ones gives more: up to 10 in the eighth."""
    for depth in (1, 8):
        torch.manual_seed(0)
        net, seen = Transformer(128, depth).build(UnitMuP().width(128), UnitMuP()), {}
        for name, module in net.named_modules():
            module.register_forward_hook(partial(note, seen, name))
        length = torch.randint(slots // 2, slots + 1, (32, 1))
        mask, rank = torch.arange(slots) < length, torch.arange(slots).expand(32, -1)
        net(torch.randn(32, slots, 128), mask, rank)
        sizes = {name: out[mask].std().item() for name, out in seen.items() if isinstance(out, torch.Tensor)}
        assert len(sizes) == depth * 14 + 1
        assert all(0.85 < sizes[name] < 1.2 for name in sizes if depth == 1 or name.startswith("blocks.0.")), sizes
        assert all(0.85 < size < slots**0.5 for size in sizes.values()), sizes


def test_a_rate_of_another_parametrisation_is_refused() -> None:
    for param, rate in ((UnitMuP(), 3e-3), (MuP(), 1.0), (Standard(), 1.0)):
        with pytest.raises(RecipeError, match=rf"optim.rate is {rate}.*{type(param).__name__}"):
            AdamW(rate=rate).build(build(64, param, Classify()), param, 10)


@pytest.mark.parametrize("backbone", [GRU(), Mamba(), Mamba2()])
def test_backbones_that_cannot_be_unit_scaled_are_refused(backbone: Backbone) -> None:
    with pytest.raises(RecipeError, match=r"recurrent backbones.*encoder\.param=MuP"):
        build(64, UnitMuP(), Classify(), backbone)


@pytest.mark.parametrize("layer", [SwiGLU, FeedForward])
def test_gated_and_rectified_units_keep_unit_spread(layer: type[nn.Module]) -> None:
    torch.manual_seed(0)
    width = UnitMuP().width(256)
    assert layer(width, 4.0, UnitMuP(), 1)(torch.randn(1, 500, 256)).std().item() == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("param", [UnitMuP(), UnitMuP(residual_gain=0.6, attention_ratio=1.5)])
def test_training_in_u_mup_equals_that_of_another_implementation(param: UnitMuP) -> None:
    """Ten steps of Adam at rate 1, every forward multiplier and rate against the package unit-scaling.

    That one scales gradients too, between the losses and the weights; Adam divides that out.
    """
    unit = pytest.importorskip("unit_scaling", reason="unit-scaling, an independent implementation, is not installed")
    import unit_scaling.functional as U
    from unit_scaling.core.functional import transformer_residual_scaling_rule

    torch.manual_seed(0)
    depth, head = 3, 8
    spec = Transformer(32, depth, head_dim=head, group=1, position=None)
    d = param.width(32)
    ours = nn.ModuleDict(
        {"enter": Linear(5, d, param), "body": spec.build(d, param), "out": Linear(d, 7, param, bias=True)}
    )
    x, truth = torch.randn(16, 12, 5), torch.randint(7, (16 * 12,))
    mask, rank = torch.ones(16, 12, dtype=torch.bool), torch.arange(12).expand(16, -1)
    theirs = {
        name: unit.Parameter(
            value.detach().clone(),
            "output" if name == "out.weight" else "weight",
            depth if "blocks" in name else None,
        )
        for name, value in ours.named_parameters()
    }
    tau = transformer_residual_scaling_rule(param.residual_gain, param.attention_ratio)

    def their_loss() -> torch.Tensor:
        def linear(y: torch.Tensor, name: str) -> torch.Tensor:
            return U.linear(y, theirs[f"{name}.weight"], None)

        def split(y: torch.Tensor) -> torch.Tensor:
            return y.unflatten(-1, (-1, head)).transpose(1, 2)

        h = linear(x, "enter")
        for layer in range(depth):
            at = f"body.blocks.{layer}"

            def attend(y: torch.Tensor, at: str = at) -> torch.Tensor:
                y = U.rms_norm(y, (32,))
                q, k, v = (split(linear(y, f"{at}.attention.{name}")) for name in ("query", "key", "value"))
                return linear(U.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2), f"{at}.attention.out")

            def feed(y: torch.Tensor, at: str = at) -> torch.Tensor:
                y = U.rms_norm(y, (32,))
                return linear(U.silu_glu(linear(y, f"{at}.feed.up"), linear(y, f"{at}.feed.gate")), f"{at}.feed.down")

            h = U.residual_apply(attend, h, tau(2 * layer, 2 * depth))
            h = U.residual_apply(feed, h, tau(2 * layer + 1, 2 * depth))
        return U.cross_entropy(U.linear_readout(U.rms_norm(h, (32,)), theirs["out.weight"], None).flatten(0, 1), truth)

    def our_loss() -> torch.Tensor:
        points, _ = ours["body"](ours["enter"](x), mask, rank)
        return nn.functional.cross_entropy(ours["out"](points).flatten(0, 1), truth)

    adam = unit.optim.Adam(list(theirs.values()), lr=1.0, betas=(0.9, 0.95), eps=1e-12)
    mine = AdamW(rate=1.0, warmup=0, final=1.0, decay=0.0).build(ours, param, 10)
    history: list[list[float]] = [[], []]
    for step in range(10):
        losses = our_loss(), their_loss()
        mine.zero_grad()
        adam.zero_grad()
        for loss, kept in zip(losses, history, strict=True):
            loss.backward()
            kept.append(loss.item())
        mine.step(step)
        adam.step()
    assert history[0][-1] < history[0][0] - 0.1
    np.testing.assert_allclose(history[0], history[1], rtol=1e-3)


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
    slope_standard.pop("loss")
    assert max(abs(value) for value in slope_mup.values()) <= flat, slope_mup
    assert max(slope_standard.values()) > 0.4, slope_standard


@pytest.mark.parametrize(
    ("objective", "encode", "rate"),
    [
        pytest.param(Classify(), BACKBONE, 0.5, id="classify"),
        pytest.param(Classify(), SLOT, 0.5, id="event-slot", marks=pytest.mark.slow),
        pytest.param(MASKED, BACKBONE, 0.3, id="diffusion", marks=pytest.mark.slow),
    ],
)
def test_coordinate_check_of_u_mup(objective: Objective, encode: Encode | Backbone, rate: float, toys: Path) -> None:
    slope = slopes(movements(UnitMuP(), objective, toys, rate=rate, encode=encode))
    slope.pop("loss")
    assert max(abs(value) for value in slope.values()) <= 0.15, slope


@pytest.mark.slow
def test_coordinate_check_over_eightfold_width(toys: Path) -> None:
    """Widths 64 to 512: µP and u-µP, at rate 1, pass; standard fails, and a rate that serves 64 breaks 512."""
    for param, rate in ((MuP(base_width=64, base_depth=2), 1e-2), (UnitMuP(), 1.0), (Standard(), 1e-2)):
        widths = (64, 512) if type(param) is Standard else (64, 128, 256, 512)
        values = movements(param, Classify(), toys, rate=rate, widths=widths)
        loss = values.pop("loss")
        if type(param) is Standard:
            assert max(slopes(values).values()) > 0.4, slopes(values)
            assert loss[512] > 2 * loss[64]
        else:
            assert max(abs(value) for value in slopes(values).values()) <= 0.1, (param, slopes(values))
            assert loss[512] < 1.2 * loss[64], (param, loss)
