"""Pointing gives probabilities, as a loop gives them, from seen pulses and the nearest sensors alone."""

import pytest
import torch

from multiplet.errors import RecipeError
from multiplet.objectives.pointing import Pointing, PointingNet
from multiplet.parametrisation import MuP

SENSORS = 12
HEIGHTS = torch.tensor([0.0, 10.0, 21.0, 33.0])  # no two neighbours are equally far
PLACES = torch.stack([torch.arange(SENSORS) // 4 * 100.0, torch.zeros(SENSORS), HEIGHTS.repeat(3)], 1)


def made(neighbours: int = 3, pulses: int = 2) -> PointingNet:
    torch.manual_seed(0)
    param = MuP(base_width=8)
    return Pointing(neighbours, pulses).build(param.width(16), param)


def event() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(2, 5, 16, generator=generator)
    ids = torch.randint(SENSORS, (2, 5), generator=generator)
    hide = torch.tensor([[True, False, True, False, False], [True, False, False, False, False]])
    seen = torch.tensor([[False, True, False, True, True], [False, False, False, False, False]])
    return torch.randn(3, SENSORS, generator=generator), points, ids, hide, seen


@torch.no_grad()
def test_it_is_the_mixture_of_a_loop() -> None:
    net, (logits, points, ids, hide, seen) = made(), event()
    found = net(logits, points, ids, hide, seen, PLACES).exp()
    torch.testing.assert_close(found.sum(1), torch.ones(3))
    for row, slot in enumerate((0, 2)):  # of the first event
        gate = float(net.gate(points[0, slot]).sigmoid())
        scores = {j: float(net.query(points[0, slot]) @ net.key(points[0, j])) / 32**0.5 for j in (1, 3, 4)}
        best = sorted(scores, key=lambda j: -scores[j])[:2]
        share = torch.tensor([scores[j] for j in best]).softmax(0)
        spread = net.spread(points[0, slot]).softmax(0)
        expected = gate * logits[row].softmax(0)
        for part, j in zip(share, best, strict=True):
            apart = (PLACES - PLACES[ids[0, j]]).norm(dim=1)
            for weight, sensor in zip(spread, apart.argsort()[:3].tolist(), strict=True):
                expected[sensor] += (1 - gate) * part * weight
        torch.testing.assert_close(found[row], expected)


@torch.no_grad()
def test_nothing_seen_leaves_the_softmax_and_hidden_ids_are_not_read() -> None:
    net, (logits, points, ids, hide, seen) = made(), event()
    found = net(logits, points, ids, hide, seen, PLACES)
    torch.testing.assert_close(found[2], logits[2].log_softmax(0))
    changed = torch.where(seen, ids, (ids + 5) % SENSORS)
    assert torch.equal(found, net(logits, points, changed, hide, seen, PLACES))
    assert not torch.equal(found, net(logits, points, (ids + 5) % SENSORS, hide, seen, PLACES))


@torch.no_grad()
def test_sensors_in_unknown_places_are_near_themselves_alone() -> None:
    places = PLACES.clone()
    places[5] = torch.nan
    near = made().near(places)
    assert near[5].tolist() == [5, 5, 5]
    assert near[:, 0].tolist() == list(range(SENSORS))
    assert not (near[torch.arange(SENSORS) != 5] == 5).any()
    assert sorted(near[0].tolist()) == [0, 1, 2]
    assert made(30).near(PLACES).shape == (SENSORS, SENSORS)


def test_gradients_are_finite_and_reach_all() -> None:
    net, (logits, points, ids, hide, seen) = made(), event()
    points.requires_grad_()
    net(logits, points, ids, hide, seen, PLACES)[torch.arange(3), ids[hide]].sum().backward()
    for tensor in (points, *net.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
    with pytest.raises(RecipeError, match="at least 1"):
        Pointing(0)
