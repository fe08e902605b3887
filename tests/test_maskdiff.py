"""The masked-diffusion system: parameter counts, encoder, masks, decoder, diffusion head, sampler."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from multiplet.backbones.transformer import Transformer
from multiplet.dimensions import Width
from multiplet.draws import Draws
from multiplet.encoder import Encode
from multiplet.heads import NoiseHead, masked_mean, mean_pool, sinusoid
from multiplet.layers import Attention, Rotation
from multiplet.objectives.decoder import CrossDecoder
from multiplet.objectives.diffusion import Diffusion, Schedule
from multiplet.objectives.masked import Masked
from multiplet.objectives.masking import counts, draw_masks
from multiplet.objectives.targets import MeanSquared
from multiplet.parametrisation import MuP, Standard, UnitMuP
from multiplet.recipes import jet_classes, maskdiff
from multiplet.representation.jets import CONSTITUENTS, INDEPENDENT
from multiplet.representation.tokens import Shape, Tokens
from multiplet.tasks.classify import Classify

SHAPE = Shape(tuple(f.name for f in CONSTITUENTS), tuple(f.name for f in CONSTITUENTS), classes={"label": ("a", "b")})


def numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def tokens_of(x: torch.Tensor, lengths: list[int]) -> Tokens:
    events, slots, _ = x.shape
    mask = torch.arange(slots) < torch.tensor(lengths)[:, None]
    rank = torch.arange(slots).expand(events, slots)
    x = x.masked_fill(~mask[..., None], 0.0)
    return Tokens(x, mask, rank, rank, torch.arange(events), x.new_zeros(events, 0), targets={"x": x})


# Counts of the published sizes


@pytest.mark.parametrize(("width", "depth", "count"), [(128, 4, 987_008), (256, 8, 7_874_304), (512, 12, 47_209_984)])
@pytest.mark.parametrize("param", [Standard(), MuP()])
def test_encoder_has_the_published_number_of_parameters(width: int, depth: int, count: int, param: Standard) -> None:
    with torch.device("meta"):
        assert numbers(Encode(Transformer(width, depth), param).build(SHAPE)) == count
    assert count == 15 * width**2 * depth + 2 * width * depth + 23 * width
    assert maskdiff(width=width).encoder.backbone == Transformer(width, depth)


@pytest.mark.parametrize(("width", "depth", "count"), [(128, 4, 985_728), (256, 8, 7_869_696), (512, 12, 47_196_672)])
def test_an_encoder_in_u_mup_has_no_biases_and_gains(width: int, depth: int, count: int) -> None:
    with torch.device("meta"):
        encoder = Encode(Transformer(width, depth), UnitMuP()).build(SHAPE)
    assert numbers(encoder) == count == 15 * width**2 * depth + 21 * width
    assert all(parameter.dim() == 2 for parameter in encoder.parameters())


@pytest.mark.parametrize(
    ("width", "depth", "channels", "condition", "count"),
    [
        (128, 3, 21, 128, 352_917),
        (256, 3, 21, 128, 1_295_637),
        (256, 6, 21, 128, 2_284_053),
        (512, 3, 21, 128, 4_950_549),
    ],
)
def test_noise_head_has_the_published_number_of_parameters(
    width: int, depth: int, channels: int, condition: int, count: int
) -> None:
    head = NoiseHead(channels, condition, width, depth, Standard())
    assert numbers(head) == count
    formula = (5 * depth + 3) * width**2 + (256 + condition + 2 * channels + 6 + 7 * depth) * width + channels
    assert count == formula


def test_class_head_has_ten_weights_a_channel_and_ten_biases() -> None:
    encoder = Encode(Transformer(128, 1)).build(SHAPE)
    ten = replace(SHAPE, classes={"label": tuple("abcdefghij")})
    assert numbers(Classify().build(encoder, ten)) == 10 * 128 + 10


def test_decoder_blocks_have_the_shapes_of_encoder_blocks() -> None:
    decoder = CrossDecoder(depth=2).build(Width(128), Standard())
    assert numbers(decoder) == 2 * (15 * 128**2 + 2 * 128) + 128 + 128


def test_the_21_inputs_and_the_14_independent_columns() -> None:
    assert len(CONSTITUENTS) == 21
    assert len(INDEPENDENT) == 14
    assert len({feature.name for feature in CONSTITUENTS}) == 21


# Attention and positions


def attention_by_hand(layer: Attention, x: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Every key/value head repeated for its query heads, one query at a time."""
    q = layer.query(x).unflatten(-1, (-1, layer.head_dim))
    k, v = (y(memory).unflatten(-1, (-1, layer.head_dim)) for y in (layer.key, layer.value))
    out = torch.zeros_like(q)
    for b in range(x.shape[0]):
        for head in range(q.shape[2]):
            for s in range(q.shape[1]):
                real = mask[b]
                weight = (k[b, real, head // layer.group] @ q[b, s, head] * layer.scale).softmax(0)
                out[b, s, head] = weight @ v[b, real, head // layer.group]
    return layer.out(out.flatten(2))


def test_grouped_attention_equals_explicit_repetition_and_hidden_rows_stay_finite() -> None:
    torch.manual_seed(0)
    layer = Attention(Width(32), Width(16), 2, 2, 8, Standard(), 1)
    x, memory = torch.randn(3, 5, 32, requires_grad=True), torch.randn(3, 6, 16)
    mask = torch.arange(6) < torch.tensor([[6], [2], [1]])
    torch.testing.assert_close(layer(x, memory, mask), attention_by_hand(layer, x, memory, mask), atol=1e-5, rtol=1e-5)
    empty = layer(x, memory, torch.zeros_like(mask))
    empty.sum().backward()
    assert not empty.any()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_rotation_depends_on_the_difference_of_positions_only() -> None:
    q, k = torch.randn(1, 1, 1, 32), torch.randn(1, 1, 1, 32)

    def product(a: int, b: int) -> torch.Tensor:
        turns = [Rotation(torch.tensor([[place]]), 32, 10_000.0) for place in (a, b)]
        return (turns[0](q) * turns[1](k)).sum()

    torch.testing.assert_close(product(3, 7), product(53, 57), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(product(0, 0), (q * k).sum())
    assert not torch.isclose(product(3, 7), product(3, 8))


def test_positions_are_ranks_in_the_whole_event() -> None:
    torch.manual_seed(0)
    encoder = Encode(Transformer(32, 2, head_dim=8), Standard()).build(SHAPE)
    tokens = tokens_of(torch.randn(2, 9, 21), [9, 9])
    places = torch.tensor([[1, 4, 8]]).expand(2, 3)
    part = tokens.select(places, torch.ones(2, 3, dtype=torch.bool))
    recounted = replace(part, rank=torch.arange(3).expand(2, 3))
    assert not torch.allclose(encoder(part).points, encoder(recounted).points, atol=1e-3)
    shifted = replace(part, rank=part.rank + 20)  # only differences of ranks matter
    torch.testing.assert_close(encoder(part).points, encoder(shifted).points, atol=1e-4, rtol=1e-3)


def test_a_masked_net_tells_encoder_and_decoder_the_ranks_of_the_whole_event() -> None:
    torch.manual_seed(0)
    encoder = Encode(Transformer(32, 2, head_dim=8), Standard()).build(SHAPE)
    net = Masked(0.6, 0.4, CrossDecoder(2, head_dim=8), MeanSquared()).build(encoder, SHAPE)
    tokens, draws = tokens_of(torch.randn(3, 12, 21), [12, 9, 5]), Draws(3, 4)
    masks, (z, _) = net.draw(tokens, draws), net.conditions(encoder, tokens, draws)
    told = False
    for event in range(3):
        seen = masks.visible[event][masks.visible_mask[event]][None]
        wanted = masks.predicted[event][masks.predicted_mask[event]][None]
        every, x = torch.ones_like(seen, dtype=torch.bool), tokens.x[event, seen]
        memory = encoder(replace(tokens_of(x, [seen.shape[1]]), rank=seen, index=seen)).points
        expected = net.decoder(memory, every, seen, wanted)[0]
        torch.testing.assert_close(z[event][masks.predicted_mask[event]], expected, atol=1e-5, rtol=1e-5)
        recounted = net.decoder(memory, every, torch.arange(seen.shape[1])[None], wanted)[0]
        told |= not torch.allclose(expected, recounted, atol=1e-3)
    assert told


def test_without_positions_ranks_have_no_influence() -> None:
    torch.manual_seed(0)
    encoder = Encode(Transformer(32, 2, head_dim=8, position=None), Standard()).build(SHAPE)
    decoder = CrossDecoder(2, head_dim=8, position=None).build(Width(32), Standard())
    tokens, order = tokens_of(torch.randn(2, 9, 21), [9, 9]), torch.randperm(9).expand(2, 9)
    points = encoder(tokens).points
    torch.testing.assert_close(encoder(replace(tokens, rank=order)).points, points)
    first = decoder(points, tokens.mask, tokens.rank, tokens.rank[:, :4])
    torch.testing.assert_close(decoder(points, tokens.mask, order, order[:, 4:8]), first)


# Masks


@given(
    n=st.integers(0, 128),
    hide=st.sampled_from([0.125, 0.25, 0.5, 0.75]),
    predict=st.sampled_from([None, 0.125, 0.25, 0.5, 0.75]),
)
@settings(max_examples=200, deadline=None)
def test_counts_of_hidden_and_predicted_tokens(n: int, hide: float, predict: float | None) -> None:
    hidden, predicted = (int(count) for count in counts(torch.tensor(n), hide, predict))
    if n < 2:
        assert (hidden, predicted) == (0, 0)
    else:
        assert hidden == min(max(round(hide * n), 1), n - 1)
        assert predicted == (1 if predict is None else min(max(round(predict * n), 1), hidden))


@pytest.mark.parametrize("hide", [0.125, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("predict", [None, 0.125, 0.5, 0.75])
def test_every_token_is_visible_predicted_or_dropped(hide: float, predict: float | None) -> None:
    lengths = list(range(129))
    tokens = tokens_of(torch.randn(129, 128, 21), lengths)
    masks = draw_masks(tokens, hide, predict, Draws(0, 0))
    for n in lengths:
        visible = masks.visible[n][masks.visible_mask[n]].tolist()
        predicted = masks.predicted[n][masks.predicted_mask[n]].tolist()
        hidden, wanted = (int(count) for count in counts(torch.tensor(n), hide, predict))
        assert len(visible) == n - hidden
        assert len(predicted) == wanted
        assert visible == sorted(visible)
        assert set(visible).isdisjoint(predicted)
        assert set(visible) | set(predicted) <= set(range(n))


def test_masks_are_uniform_and_change_with_step_and_seed() -> None:
    tokens = tokens_of(torch.randn(4000, 10, 21), [10] * 4000)
    masks = draw_masks(tokens, 0.5, 0.25, Draws(0, 0))
    share = torch.zeros(4000, 10).scatter(1, masks.visible, masks.visible_mask.float()).mean(0)
    assert (share - 0.5).abs().max() < 4 * 0.5 / math.sqrt(4000)
    for other in (Draws(0, 1), Draws(1, 0)):
        assert not torch.equal(draw_masks(tokens, 0.5, 0.25, other).visible, masks.visible)


def test_the_encoder_runs_over_visible_tokens_only() -> None:
    tokens = tokens_of(torch.randn(8, 40, 21), [40] * 8)
    encoder = Encode(Transformer(32, 1, head_dim=8), Standard()).build(SHAPE)
    objective = Masked(hide=0.75, predict=0.25, decoder=CrossDecoder(1, head_dim=8)).build(encoder, SHAPE)
    seen = []
    encoder.backbone.register_forward_hook(lambda net, inputs, output: seen.append(inputs[0].shape[1]))
    objective(encoder, tokens, Draws(0, 0))
    assert seen == [10]


def test_queries_do_not_influence_each_other() -> None:
    torch.manual_seed(0)
    decoder = CrossDecoder(2, head_dim=8).build(Width(32), Standard())
    memory, mask = torch.randn(2, 6, 32), torch.ones(2, 6, dtype=torch.bool)
    rank, wanted = torch.arange(6).expand(2, 6), torch.tensor([[7, 9, 11]]).expand(2, 3)
    together = decoder(memory, mask, rank, wanted)
    for place in range(3):
        torch.testing.assert_close(decoder(memory, mask, rank, wanted[:, place : place + 1])[:, 0], together[:, place])


# Diffusion


def test_schedule_has_the_published_values() -> None:
    schedule = Schedule(1000)
    kept = schedule.kept
    assert 1 - kept[0] == pytest.approx(4.12842e-5, rel=1e-5)
    places = {0: 0.999959, 99: 0.972093, 249: 0.847012, 499: 0.493844, 749: 0.144272, 899: 0.0240917, 999: 2.42877e-9}
    for t, value in places.items():
        assert kept[t] == pytest.approx(value, rel=5e-6)
    beta = 1 - kept[1:] / kept[:-1]
    assert int((beta > 0.999 - 1e-9).sum()) == 1
    assert schedule.unconditional == pytest.approx(0.495578, abs=1e-6)


def test_noising_has_the_right_moments_and_is_undone_by_the_true_noise() -> None:
    schedule, x, noise = Schedule(1000), torch.full((20_000, 1), 2.0), torch.randn(20_000, 1)
    for t in (0, 300, 700, 990):
        noisy = schedule.noisy(x, torch.full((20_000,), t), noise)
        kept = float(schedule.kept[t])
        assert noisy.mean() == pytest.approx(2 * math.sqrt(kept), abs=0.03)
        assert noisy.std() == pytest.approx(math.sqrt(1 - kept), abs=0.03)
        torch.testing.assert_close(schedule.clean(noisy, torch.full((20_000,), t), noise), x, atol=1e-2, rtol=1e-2)


def test_sinusoid_has_cosines_first() -> None:
    value = sinusoid(torch.tensor([3]))
    frequency = 10_000 ** (-torch.arange(128) / 128)
    torch.testing.assert_close(
        value[0], torch.cat([(3 * frequency).cos(), (3 * frequency).sin()]), atol=1e-5, rtol=1e-5
    )


def test_the_first_loss_is_one() -> None:
    torch.manual_seed(0)
    hidden = tokens_of(torch.randn(64, 20, 21), [20] * 64)
    target = Diffusion().build(Width(128), SHAPE, MuP())
    losses = target(torch.randn(64, 20, 128), hidden, Draws(0, 0))
    for name in target.names:
        assert losses[name].mean().item() == pytest.approx(1.0, abs=0.02)


def test_the_reference_knows_nothing_of_the_context_and_the_head_stays_in_full_precision() -> None:
    torch.manual_seed(0)
    target = Diffusion(width=32, depth=2).build(Width(32), SHAPE, Standard())
    for parameter in target.parameters():
        nn.init.normal_(parameter, std=0.2)
    hidden, z = tokens_of(torch.randn(4, 6, 21), [6] * 4), torch.randn(4, 6, 32)
    losses, others = target(z, hidden, Draws(0, 0)), target(1 - z, hidden, Draws(0, 0))
    assert torch.equal(losses["noise_without_context"], others["noise_without_context"])
    assert not torch.allclose(losses["noise"], others["noise"], rtol=1e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = target(z, hidden, Draws(0, 0))
    for name, loss in losses.items():
        assert torch.equal(cast[name], loss), name


def test_evaluation_draws_are_fixed_and_stratified_in_time() -> None:
    target = Diffusion(fixed_repeats=16).build(Width(32), SHAPE, Standard())
    hidden = tokens_of(torch.randn(5, 7, 21), [7] * 5)
    t, noise = target._draw(hidden, Draws(0, 0, fixed=True))
    again, _ = target._draw(hidden, Draws(0, 0, fixed=True))
    assert torch.equal(t, again)
    stratum = torch.arange(16)
    assert ((t + 1) * 16 > 1000 * stratum).all()
    assert (t * 16 < 1000 * (stratum + 1)).all()
    assert noise.shape == (5, 7, 16, 21)
    assert target._draw(hidden, Draws(0, 0))[0].shape[-1] == 4


def train_quickly(net: nn.Module, loss: object, steps: int, rate: float = 2e-3) -> list[float]:
    optimiser = torch.optim.Adam(net.parameters(), lr=rate, betas=(0.9, 0.95))
    history = []
    for step in range(steps):
        value = loss(step)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        history.append(value.item())
    return history


@pytest.mark.slow
def test_sampling_recovers_a_mixture_that_depends_on_the_condition() -> None:
    """x = ±1 + 0.3 ε around a centre that z names: mean and spread come back within 5 %."""
    torch.manual_seed(0)
    shape = Shape(("x",), ("x",))
    target = Diffusion(width=64, depth=2, repeats=1, reference=False).build(Width(8), shape, Standard())
    generator = torch.Generator().manual_seed(1)

    def batch(events: int) -> tuple[torch.Tensor, Tokens]:
        z = torch.zeros(events, 1, 8)
        z[:, 0, 0] = torch.randint(0, 2, (events,), generator=generator) * 2 - 1
        sign = torch.randint(0, 2, (events, 1, 1), generator=generator) * 2 - 1
        x = z[..., :1] * 0.8 + 0.5 * sign + 0.2 * torch.randn(events, 1, 1, generator=generator)
        return z, tokens_of(x, [1] * events)

    def loss(step: int) -> torch.Tensor:
        z, hidden = batch(512)
        return target(z, hidden, Draws(0, step))["noise"].mean()

    train_quickly(target, loss, 1500)
    z = torch.zeros(4000, 1, 8)
    z[:, 0, 0] = 1
    x = target.sample(z, tokens_of(torch.zeros(4000, 1, 1), [1] * 4000), Draws(5, 0))[:, 0, 0]
    truth_std = math.sqrt(0.5**2 + 0.2**2)
    assert x.mean() == pytest.approx(0.8, abs=0.05 * truth_std + 3 * truth_std / math.sqrt(4000))
    assert x.std() == pytest.approx(truth_std, rel=0.05)
    high = x[x > 0.8]
    assert high.mean() == pytest.approx(1.3, rel=0.05)
    assert high.std() == pytest.approx(0.2, rel=0.25)


@pytest.mark.slow
def test_overfitting_a_few_events_beats_the_unconditional_bound_and_the_head_without_context() -> None:
    torch.manual_seed(0)
    shape = replace(SHAPE, targets=SHAPE.columns)
    encoder = Encode(Transformer(32, 2, head_dim=8), Standard()).build(shape)
    spec = Masked(decoder=CrossDecoder(1, head_dim=8), target=Diffusion(width=32, depth=2))
    objective = spec.build(encoder, shape)
    tokens = tokens_of(torch.randn(32, 8, 21), [8] * 32)
    net = nn.ModuleList([encoder, objective])

    def loss(step: int) -> torch.Tensor:
        values = objective(encoder, tokens, Draws(0, step))
        return torch.stack([value.mean() for value in values.values()]).sum()

    train_quickly(net, loss, 700, rate=5e-3)
    values = objective(encoder, tokens, Draws(1, 0, fixed=True))
    assert values["noise"].mean() < Schedule(1000).unconditional
    assert values["noise"].mean() < values["noise_without_context"].mean()


@pytest.mark.slow
def test_squared_error_without_positions_collapses_to_the_mean_and_diffusion_does_not() -> None:
    """Hidden tokens are ±1 with nothing to tell which: a regression says 0, a sampler says ±1."""
    torch.manual_seed(0)
    shape = Shape(("x",), ("x",))
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 2, (256, 6, 1), generator=generator).float() * 2 - 1
    tokens = tokens_of(x, [6] * 256)
    encoder = Encode(Transformer(32, 1, head_dim=8, position=None), Standard()).build(shape)
    decoder = CrossDecoder(1, head_dim=8, position=None)
    for target in (MeanSquared(), Diffusion(width=32, depth=2, reference=False)):
        objective = Masked(0.5, 0.5, decoder, target).build(encoder, shape)

        def loss(step: int, objective: nn.Module = objective) -> torch.Tensor:
            return next(iter(objective(encoder, tokens, Draws(0, step)).values())).mean()

        train_quickly(objective, loss, 300, rate=5e-3)
        z, hidden = objective.conditions(encoder, tokens, Draws(9, 9))
        if isinstance(target, MeanSquared):
            assert objective.target.out(z).abs().mean() < 0.3
        else:
            samples = objective.target.sample(z, hidden, Draws(3, 3), steps=50)
            assert samples.abs().mean() > 0.7
            assert samples.mean().abs() < 0.2


# Pooling and carrying


def test_pooling_ignores_padding_and_is_finite_for_nothing() -> None:
    points, mask = torch.randn(3, 4, 5), torch.arange(4) < torch.tensor([[4], [2], [0]])
    pooled = mean_pool(points, mask)
    torch.testing.assert_close(pooled[1], points[1, :2].mean(0))
    assert not pooled[2].any()
    torch.testing.assert_close(masked_mean(points[..., 0], mask), pooled[:, 0])


def test_recipes_take_their_size_from_one_dial() -> None:
    assert maskdiff(width=256).encoder.backbone.depth == 8
    assert jet_classes(width=256).encoder == maskdiff(width=256).encoder
