"""Nets that read from end to end: padding, reversal; the GRU beside a loop, its parameters and their roles."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from multiplet.backbones.mamba import Mamba
from multiplet.backbones.mamba2 import Mamba2
from multiplet.backbones.recurrent import GRU, RecurrentNet, reversal
from multiplet.dimensions import Role, declared_parameters
from multiplet.errors import RecipeError
from multiplet.parametrisation import MuP, Standard

ONE_WAY = [
    pytest.param(GRU(32, 2, bidirectional=False), id="gru"),
    pytest.param(Mamba(32, 2, state=4), id="mamba"),
    pytest.param(Mamba2(32, 2, state=8, head_dim=16), id="mamba2"),
]
BOTH_WAYS = [
    pytest.param(GRU(32, 2), id="gru-both-ways"),
    pytest.param(Mamba(32, 2, state=4, bidirectional=True), id="mamba-both-ways"),
    pytest.param(Mamba2(32, 2, state=8, head_dim=16, bidirectional=True), id="mamba2-both-ways"),
]


def built(spec: GRU | Mamba | Mamba2, seed: int = 0) -> RecurrentNet:
    """The network with its vectors moved away from where they start."""
    torch.manual_seed(seed)
    net = spec.build(Standard().width(spec.width), Standard())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net


def encode(net: RecurrentNet, h: Tensor, mask: Tensor | None = None) -> Tensor:
    mask = torch.ones(h.shape[:2], dtype=torch.bool) if mask is None else mask
    return net(h, mask, torch.zeros(mask.shape, dtype=torch.long))[0]


@pytest.mark.parametrize("spec", [*ONE_WAY, *BOTH_WAYS])
def test_events_of_very_different_lengths_never_touch(spec: GRU | Mamba | Mamba2) -> None:
    """Beside one of 700 tokens: of 1, of 40 and of none, with NaN for padding; outputs and gradients as alone."""
    net, lengths = built(spec), (700, 1, 40, 0)
    mask = torch.arange(700) < torch.tensor(lengths)[:, None]
    h = torch.randn(4, 700, spec.width)
    together = encode(net, h.masked_fill(~mask[..., None], math.nan), mask)
    assert together.isfinite().all()
    together[mask].square().sum().backward()
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    net.zero_grad()
    for event, length in zip(range(4), lengths, strict=True):
        alone = encode(net, h[event : event + 1, :length])
        torch.testing.assert_close(alone[0], together[event, :length], atol=1e-5, rtol=1e-5)
        alone.square().sum().backward()
    for parameter, gradient in zip(net.parameters(), gradients, strict=True):
        assert (parameter.grad - gradient).abs().max() <= 1e-4 * gradient.abs().max()


@pytest.mark.parametrize("spec", BOTH_WAYS)
def test_both_ways_means_that_reversed_events_give_reversed_outputs(spec: GRU | Mamba | Mamba2) -> None:
    """… when the two mixers of each block change places; and the first token then sees the last."""
    net, other = built(spec), built(spec)
    for block in other.blocks:
        block.mixers = nn.ModuleList(reversed(block.mixers))
    mask = torch.arange(50) < torch.tensor([50, 13])[:, None]
    places = reversal(mask)[..., None]
    assert places[1, :, 0].tolist() == [*reversed(range(13)), *range(13, 50)]
    h = torch.randn(2, 50, spec.width)
    backwards = encode(other, h.take_along_dim(places, 1), mask)
    torch.testing.assert_close(encode(net, h, mask)[mask], backwards.take_along_dim(places, 1)[mask])
    h[1, 12] += 1
    assert not torch.allclose(encode(net, h, mask)[1, 0], backwards[1, 12])


def slow_gru(unit: nn.GRU, event: Tensor) -> Tensor:
    """arXiv 1406.1078 with the reset gate after the product, as in cuDNN; a token after the other, by hand."""
    state, states = torch.zeros(unit.hidden_size), []
    for x in event:
        reset, update, new = (unit.weight_ih_l0 @ x + unit.bias_ih_l0).chunk(3)
        reset_h, update_h, new_h = (unit.weight_hh_l0 @ state + unit.bias_hh_l0).chunk(3)
        z = 1 / (1 + torch.exp(-update - update_h))
        candidate = torch.tanh(new + new_h / (1 + torch.exp(-reset - reset_h)))
        state = (1 - z) * candidate + z * state
        states.append(state)
    return torch.stack(states)


def test_a_block_adds_what_a_loop_finds_in_both_directions() -> None:
    block, h = built(GRU(32, 1)).blocks[0], torch.randn(2, 40, 32)
    mask = torch.arange(40) < torch.tensor([40, 9])[:, None]
    found = block(h, reversal(mask)[..., None])
    for event, length, out in zip(h, (40, 9), found, strict=True):
        x = block.mix.norm(event[:length])
        there, back = block.mixers
        added = (
            slow_gru(there.unit, x) @ there.out.weight.T + slow_gru(back.unit, x.flip(0)).flip(0) @ back.out.weight.T
        )
        torch.testing.assert_close(out[:length], event[:length] + added, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("spec", "block"), [(GRU(96, 3, False), 7 * 96**2 + 7 * 96), (GRU(96, 3), 14 * 96**2 + 13 * 96)]
)
def test_a_gru_has_the_stated_number_of_parameters(spec: GRU, block: int) -> None:
    net = spec.build(Standard().width(96), Standard())
    assert sum(p.numel() for p in net.parameters()) == 3 * block + 96


def test_roles_spreads_and_start_of_a_gru() -> None:
    """All matrices are hidden weights of spread 1/√width; biases are vectors that start at 0."""
    param = MuP(64)
    net = GRU(256, 2).build(param.width(256), param)
    for name, declared in declared_parameters(net).items():
        value = net.get_parameter(name)
        assert declared.role is (Role.HIDDEN if value.dim() == 2 else Role.VECTOR), name
        assert declared.ratio == 4.0
        if value.dim() == 2:
            assert value.std().item() == pytest.approx(1 / 16, rel=0.03)
        elif "bias" in name:
            assert not value.any()


def test_the_states_of_a_gru_stay_in_full_precision_under_autocast() -> None:
    net, h = built(GRU(32, 1)), torch.randn(2, 100, 32)
    seen: list[Tensor] = []
    net.blocks[0].mixers[0].unit.register_forward_hook(lambda unit, given, out: seen.append(out[0]))
    with torch.autocast("cpu", torch.bfloat16):
        low = encode(net, h)
    assert seen[0].dtype is torch.float32
    torch.testing.assert_close(low, encode(net, h), atol=0.1, rtol=0.1)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
def test_no_events_and_no_tokens_give_nothing_that_can_be_differentiated(shape: tuple[int, int]) -> None:
    net, h = built(GRU(32, 2)), torch.zeros(*shape, 32, requires_grad=True)
    found = encode(net, h)
    assert found.shape == h.shape
    found.sum().backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in net.parameters())


def test_an_impossible_shape_is_refused() -> None:
    with pytest.raises(RecipeError, match="depth=0"):
        GRU(64, 0)
