"""Next neighbours: against brute force, in every way of choosing candidates and measuring distance."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from multiplet.backbones.transformer import Transformer
from multiplet.draws import Draws
from multiplet.embedding import Fourier, FourierNet
from multiplet.encoder import Encode
from multiplet.errors import RecipeError
from multiplet.objectives import neighbours as module
from multiplet.objectives.neighbours import CONTEXT_FREE, NextNeighbours, NextNeighboursNet, _pairs, next_neighbours
from multiplet.parametrisation import Standard
from multiplet.representation.tokens import Shape, Tokens

NAMES = ("E", "eta", "phi", "r")
COUNTS = (50, 0, 1, 2, 31, 23)


def tokens_of(counts: tuple[int, ...] = COUNTS, seed: int = 0, levels: int = 9) -> Tokens:
    """Events of so many points; radii lie on few levels, so that many are equal; padding is NaN."""
    generator = np.random.default_rng(seed)
    x = torch.from_numpy(generator.random((len(counts), max(counts), 4), np.float32))
    x[..., 3] = (x[..., 3] * levels).floor() / levels
    mask = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    x = x.masked_fill(~mask[..., None], torch.nan)
    rank = torch.arange(max(counts)).expand(mask.shape)
    clear = x.nan_to_num(0.0)
    return Tokens(clear, mask, rank, rank, torch.arange(len(counts)), clear.new_zeros(len(counts), 0), {}, {"x": x})


def net_of(spec: NextNeighbours) -> NextNeighboursNet:
    shape = Shape(NAMES, NAMES)
    encoder = Encode(Transformer(16, 1, head_dim=8), Standard()).build(shape)
    return spec.build(encoder, shape)


def by_brute_force(points: np.ndarray, spec: NextNeighbours) -> list[list[np.ndarray]]:
    """For each point in turn, the coordinates of its neighbours, nearest first; candidates are compared one by one."""
    at = [NAMES.index(name) for name in spec.coordinates]
    chosen = points[:, at]
    first = spec.coordinates.index(spec.after) if spec.after else None
    rest = [n for n in reversed(range(len(at))) if n != first]

    def later(n: int, m: int) -> bool:
        if first is None:
            return m > n
        return (*chosen[m][[first, *rest]], m) > (*chosen[n][[first, *rest]], n)

    answers = []
    for n in range(len(points)):
        found = []
        for m in (m for m in range(len(points)) if later(n, m)):
            step = [float(b) - float(a) for a, b in zip(chosen[n], chosen[m], strict=True)]
            if spec.periods:
                step = [s - p * round(s / p) if p else s for s, p in zip(step, spec.periods, strict=True)]
            found.append((sum(s * s for s in step), chosen[m] if not spec.relative else np.array(step)))
        found.sort(key=lambda pair: pair[0])
        answers.append([coordinates for _, coordinates in found[: spec.k]])
    return answers


@pytest.mark.parametrize(
    "spec",
    [
        NextNeighbours(k, after=after, periods=periods, relative=relative)
        for k, after, periods, relative in product((1, 5, 30), ("r", ""), ((), (0.0, 1.0, 0.0)), (False, True))
    ],
    ids=str,
)
@pytest.mark.parametrize("block", [60, 1 << 17])
def test_targets_are_those_of_brute_force(spec: NextNeighbours, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", {"cpu": block})
    tokens = tokens_of()
    targets, valid = net_of(spec).targets(tokens)
    for event, points in enumerate(COUNTS):
        answers = by_brute_force(tokens.x[event, :points].numpy(), spec)
        assert valid[event, :points].sum(1).tolist() == [len(answer) for answer in answers]
        for n, answer in enumerate(answers):
            if answer:
                np.testing.assert_allclose(targets[event, n, : len(answer)].numpy(), np.stack(answer), atol=1e-6)
        assert not valid[event, points:].any()


def test_the_number_of_neighbours_is_known_beforehand() -> None:
    for k in (1, 3, 30):
        expected = [sum(min(k, n - 1 - i) for i in range(n)) for n in range(40)]
        assert _pairs(torch.arange(40), k).tolist() == expected
    tokens = tokens_of()
    net = net_of(NextNeighbours(5, by_point=True))
    _, valid = net.targets(tokens)
    assert net.weights(tokens, Draws(0, 0))["next_neighbours"].tolist() == valid.sum((1, 2)).tolist()
    assert net_of(NextNeighbours(5)).weights(tokens, Draws(0, 0))[CONTEXT_FREE].tolist() == [1, 0, 0, 1, 1, 1]


def test_ties_go_to_the_earlier_place() -> None:
    points = torch.tensor([[[0.0], [1.0], [1.0], [-1.0], [1.0]]])
    found, valid = next_neighbours(points, torch.tensor([5]), 3)
    assert found[0, 0].tolist() == [1, 2, 3]
    assert found[0, 1].tolist() == [2, 4, 3]
    assert valid.sum(-1).tolist() == [[3, 3, 2, 1, 0]]


def test_the_loss_is_the_mean_over_the_neighbours_of_an_event() -> None:
    tokens, net = tokens_of(), net_of(NextNeighbours(4, reference=False))
    guess = torch.randn((*tokens.mask.shape, 12), generator=torch.Generator().manual_seed(1))
    targets, valid = net.targets(tokens)
    loss = net._loss(guess, targets, valid)
    for event in range(len(tokens)):
        errors = [
            float((guess[event, n].view(4, 3)[m] - targets[event, n, m]).square().mean())
            for n, m in valid[event].nonzero().tolist()
        ]
        assert float(loss[event]) == pytest.approx(np.mean(errors) if errors else 0.0, rel=1e-5)


def test_coordinates_that_there_are_not_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"coordinates: 'et' is no target .*did you mean 'eta'"):
        net_of(NextNeighbours(coordinates=("et", "phi", "r")))
    with pytest.raises(RecipeError, match=r"after is 'R'"):
        NextNeighbours(after="R")
    with pytest.raises(RecipeError, match="periods has 1 entries for 3"):
        NextNeighbours(periods=(1.0,))
    with pytest.raises(RecipeError, match="k of at least 1"):
        NextNeighbours(0)


def test_the_fixed_embedding_is_the_published_formula_and_nothing_of_it_is_trained() -> None:
    torch.manual_seed(0)
    net = Fourier().build(NAMES, Standard().width(24), Standard())
    assert isinstance(net, FourierNet)
    assert net.vectors.shape == (64, 24)  # 1 for E and 3 + 60 for the place
    assert not list(net.parameters())
    assert list(net.state_dict()) == ["vectors"]
    x = torch.rand(2, 3, 4)

    def token(row: Tensor) -> Tensor:
        energy, place = row[0], row[1:]
        waves = [f(2.0**j * p) for f in (torch.sin, torch.cos) for p in place for j in range(10)]
        return torch.stack([energy, *place, *waves]) @ net.vectors

    expected = torch.stack([torch.stack([token(row) for row in event]) for event in x])
    torch.testing.assert_close(net(x), expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(RecipeError, match="'radius' is no feature"):
        Fourier(("radius",)).build(NAMES, Standard().width(24), Standard())
