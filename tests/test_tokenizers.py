"""Trained tokenizers: ids against another implementation, what codes are worth, and that fits are kept and repeat."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny
from multiplet.data.events import Events
from multiplet.draws import Draws
from multiplet.errors import RecipeError
from multiplet.recipe import Recipe
from multiplet.representation.quantisers import FSQ, VQ, CodedNet, Rounding
from multiplet.spec import from_dict, override, to_dict

SHORT = [FSQ((5, 5, 4), steps=300), VQ(100, 4, steps=300)]


@pytest.fixture(scope="module")
def points() -> Tensor:
    """4000 points in 40 narrow clusters, of unit variance in each of five channels."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(40, 5, generator=draw)
    rows = centres[torch.randint(40, (4000,), generator=draw)] + 0.05 * torch.randn(4000, 5, generator=draw)
    return (rows - rows.mean(0)) / rows.std(0)


class Caught:
    """Keeps what would be quantised."""

    def __init__(self, entered: list[Tensor]) -> None:
        self.entered = entered

    def nearest(self, z: Tensor, codebook: Tensor) -> Tensor:
        self.entered.append(z)
        return z.new_zeros(z.shape[:-1], dtype=torch.long)


def fitted(spec: FSQ | VQ, points: Tensor) -> CodedNet:
    net = spec.build(points.shape[1])
    with torch.no_grad():  # as a representation does
        net.fit(points)
    return net


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (3, 4, 7)])
def test_fsq_gives_the_codes_and_ids_of_another_implementation(levels: tuple[int, ...]) -> None:
    from vector_quantize_pytorch import FSQ as Other  # noqa: N811

    other, z = Other(list(levels)), torch.randn(1, 20000, len(levels), generator=torch.Generator().manual_seed(0))
    coded, ids = other(z)
    ours = FSQ(levels)
    assert torch.equal(ours.nearest(z, z.new_zeros(ours.codes, ours.size)), ids.long())
    torch.testing.assert_close(Rounding(levels)(z[0])[0], coded[0])
    torch.testing.assert_close(Rounding(levels).codebook(), other.indices_to_codes(torch.arange(ours.codes)[None])[0])
    assert len(ids.unique()) > 0.5 * math.prod(levels)


@pytest.mark.parametrize("spec", SHORT)
def test_codes_stand_for_what_they_are_given_to(spec: FSQ | VQ, points: Tensor) -> None:
    net = fitted(spec, points)
    ids = net.encode(points[None])
    assert ids.shape == (1, 4000)
    assert 0 <= int(ids.min()) <= int(ids.max()) < net.codes == 100
    assert (net.decode(ids)[0] - points).square().mean() < 0.25  # of a variance of 1
    assert len(ids.unique()) > 25  # there are 40 clusters
    shuffled = net.decode(ids[:, torch.randperm(4000, generator=torch.Generator().manual_seed(0))])[0]
    assert (shuffled - points).square().mean() > 1.0


def test_what_enters_a_codebook_is_held_near_its_codes(points: Tensor) -> None:
    """By the commitment loss, without which its variance grows to 1.6 here."""
    net = fitted(SHORT[1], points)
    entered: list[Tensor] = []
    net.spec = Caught(entered)
    net.encode(points)
    assert entered[0].var() < 0.8


@pytest.mark.parametrize("spec", SHORT)
def test_a_fit_repeats_bit_by_bit_and_leaves_the_random_numbers_alone(spec: FSQ | VQ, points: Tensor) -> None:
    spec = replace(spec, steps=20)
    torch.manual_seed(5)
    first = fitted(spec, points).state_dict()
    after = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(3))
    second, other = fitted(spec, points).state_dict(), fitted(replace(spec, seed=1), points).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["enter_0"], other["enter_0"])


@pytest.mark.parametrize("spec", SHORT)
def test_nothing_is_left_to_train_and_use_changes_nothing(
    spec: FSQ | VQ, points: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = fitted(replace(spec, steps=20), points).train()
    assert not list(net.parameters())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    ids = net.encode(points)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    monkeypatch.setitem(sys.modules, "vector_quantize_pytorch", None)  # importing it is an error from here on
    loaded = spec.build(5)
    loaded.load_state_dict(before)
    assert torch.equal(loaded.encode(points), ids)


@pytest.mark.parametrize("tokenizer", SHORT)
def test_ids_do_not_depend_on_padding(tokenizer: FSQ | VQ, toys: Path) -> None:
    dataset = Events(str(toys)).open()
    net = replace(tiny.REPRESENT, tokenizer=replace(tokenizer, steps=20)).build(dataset.schema)
    net.fit(dataset.read("train", np.arange(100)))
    together = net(dataset.read("train", np.arange(20)))
    assert net.shape.ids == {"code": 100}
    assert len(together.ids["code"][together.mask].unique()) > 5
    for event in range(20):
        alone = net(dataset.read("train", np.array([event])))
        assert torch.equal(alone.ids["code"][alone.mask], together.ids["code"][event][together.mask[event]])


@pytest.mark.parametrize("kind", ["FSQ", "VQ"])
def test_masked_pretraining_learns_the_ids(kind: str, toys: Path) -> None:
    sizes = {"FSQ": {"represent.tokenizer.levels": "3,3,3"}, "VQ": {"represent.tokenizer.codes": "27"}}[kind]
    recipe = override(tiny.codes(str(toys)), {"represent.tokenizer": kind, "represent.tokenizer.steps": "30", **sizes})
    assert from_dict(Recipe, to_dict(recipe)) == recipe
    dataset = recipe.data.open()
    model = recipe.build(dataset.schema)
    model.represent.fit(dataset.read("train", np.arange(100)))
    tokens = model.tokens(dataset.read("train", np.arange(100)))
    optimiser = replace(recipe.optim, rate=1e-2).build(model, recipe.encoder.param, 30)
    for step in range(30):
        loss = model(tokens, Draws(0, 0))["code"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step(step)
    assert loss.item() < 0.8 * math.log(27)


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (lambda: FSQ((2, 3)), "levels"),
        (lambda: FSQ(()), "levels"),
        (lambda: VQ(1), "at least 2 codes"),
        (lambda: VQ(steps=0), "VQ needs hidden"),
        (lambda: FSQ(rate=0.0), "FSQ needs hidden"),
        (lambda: fitted(FSQ(steps=1), torch.zeros(999, 3)), "999 points cannot fill 1000 codes of FSQ"),
        (lambda: fitted(FSQ((3, 3), steps=9, rate=1e30), torch.ones(10, 3)), "the fit of FSQ diverged"),
    ],
)
def test_what_cannot_be_fitted_is_refused(bad: object, match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        bad()
