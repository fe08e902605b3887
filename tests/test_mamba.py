"""Mamba: scans beside slow loops, blocks beside loops and beside transformers, counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from multiplet.backbones import mamba, mamba2, scan
from multiplet.backbones.mamba import Mamba
from multiplet.backbones.mamba2 import Mamba2
from multiplet.dimensions import Role, declared_parameters
from multiplet.errors import RecipeError
from multiplet.parametrisation import MuP, Standard
from test_recurrent import built, encode

LENGTHS = (1, 15, 16, 33, 150)
SPECS = [
    pytest.param(Mamba(32, 2, state=4), id="mamba"),
    pytest.param(Mamba2(32, 2, state=8, head_dim=16), id="mamba2"),
]


def slow_scan(x: Tensor, step: Tensor, rate: Tensor, enter: Tensor, leave: Tensor) -> Tensor:
    """The recurrence, a token after the other."""
    h, outputs = x.new_zeros(x.shape[0], x.shape[2], enter.shape[2]), []
    for t in range(x.shape[1]):
        h = torch.exp(step[:, t, :, None] * rate) * h + (step * x)[:, t, :, None] * enter[:, t, None]
        outputs.append((h * leave[:, t, None]).sum(-1))
    return torch.stack(outputs, 1)


def slow_head_scan(x: Tensor, step: Tensor, rate: Tensor, enter: Tensor, leave: Tensor) -> Tensor:
    """The same, all channels of a head with one step and one rate."""
    heads, size = x.shape[2:]
    wide = step.repeat_interleave(size, 2), rate.repeat_interleave(size)[:, None].expand(-1, enter.shape[2])
    return slow_scan(x.flatten(2), *wide, enter, leave).unflatten(2, (heads, size))


def arguments(length: int, heads: bool, largest: float = 0.5, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """3 events, 6 channels or 3 heads of 2, 5 numbers of state; steps up to `largest`, rates down to -16."""
    torch.manual_seed(length)
    shape = (3, 2) if heads else (6,)
    values = [
        torch.randn(3, length, *shape, dtype=torch.float64),
        torch.rand(3, length, shape[0], dtype=torch.float64) * largest,
        -16 * torch.rand((3,) if heads else (6, 5), dtype=torch.float64),
        torch.randn(3, length, 5, dtype=torch.float64),
        torch.randn(3, length, 5, dtype=torch.float64),
    ]
    return [value.to(dtype).requires_grad_() for value in values]


def with_gradients(function: Callable[..., Tensor], values: list[Tensor]) -> list[Tensor]:
    """The output, and the gradients of a fixed weighting of it."""
    y = function(*values)
    weights = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    return [y, *torch.autograd.grad((y * weights.to(y.dtype)).sum(), values)]


PAIRS = [
    pytest.param(scan.selective_scan, slow_scan, False, id="selective"),
    pytest.param(scan.head_scan, slow_head_scan, True, id="heads"),
]


@pytest.mark.parametrize("room", [2**17, 2000, 40])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("quick", "slow", "heads"), PAIRS)
def test_scans_are_the_recurrence(
    quick: Callable, slow: Callable, heads: bool, length: int, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FP64 to rounding, FP32 to 1e-5 of the largest output and 1e-4 of the largest gradient; in blocks or whole."""
    monkeypatch.setitem(scan.ROOM, "cpu", room)
    exact = with_gradients(slow, arguments(length, heads))
    for ours, theirs in zip(with_gradients(quick, arguments(length, heads)), exact, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)
    single = with_gradients(quick, arguments(length, heads, dtype=torch.float32))
    for ours, theirs, allowed in zip(single, exact, (1e-5, *[1e-4] * 5), strict=True):
        assert (ours - theirs).abs().max() <= allowed * theirs.abs().max()


def test_small_room_means_blocks_of_events_channels_and_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.zeros(3, 160, 6)
    assert scan._blocks(values, 5) == (3, 6, 160)
    monkeypatch.setitem(scan.ROOM, "cpu", 200)
    assert scan._blocks(values, 5) == (2, 2, 160)
    monkeypatch.setitem(scan.ROOM, "cpu", 40)
    assert scan._blocks(values, 5) == (1, 1, 128)


@pytest.mark.parametrize("largest", [1e-4, 50.0])
@pytest.mark.parametrize(("quick", "slow", "heads"), PAIRS)
def test_no_step_is_too_small_or_too_large(quick: Callable, slow: Callable, heads: bool, largest: float) -> None:
    """A state that hardly fades in 500 tokens, and one of which one leaves e^-800: no overflow, no digits lost."""
    exact = with_gradients(slow, arguments(500, heads, largest))
    for ours, theirs in zip(with_gradients(quick, arguments(500, heads, largest, torch.float32)), exact, strict=True):
        assert ours.isfinite().all()
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()
    torch.testing.assert_close(quick(*arguments(500, heads, largest)), exact[0], atol=1e-11, rtol=1e-11)


def test_neighbours_are_told_apart_where_the_chunk_has_long_faded() -> None:
    """Head 0 fades by e^-16 a token and hardly at all between the last two, which a running sum in FP32 would lose."""
    x, step, rate, enter, leave = (value.detach() for value in arguments(32, True, dtype=torch.float32))
    rate, step = torch.full_like(rate, -16.0), torch.ones_like(step)
    step[:, -1] = 1e-6
    found = scan.head_scan(x, step, rate, enter, leave)
    exact = slow_head_scan(*(value.double() for value in (x, step, rate, enter, leave)))
    torch.testing.assert_close(found[:, -1].double(), exact[:, -1], atol=1e-6, rtol=2e-6)


@pytest.mark.parametrize(("quick", "heads"), [(scan.selective_scan, False), (scan.head_scan, True)])
def test_work_and_memory_grow_with_length_and_no_token_has_a_step_of_its_own(quick: Callable, heads: bool) -> None:
    """Operations forward and back, and bytes kept for the way back, at 1,024, 2,048 and 4,096 tokens."""
    calls, kept = [], []
    for length in (1024, 2048, 4096):
        keep = Kept()
        with Count() as count, keep:
            y = quick(*arguments(length, heads, dtype=torch.float32))
            assert count.calls < length
            y.sum().backward()
        calls.append(count.calls)
        kept.append(keep.total)
    assert all(more < 2.2 * less for less, more in [*pairwise(calls), *pairwise(kept)])


def test_of_all_states_one_in_sixteen_is_kept() -> None:
    """For 64 channels of 32 numbers: 128 + 64 arguments a token, a 16th of its states of 2,048, and the last one."""
    values = [torch.rand(1, 512, n) for n in (64, 64, 32, 32)]
    x, step, enter, leave = (value.requires_grad_() for value in values)
    keep = Kept()
    with keep:
        scan.selective_scan(x, step, -torch.ones(64, 32), enter, leave)
    assert keep.total == 4 * (512 * (128 + 64 + 2048 / 16) + 2 * 2048)


class Count(TorchDispatchMode):
    """How many operations that touch numbers are called."""

    views = frozenset(
        getattr(torch.ops.aten, name)
        for name in ("select", "unbind", "view", "_unsafe_view", "detach", "transpose", "slice", "split", "permute")
    )

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.calls += function.overloadpacket not in self.views
        return function(*args, **(kwargs or {}))


class Kept(torch.autograd.graph.saved_tensors_hooks):
    """Bytes that are kept for the way back."""

    def __init__(self) -> None:
        self.storages: dict[int, int] = {}
        super().__init__(self.note, lambda tensor: tensor)

    def note(self, tensor: Tensor) -> Tensor:
        self.storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    @property
    def total(self) -> int:
        return sum(self.storages.values())


def slow_mixer(mixer: nn.Module, h: Tensor) -> Tensor:
    """One event (S, D) through a mixer, as the papers write it: convolution, step and state token by token."""
    first = isinstance(mixer, mamba.SelectiveMixer)
    inner, size = len(mixer.out.weight[0]), (mixer.sizes if first else mixer.parts)[1]
    weight, taps = mixer.conv.weight, mixer.conv.weight.shape[1]
    state, before, outputs = h.new_zeros(inner, size), [h.new_zeros(len(weight))] * (taps - 1), []
    for token in h:
        projected = mixer.enter.weight @ token
        if first:
            fresh, gate = projected.split(inner)
        else:
            gate, fresh, step = projected.split(mixer.sizes)
        before.append(fresh)
        mixed = sum(weight[:, k] * before[len(before) - taps + k] for k in range(taps)) + mixer.conv.bias
        mixed = mixed / (1 + torch.exp(-mixed))
        if first:
            x = mixed
            rank, b, c = (mixer.select.weight @ x).split(mixer.sizes)
            step = mixer.step.weight @ rank + mixer.step.bias
            rate, skip = -mixer.decay.exp(), mixer.skip
        else:
            x, b, c = mixed.split(mixer.parts)
            each = inner // len(mixer.decay)
            step = (step + mixer.step).repeat_interleave(each)
            rate = -mixer.decay.exp().repeat_interleave(each)[:, None]
            skip = mixer.skip.repeat_interleave(each)
        step = torch.log1p(torch.exp(step))
        state = torch.exp(step[:, None] * rate) * state + torch.outer(step * x, b)
        y = (state @ c + skip * x) * gate / (1 + torch.exp(-gate))
        if not first:
            y = y / torch.sqrt(y.square().mean() + 1e-5) * mixer.norm.gain
        outputs.append(mixer.out.weight @ y)
    return torch.stack(outputs)


@pytest.mark.parametrize("spec", SPECS)
def test_a_mixer_is_what_the_papers_write(spec: Mamba | Mamba2) -> None:
    mixer, h = built(spec).blocks[0].mixers[0], torch.randn(2, 70, spec.width)
    for event, found in zip(h, mixer(h), strict=True):
        torch.testing.assert_close(found, slow_mixer(mixer, event), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("spec", SPECS)
def test_the_state_stays_in_full_precision_under_autocast(
    spec: Mamba | Mamba2, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def spy(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def called(*values: Tensor) -> Tensor:
            y = function(*values)
            seen.extend([value.dtype for value in (*values, y)])
            torch.testing.assert_close(y, function(*(value.double() for value in values)).float())
            return y

        return called

    monkeypatch.setattr(mamba, "selective_scan", spy(scan.selective_scan))
    monkeypatch.setattr(mamba2, "head_scan", spy(scan.head_scan))
    net, h = built(spec), torch.randn(2, 100, spec.width)
    with torch.autocast("cpu", torch.bfloat16):
        low = encode(net, h)
    assert set(seen) == {torch.float32}
    assert len(seen) == 2 * 6
    torch.testing.assert_close(low, encode(net, h), atol=0.1, rtol=0.1)
    low.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize("spec", [Mamba(256, 1), Mamba2(4096, 1)])
def test_first_steps_rates_and_skips(spec: Mamba | Mamba2) -> None:
    """Δ log-uniform in [0.001, 0.1]; A = -1 … -n for Mamba, uniform in -[1, 16] for Mamba-2; D = 1."""
    mixer = spec.build(Standard().width(spec.width), Standard()).blocks[0].mixers[0]
    steps = F.softplus(mixer.step.bias if isinstance(spec, Mamba) else mixer.step).log10()
    assert steps.min() >= -3.0001
    assert steps.max() <= -0.9999
    assert steps.mean().item() == pytest.approx(-2, abs=0.2)
    rates = mixer.decay.exp()
    if isinstance(spec, Mamba):
        torch.testing.assert_close(rates, torch.arange(1.0, 17).expand(512, 16))
    else:
        assert rates.min() >= 1
        assert rates.max() <= 16
        assert rates.mean().item() == pytest.approx(8.5, abs=2)
    assert (mixer.skip == 1).all()


@pytest.mark.parametrize(
    ("width", "first", "second"),
    [
        (64, 343_066, 319_042),
        (128, 1_337_306, 1_243_178),
        (256, 5_279_578, 4_907_002),
        (512, 20_979_290, 19_496_858),
        (1024, 83_639_386, 77_725_402),
        (1536, 187_980_378, 174_685_722),
    ],
)
def test_parameters_are_those_of_the_published_family(width: int, first: int, second: int) -> None:
    """FM4NPP (arXiv 2508.14087): 12 blocks, d/16 numbers of state, a head of 30 neighbours: 90 d + 90."""
    with torch.device("meta"):
        for spec, published in ((Mamba(width, 12, width // 16), first), (Mamba2(width, 12, width // 16), second)):
            net = spec.build(Standard().width(width), Standard())
            assert sum(p.numel() for p in net.parameters()) + 90 * width + 90 == published


@pytest.mark.parametrize("spec", SPECS)
def test_roles(spec: Mamba | Mamba2) -> None:
    """Projections, those to B and C too, are hidden weights; the convolution is an input; the rest are vectors."""
    net = spec.build(MuP(16).width(spec.width), MuP(16))
    table = {name.removeprefix("blocks.0."): d for name, d in declared_parameters(net).items() if "blocks.0" in name}
    hidden = {"enter.weight", "select.weight", "step.weight", "out.weight"}
    for name, declared in table.items():
        last = name.removeprefix("mixers.0.")
        role = Role.HIDDEN if last in hidden else Role.INPUT if last == "conv.weight" else Role.VECTOR
        assert (name, declared.role) == (name, role)
        assert declared.ratio == 2.0
        assert declared.depth == 2


def test_the_step_spreads_as_uniform_numbers_whatever_the_width() -> None:
    for param in (Standard(), MuP(64), MuP(1024)):
        mixer = Mamba(1024, 1, state=4).build(param.width(1024), param).blocks[0].mixers[0]
        assert mixer.step.weight.std().item() == pytest.approx(1 / math.sqrt(3 * 64), rel=0.02)


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(RecipeError, match="state=0"):
        Mamba(64, state=0)
    with pytest.raises(RecipeError, match="taps=0"):
        Mamba2(64, taps=0)
    with pytest.raises(RecipeError, match=r"is 160; it must be a multiple of head_dim = 64"):
        Mamba2(80)


@pytest.mark.slow
@pytest.mark.parametrize("second", [False, True])
def test_transformers_agrees(second: bool) -> None:
    """The same weights in an independent implementation: outputs to 1e-5, gradients to 1e-4."""
    transformers = pytest.importorskip("transformers", reason="needs transformers, an oracle that is not installed")
    shape = {"vocab_size": 8, "hidden_size": 64, "state_size": 8, "num_hidden_layers": 3, "use_cache": False}
    torch.manual_seed(0)
    if second:
        config = transformers.Mamba2Config(**shape, head_dim=32, num_heads=4, n_groups=1, chunk_size=64)
        theirs, spec = transformers.Mamba2Model(config), Mamba2(64, 3, 8, head_dim=32)
    else:
        theirs, spec = transformers.MambaModel(transformers.MambaConfig(**shape)), Mamba(64, 3, 8)
    net, same = built(spec), [*NAMES, *(NAMES_2 if second else NAMES_1)]
    parameters = [(net.norm.gain, theirs.norm_f.weight)]
    for block, layer in zip(net.blocks, theirs.layers, strict=True):
        parameters.append((block.mix.norm.gain, layer.norm.weight))
        parameters += [(block.mixers[0].get_parameter(a), layer.mixer.get_parameter(b)) for a, b in same]
    assert len(parameters) == len(list(net.parameters())) == len(list(theirs.parameters())) - 1  # the unused embedding
    with torch.no_grad():
        for a, b in parameters:
            b.copy_(a.view_as(b))
    h = torch.randn(2, 150, 64)
    found, expected = encode(net, h), theirs(inputs_embeds=h).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(found)
    for y in (found, expected):
        (y * weights).sum().backward()
    for a, b in parameters:
        assert (a.grad - b.grad.view_as(a)).abs().max() <= 1e-4 * b.grad.abs().max()


NAMES = (
    ("enter.weight", "in_proj.weight"),
    ("conv.weight", "conv1d.weight"),
    ("conv.bias", "conv1d.bias"),
    ("decay", "A_log"),
    ("skip", "D"),
    ("out.weight", "out_proj.weight"),
)
NAMES_1 = (("select.weight", "x_proj.weight"), ("step.weight", "dt_proj.weight"), ("step.bias", "dt_proj.bias"))
NAMES_2 = (("step", "dt_bias"), ("norm.gain", "norm.weight"))
