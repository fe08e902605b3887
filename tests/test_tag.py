"""Tag: counts, metrics against scikit-learn, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, precision_score, recall_score

from multiplet.adapters import LayerMix, PointHead
from multiplet.backbones.mamba import Mamba
from multiplet.backbones.nothing import Nothing
from multiplet.draws import Draws
from multiplet.encoder import Encode
from multiplet.errors import RecipeError
from multiplet.parametrisation import MuP, Standard
from multiplet.representation.tokens import Shape, Tokens
from multiplet.tasks.tag import Tag, TagNet

SHAPE = Shape(("a", "b"), ("a", "b"), classes={"kind": ("x", "y", "z")})


def tokens_of(counts: tuple[int, ...] = (9, 0, 1, 14), seed: int = 0) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    most = max(counts)
    mask = torch.arange(most) < torch.tensor(counts)[:, None]
    rank = torch.arange(most).expand(mask.shape)
    x = torch.randn(len(counts), most, 2, generator=generator)
    kind = (x[..., 0] > 0).long() + (x[..., 1] > 0).long()
    return Tokens(x, mask, rank, rank, torch.arange(len(counts)), x.new_zeros(len(counts), 0), truth={"kind": kind})


def test_parameters_are_the_published_ones() -> None:
    """FM4NPP's point heads, whose totals hold an embedder of 4.5 D that a frozen encoder does without."""
    for width, classes, total in ((1536, 5, 736_529), (1536, 2, 735_758), (256, 5, 399_249)):
        with torch.device("meta"):
            encoder = Encode(Mamba(width, 12), Standard()).build(SHAPE)
            head = PointHead(encoder, classes)
        assert sum(p.numel() for p in head.parameters()) + 4.5 * width == total


def test_a_mix_weighs_what_each_block_added() -> None:
    encoder = Encode(Mamba(32, 3, state=4), MuP(base_width=16)).build(SHAPE)
    mix = LayerMix.of(encoder, 8)
    hidden = encoder(tokens_of(), blocks=True)
    with torch.no_grad():
        mix.mix.copy_(torch.tensor([0.0, 50.0, 0.0]))  # only the second
        expected = mix.out(mix.map(mix.norm(mix.scale(hidden.blocks[1] - hidden.blocks[0]))))
        torch.testing.assert_close(mix(hidden), expected)


def test_a_mix_may_read_the_embedding_too() -> None:
    encoder = Encode(Mamba(32, 3, state=4), MuP(base_width=16)).build(SHAPE)
    mix, hidden = LayerMix.of(encoder, 8, embedding=True), encoder(tokens_of(), blocks=True)
    assert mix.beside is not None
    with torch.no_grad():
        blocks = mix.map(mix.norm(mix.scale((hidden.blocks[-1] - hidden.before) / 3)))
        torch.testing.assert_close(mix(hidden), mix.out(blocks + mix.beside(hidden.before)))
    assert LayerMix.of(Encode(Nothing(32)).build(SHAPE), 8, embedding=True).beside is None


def test_metrics_are_scikit_learns_over_all_points() -> None:
    generator = np.random.default_rng(0)
    label, points = generator.integers(-1, 3, 400), np.sort(generator.integers(0, 40, 400))
    scores = generator.dirichlet(np.ones(3), 400) + 0.4 * np.eye(3)[label.clip(0)]
    net = Tag("kind").build(Encode(Mamba(16, 1, state=4)).build(SHAPE), SHAPE)
    found = net.measure(
        {"index": points, "kind": label} | {f"score_{name}": scores[:, n] for n, name in enumerate("xyz")}
    )
    truth, guess = label[label >= 0], scores[label >= 0].argmax(1)
    expected = {
        "accuracy": accuracy_score(truth, guess),
        "macro recall": recall_score(truth, guess, average="macro"),
        "macro precision": precision_score(truth, guess, average="macro"),
    }
    assert {name: estimate.value for name, estimate in found.metrics.items()} == pytest.approx(expected, abs=1e-12)
    assert all(estimate.low < estimate.value < estimate.high for estimate in found.metrics.values())
    assert found.confusion is not None
    assert found.confusion.sum() == len(truth)


def test_it_learns_from_labelled_points_alone() -> None:
    torch.manual_seed(0)
    encoder = Encode(Mamba(16, 1, state=4)).build(SHAPE)
    net = Tag("kind", width=32, heads=2).build(encoder, SHAPE)
    assert isinstance(net, TagNet)
    tokens = tokens_of((40, 0, 30, 50))
    tokens.truth["kind"][0, :20] = -1
    weights = net.weights(tokens, Draws(0, 0))["cross_entropy"]
    assert weights.tolist() == [20, 0, 30, 50]
    optimiser = torch.optim.Adam([*encoder.parameters(), *net.parameters()], 0.01)
    losses = []
    for _ in range(60):
        loss = (net(encoder, tokens, Draws(0, 0))["cross_entropy"] * weights).sum() / weights.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 0.9
    assert losses[-1] < 0.3
    scores = net.predict(encoder, tokens)
    torch.testing.assert_close(torch.stack(list(scores.values())).sum(0), torch.ones(tokens.mask.shape))


def test_a_label_that_there_is_not_is_refused() -> None:
    encoder = Encode(Mamba(16, 1, state=4)).build(SHAPE)
    with pytest.raises(RecipeError, match=r"Tag.label is 'kin'.*did you mean 'kind'"):
        Tag("kin").build(encoder, SHAPE)
    with pytest.raises(RecipeError, match="multiple of heads"):
        Tag("kind", width=30)
