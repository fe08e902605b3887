"""Tracks: parameters, matching and losses against slow code, metrics, and that it learns to separate tracks."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from multiplet.backbones.mamba import Mamba
from multiplet.draws import Draws
from multiplet.encoder import Encode
from multiplet.errors import RecipeError
from multiplet.parametrisation import Standard
from multiplet.representation.tokens import Shape, Tokens
from multiplet.tasks.matching import Weights, one_hot_tracks, track_losses
from multiplet.tasks.tracks import Tracks, TracksNet

SHAPE = Shape(("a", "b"), ("a", "b"), truth=("track", "pt"))


def tokens_of(counts: tuple[int, ...] = (24, 0, 1, 17), tracks: int = 3, seed: int = 0) -> Tokens:
    """Events whose points lie around one place for each track, in no order."""
    generator = torch.Generator().manual_seed(seed)
    most = max(counts)
    mask = torch.arange(most) < torch.tensor(counts)[:, None]
    rank = torch.arange(most).expand(mask.shape)
    track = torch.randint(0, tracks, mask.shape, generator=generator)
    places = torch.randn(tracks, 2, generator=torch.Generator().manual_seed(5)) * 3
    x = places[track] + 0.1 * torch.randn(*mask.shape, 2, generator=generator)
    truth = {"track": torch.where(mask, track * 7 + 2, 99), "pt": torch.ones(mask.shape)}
    return Tokens(x, mask, rank, rank, torch.arange(len(counts)), x.new_zeros(len(counts), 0), truth=truth)


def net_of(queries: int = 6, **given: int) -> tuple[TracksNet, torch.nn.Module]:
    torch.manual_seed(0)
    encoder = Encode(Mamba(16, 1, state=4)).build(SHAPE)
    return Tracks(queries=queries, **({"width": 32, "heads": 2} | given)).build(encoder, SHAPE), encoder


def test_parameters_are_the_published_ones() -> None:
    """FM4NPP's track adapter, whose total holds an embedder of 4.5 D that a frozen encoder does without."""
    with torch.device("meta"):
        encoder = Encode(Mamba(1536, 12), Standard()).build(SHAPE)
        net = Tracks().build(encoder, SHAPE)
    assert sum(p.numel() for p in net.parameters()) + 4.5 * 1536 == 2_394_638
    assert sum(p.numel() for p in net.layers[0].parameters()) == 790_784


def test_tracks_become_rows_in_the_order_of_their_numbers() -> None:
    track = torch.tensor([[5, 2, -1, 5, 9], [4, 4, 4, 4, 4], [0, 1, 2, 3, 4]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]).bool()
    rows = one_hot_tracks(track, mask)
    assert rows.tolist() == [
        [[0, 1, 0, 0, 0], [1, 0, 0, 1, 0], [0, 0, 0, 0, 1]],
        [[1, 1, 0, 0, 0], [0] * 5, [0] * 5],
        [[0] * 5] * 3,
    ]
    assert one_hot_tracks(track[:0], mask[:0]).shape == (0, 0, 5)


def slow_cost(kind: np.ndarray, owned: np.ndarray, track: np.ndarray, weigh: Weights) -> tuple[float, float, float]:
    """Class, dice and focal of one query and one track, over real points."""
    p = 1 / (1 + np.exp(-owned))
    dice = 1 - (2 * (p * track).sum() + 1e-6) / (p.sum() + track.sum() + 1e-6)
    focal = [
        0.25 * (1 - q) ** 2 * -np.log(q) if t else 0.75 * q**2 * -np.log(1 - q) for q, t in zip(p, track, strict=True)
    ]
    sure = np.exp(kind) / np.exp(kind).sum()
    return weigh.kind * sure[1], weigh.dice * dice, weigh.focal * sum(focal) / len(p)


@pytest.mark.parametrize("seed", range(4))
def test_losses_are_those_of_the_best_of_all_pairings(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens = tokens_of((9, 4, 0), 3, seed)
    kind = torch.randn(3, 4, 2, generator=generator).double()
    owned = torch.randn(3, 4, 9, generator=generator).double()
    tracks = one_hot_tracks(tokens.truth["track"], tokens.mask).double()
    weigh = Weights(0.5, 0.1, 1.0, 30.0)
    found = track_losses(kind, owned, tracks, tokens.mask, weigh)
    for event in range(3):
        real = tokens.mask[event].numpy()
        rows = [row[real] for row in tracks[event].numpy() if row.any()]
        k, o = kind[event].numpy(), owned[event].numpy()[:, real]
        best, answer = np.inf, None
        for chosen in permutations(range(4), len(rows)):
            costs = [slow_cost(k[q], o[q], row, weigh) for q, row in zip(chosen, rows, strict=True)]
            if (total := sum(d + f - c for c, d, f in costs)) < best:
                log = k - np.log(np.exp(k).sum(1, keepdims=True))
                classes = sum(-0.5 * log[q, 1] if q in chosen else -0.1 * log[q, 0] for q in range(4))
                best, answer = total, (classes, sum(d for _, d, _ in costs), sum(f for _, _, f in costs))
        assert [float(found[name][event]) for name in ("class", "dice", "focal")] == pytest.approx(answer, rel=1e-6)


def test_an_event_alone_and_with_more_padding_gives_the_same() -> None:
    net, encoder = net_of()
    tokens = tokens_of()
    with torch.no_grad():
        together, found = net(encoder, tokens, Draws(0, 0)), net.predict(encoder, tokens)
        for event, points in enumerate(tokens.mask.sum(1).tolist()):
            alone = tokens_of()
            part = Tokens(
                *(getattr(alone, name)[event : event + 1, :points] for name in ("x", "mask", "rank", "index")),
                alone.event[event : event + 1],
                alone.cond[event : event + 1],
                truth={name: value[event : event + 1, :points] for name, value in alone.truth.items()},
            )
            for name, value in net(encoder, part, Draws(0, 0)).items():
                torch.testing.assert_close(value[0], together[name][event], atol=1e-4, rtol=1e-4)
            assert torch.equal(net.predict(encoder, part)["found"][0], found["found"][event, :points])
    assert net.weights(tokens, Draws(0, 0))["dice"].tolist() == [1, 0, 1, 1]


def test_points_go_to_the_surest_query_that_calls_itself_a_track(monkeypatch: pytest.MonkeyPatch) -> None:
    """Query 0 owns all points and calls itself empty; 1 is less sure to be a track than 2. The last stage decides."""
    net, encoder = net_of(queries=3)
    kind = torch.tensor([[[5.0, 0.0], [0.0, 0.2], [0.0, 4.0]]])
    owned = torch.tensor([[[9.0, 9.0, 9.0, 9.0], [3.0, 0.5, -9.0, 1.0], [-9.0, 0.0, 2.0, 0.6]]])
    tokens = tokens_of((4,))
    monkeypatch.setattr(net, "stages", lambda encoder, tokens: [(-kind, -owned), (kind, owned)])
    found = net.predict(encoder, tokens)
    assert found["found"].tolist() == [[1, 2, 2, 2]]  # of the second point: 0.55 · 0.62 < 0.98 · 0.50
    track, own = kind.softmax(-1)[0, :, 1], owned.sigmoid()[0]
    expected = torch.stack([track[1] * own[1, 0], *(track[2] * own[2, 1:])])
    torch.testing.assert_close(found["score"][0], expected)
    monkeypatch.setattr(net, "stages", lambda encoder, tokens: [(kind, owned), (0.0 * kind, owned)])
    assert net.predict(encoder, tokens)["found"].tolist() == [[-1] * 4]  # no query calls itself a track


def test_every_stage_counts_and_is_matched_anew() -> None:
    net, encoder = net_of(layers=3)
    tokens = tokens_of()
    tracks = one_hot_tracks(tokens.truth["track"], tokens.mask)
    with torch.no_grad():
        losses, stages = net(encoder, tokens, Draws(0, 0)), net.stages(encoder, tokens)
        parts = [track_losses(*stage, tracks, tokens.mask, net.spec.weigh) for stage in stages]
    assert len(parts) == 4  # before the first layer, and after each
    for name, value in losses.items():
        torch.testing.assert_close(value, sum(part[name] for part in parts))
    assert not torch.allclose(parts[0]["dice"], parts[-1]["dice"])


def test_queries_look_where_the_stage_before_saw_their_track(monkeypatch: pytest.MonkeyPatch) -> None:
    net, encoder = net_of()
    tokens, biases, found = tokens_of(), [], []
    for layer in net.layers:
        forward = layer.forward
        monkeypatch.setattr(layer, "forward", lambda q, p, bias, go=forward: biases.append(bias) or go(q, p, bias))
    with torch.no_grad():
        found = net.stages(encoder, tokens)
        for bias, (_, owned) in zip(biases, found[:-1], strict=True):
            expected = owned.sigmoid().clamp(min=1e-6).log()
            real = tokens.mask[:, None].expand_as(owned)
            torch.testing.assert_close(bias[real], expected[real], atol=1e-4, rtol=1e-4)
            assert (bias[~real] < -1e8).all()
        layer, points = net.layers[0], torch.randn(1, 5, 32)
        q = torch.randn(1, 6, 32)
        only = torch.full((1, 6, 5), -1e9)
        only[:, :, 2] = 0.0  # all look at the third point alone
        moved = points.clone()
        moved[:, [0, 1, 3, 4]] += 10.0
        torch.testing.assert_close(layer(q, points, only), layer(q, moved, only))
        assert not torch.allclose(layer(q, points, 0 * only), layer(q, moved, 0 * only))


def test_it_learns_to_separate_tracks_and_to_say_that_a_query_is_empty() -> None:
    net, encoder = net_of()
    optimiser = torch.optim.Adam([*encoder.parameters(), *net.parameters()], 3e-3)
    for step in range(150):
        tokens = tokens_of((20, 30, 25, 15), seed=step)
        losses = net(encoder, tokens, Draws(0, 0))
        optimiser.zero_grad()
        torch.stack([value.mean() for value in losses.values()]).sum().backward()
        optimiser.step()
    tokens = tokens_of((20, 30, 25, 15), seed=1000)
    with torch.no_grad():
        found = net.predict(encoder, tokens)["found"]
    scores = [
        adjusted_rand_score(tokens.truth["track"][event][real], found[event][real])
        for event, real in enumerate(tokens.mask)
    ]
    assert np.mean(scores) > 0.9
    table = {"index": np.repeat(np.arange(4), tokens.mask.sum(1)), "pt": np.ones(90)}
    table |= {"track": tokens.truth["track"][tokens.mask].numpy(), "found": found[tokens.mask].numpy()}
    metrics = {name: estimate.value for name, estimate in net.measure(table).metrics.items()}
    assert metrics["adjusted Rand index, mean"] == pytest.approx(np.mean(scores), abs=1e-9)
    assert metrics["track efficiency"] > 0.8
    assert metrics["track purity"] > 0.8


def test_bad_recipes_are_refused() -> None:
    net, encoder = net_of(queries=2)
    with pytest.raises(RecipeError, match=r"an event has 3 tracks, and there are 2 queries: raise Tracks\.queries"):
        net(encoder, tokens_of(), Draws(0, 0))
    with pytest.raises(RecipeError, match=r"Tracks.label is 'tracks'.*did you mean 'track'"):
        Tracks("tracks").build(encoder, SHAPE)
    with pytest.raises(RecipeError, match="multiple of heads"):
        Tracks(width=30)
