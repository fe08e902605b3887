"""Optimisers: groups, decay, schedules, and schedule-free AdamW against an implementation of our own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from multiplet.dimensions import Width
from multiplet.errors import RecipeError
from multiplet.layers import Linear, RMSNorm
from multiplet.optim import AdamW, Optim, Schedule, ScheduleFree
from multiplet.parametrisation import MuP, Standard, UnitMuP

OPTIMS = [AdamW(rate=1e-2, warmup=3), ScheduleFree(rate=1e-2, warmup=3)]


class Net(nn.Module):
    def __init__(self, width: int = 32, param: Standard | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        param = param or Standard()
        d = param.width(width)
        self.first, self.norm = Linear(4, d, param, bias=True), RMSNorm(d)
        self.hidden, self.out = Linear(d, d, param), Linear(d, 3, param, bias=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.hidden(self.norm(self.first(x)))))


def step(net: Net, optimiser: object, number: int) -> None:
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(number))
    optimiser.zero_grad()
    (net(x) - x[:, :3]).square().mean().backward()
    optimiser.step(number)


def test_groups_have_equal_rate_and_decay_and_vectors_are_not_decayed() -> None:
    param = MuP(base_width=16)
    optimiser = AdamW(rate=1e-2, decay=1e-3).build(Net(64, param), param, 10)
    groups = {tuple(sorted(group["names"])): group for group in optimiser.inner.param_groups}
    assert set(groups) == {("first.weight", "out.weight"), ("first.bias", "norm.gain", "out.bias"), ("hidden.weight",)}
    assert groups[("hidden.weight",)]["lr"] == pytest.approx(1e-2 / 4)
    shrink = {len(names): group["lr"] * group["weight_decay"] for names, group in groups.items()}
    assert shrink == {2: pytest.approx(1e-3), 3: 0.0, 1: pytest.approx(1e-3)}
    coupled = AdamW(rate=1e-2, decay=1e-3, coupled=True).build(Net(64, param), param, 10)
    assert sorted(row["shrink"] for row in coupled.table()) == pytest.approx([0, 1e-3 * 1e-2 / 4, 1e-5])


@pytest.mark.parametrize("optim", [AdamW, ScheduleFree])
@pytest.mark.parametrize(
    ("param", "rate", "expected"),
    [
        (MuP(base_width=16), 1e-2, {"first": 1e-2, "hidden": 1e-2 / 4, "out": 1e-2}),
        (UnitMuP(), 1.0, {"first": 1 / 2, "hidden": 1 / 8, "out": 1.0}),  # fan-in 4 and 64; readouts 1
        (Standard(), 1e-2, {"first": 1e-2, "hidden": 1e-2, "out": 1e-2}),
    ],
)
def test_rates_follow_the_parametrisation_in_both_optimisers(
    optim: type[AdamW | ScheduleFree], param: Standard, rate: float, expected: dict[str, float]
) -> None:
    net = Net(64, param)
    groups = optim(rate=rate, warmup=0).build(net, param, 10).inner.param_groups
    found = {name: group["lr"] for group in groups for name in group["names"]}
    assert {name: found[f"{name}.weight"] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("optim", OPTIMS)
def test_the_realised_shrink_of_a_weight_without_gradient_is_the_decay(optim: Optim) -> None:
    spec = type(optim)(rate=1e-2, warmup=0, decay=1e-2, **({"final": 1.0} if isinstance(optim, AdamW) else {}))
    net = Net()
    optimiser = spec.build(net, Standard(), 10)
    before = net.hidden.weight.detach().clone()
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step(0)
    torch.testing.assert_close(net.hidden.weight.detach(), before * (1 - 1e-2), rtol=2e-3, atol=1e-6)
    assert torch.equal(net.norm.gain.detach(), torch.ones(32))


def test_warm_up_is_linear_and_the_cosine_ends_at_its_last_value() -> None:
    schedule = Schedule(10, 110, 0.1)
    assert [schedule(n) for n in (0, 4, 9)] == [0.1, 0.5, 1.0]
    assert schedule(60) == pytest.approx(0.1 + 0.9 * 0.5)
    assert schedule(110) == pytest.approx(0.1)
    assert schedule(500) == pytest.approx(0.1)


def test_schedule_free_equals_an_independent_implementation() -> None:
    """z, x and y as three tensors, in double precision (arXiv 2405.15682, algorithm 1 with AdamW)."""
    torch.manual_seed(0)
    rate, warmup, (b1, b2), eps, decay = 0.05, 5, (0.9, 0.95), 1e-8, 0.1
    target, scale = torch.randn(6, dtype=torch.double), torch.rand(6, dtype=torch.double) + 0.5
    import schedulefree

    p = nn.Parameter(torch.randn(6, dtype=torch.double))
    x, z, v = p.detach().clone(), p.detach().clone(), torch.zeros(6, dtype=torch.double)
    theirs = schedulefree.AdamWScheduleFree([p], rate, (b1, b2), eps, decay, warmup)
    theirs.train()
    total = peak = 0.0
    for t in range(1, 60):
        y = (1 - b1) * z + b1 * x
        g = scale * (y - target)
        gamma = rate * min(1, t / warmup)
        v = b2 * v + (1 - b2) * g**2
        z = z - gamma * (g / ((v / (1 - b2**t)).sqrt() + eps) + decay * y)
        peak = max(peak, gamma)
        total += peak**2
        x = (1 - peak**2 / total) * x + peak**2 / total * z
        p.grad = scale * (p.detach() - target)
        theirs.step()
    theirs.eval()
    torch.testing.assert_close(p.detach(), x, rtol=1e-12, atol=1e-12)


def test_averaged_weights_are_others_and_training_goes_on_from_its_own() -> None:
    net = Net()
    optimiser = ScheduleFree(rate=1e-2, warmup=2).build(net, Standard(), 10)
    for number in range(5):
        step(net, optimiser, number)
    y = net.hidden.weight.detach().clone()
    with optimiser.averaged():
        x = net.hidden.weight.detach().clone()
    assert not torch.allclose(x, y, atol=1e-5)
    torch.testing.assert_close(net.hidden.weight.detach(), y, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("optim", OPTIMS)
def test_restored_state_continues_bit_for_bit(optim: Optim) -> None:
    nets = [Net(), Net()]
    optimisers = [optim.build(net, Standard(), 20) for net in nets]
    for number in range(7):
        step(nets[0], optimisers[0], number)
    nets[1].load_state_dict(nets[0].state_dict())
    tensors = {name: value.clone() for name, value in optimisers[0].tensors().items()}
    optimisers[1].restore(tensors, optimisers[0].numbers())
    for number in range(7, 14):
        for net, optimiser in zip(nets, optimisers, strict=True):
            step(net, optimiser, number)
    for first, second in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("optim", OPTIMS)
def test_parameters_and_state_stay_in_float32(optim: Optim) -> None:
    with pytest.raises(RecipeError, match="float32"):
        optim.build(Net().bfloat16(), Standard(), 10)
    net = Net()
    optimiser = optim.build(net, Standard(), 10)
    step(net, optimiser, 0)
    assert all(value.dtype is torch.float32 for value in optimiser.tensors().values())


def test_impossible_settings_are_refused_when_they_are_made() -> None:
    with pytest.raises(RecipeError, match="rate"):
        AdamW(rate=0)
    with pytest.raises(RecipeError, match="averaged"):
        ScheduleFree(betas=(0.0, 0.9))
    net = Net()
    net.requires_grad_(False)
    with pytest.raises(RecipeError, match="frozen"):
        AdamW().build(net, Standard(), 10)
    assert math.isfinite(Width(3).ratio)
