"""Orders that are fitted: raster scan and space-filling curves, against slow searches and their definitions."""

from __future__ import annotations

import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch

from multiplet.cloud import Cloud
from multiplet.data.columns import Column
from multiplet.errors import RecipeError
from multiplet.representation.curves import Curve, Hilbert, ZOrder
from multiplet.representation.orders import sort
from multiplet.representation.raster import Axis, RasterScan, RasterScanNet, sortable
from multiplet.representation.represent import Represent
from multiplet.representation.tpc import FEATURES, RASTER, Spacepoints

ROWS = np.concatenate(
    [31.391 + 0.5715 * np.arange(16), 41.663 + 1.0201 * np.arange(16), 58.915 + 1.0965 * np.arange(16)]
)


def chamber(events: int = 3, points: int = 400, seed: int = 0) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Points on the rows of the chamber, the last event half empty."""
    generator = np.random.default_rng(seed)
    shape = (events, points)
    quantities = {
        "r": generator.choice(ROWS, shape),
        "phi": generator.uniform(-math.pi, math.pi, shape),
        "eta": generator.normal(0, 0.8, shape).clip(-2, 2),
    }
    mask = torch.ones(shape, dtype=torch.bool)
    mask[-1, points // 2 :] = False
    return {name: torch.from_numpy(value).float() for name, value in quantities.items()}, mask


def fitted(spec: RasterScan = RASTER, **at: int) -> tuple[RasterScanNet, dict[str, torch.Tensor], torch.Tensor]:
    quantities, mask = chamber(**at)
    net = spec.build()
    net.fit(quantities, mask)
    return net, quantities, mask


def test_boxes_have_equal_populations_and_gaps_are_edges() -> None:
    net, quantities, mask = fitted(events=20, points=2000)
    radius = net.get_buffer("edges_0")
    assert len(radius) == 5
    assert radius[1] == pytest.approx((ROWS[15] + ROWS[16]) / 2, abs=1e-4)
    assert radius[3] == pytest.approx((ROWS[31] + ROWS[32]) / 2, abs=1e-4)
    for place, name in ((1, "phi"), (2, "eta")):
        share = torch.bucketize(quantities[name][mask], net.get_buffer(f"edges_{place}")).bincount(minlength=8)
        assert (share / mask.sum() - 1 / 8).abs().max() < 1e-3
    numpy_edges = np.quantile(quantities["eta"][mask].double().numpy(), np.arange(1, 8) / 8)
    np.testing.assert_allclose(net.get_buffer("edges_2").numpy(), numpy_edges, rtol=1e-6)


def test_a_box_holds_its_upper_edge_and_boxes_go_from_the_slowest_axis_to_the_fastest() -> None:
    net = RasterScan((Axis("a", 2), Axis("b", 3)), "a", ("a", "b")).build()
    net.get_buffer("edges_0").copy_(torch.tensor([0.0]))
    net.get_buffer("edges_1").copy_(torch.tensor([1.0, 2.0]))
    points = [(a, b) for a in (-1.0, 0.0, 0.5) for b in (0.5, 1.0, 1.5, 2.0, 9.0)]
    quantities = {"a": torch.tensor([[a for a, _ in points]]), "b": torch.tensor([[b for _, b in points]])}
    expected = [3 * (a > 0) + sum(b > edge for edge in (1.0, 2.0)) for a, b in points]
    assert net.boxes(quantities)[0].tolist() == expected


def test_boxes_are_those_of_the_nearest_centre() -> None:
    """Where all boxes of an axis are equally wide, a search for the nearest centre gives the same box."""
    net = RasterScan((Axis("r", 4), Axis("phi", 8), Axis("eta", 2)), "r").build()
    sides = {"r": (30.0, 78.0, 4), "phi": (-math.pi, math.pi, 8), "eta": (-2.0, 2.0, 2)}
    centres = []
    for place, (low, high, bins) in enumerate(sides.values()):
        edges = torch.linspace(low, high, bins + 1)
        net.get_buffer(f"edges_{place}").copy_(edges[1:-1])
        centres.append((edges[1:] + edges[:-1]) / 2 / ((high - low) / bins))
    quantities, _ = chamber()
    every = torch.tensor(list(product(*(c.tolist() for c in centres))))
    width = torch.tensor([(high - low) / bins for low, high, bins in sides.values()])
    points = torch.stack([quantities[name] for name in sides], dim=-1) / width
    nearest = (points[:, :, None] - every).square().sum(-1).argmin(-1)
    assert torch.equal(net.boxes(quantities), nearest)


def test_the_scan_is_the_lexicographic_order_and_does_not_depend_on_the_order_of_the_file() -> None:
    net, quantities, mask = fitted()
    quantities["phi"][0, :20], quantities["eta"][0, :20] = 0.1, torch.linspace(0.1, 0.11, 20)  # ties in box, r and phi
    quantities["r"][0, :20] = quantities["r"][0, 0]
    places = sort(net.keys(quantities), mask)
    boxes = net.boxes(quantities)
    for event, real in enumerate(mask.sum(1).tolist()):
        keys = [
            (int(boxes[event, n]), *(float(quantities[name][event, n]) for name in ("r", "phi", "eta")))
            for n in range(real)
        ]
        assert places[event, :real].tolist() == sorted(range(real), key=keys.__getitem__)
    shuffle = torch.randperm(400, generator=torch.Generator().manual_seed(1))
    moved = {name: value[:, shuffle] for name, value in quantities.items()}
    again = sort(net.keys(moved), mask[:, shuffle])
    for name in quantities:
        first, second = quantities[name].gather(1, places), moved[name].gather(1, again)
        assert torch.equal(first[mask.sort(1, descending=True).values], second[mask.sort(1, descending=True).values])


def test_floats_become_whole_numbers_in_the_same_order() -> None:
    values = torch.tensor([-torch.inf, -3e38, -1.5, -1e-40, -0.0, 0.0, 1e-40, 1.0, 1.0000001, 3e38, torch.inf])
    numbers = sortable(values).tolist()
    assert all((a < b) == (x < y) for (a, b), (x, y) in zip(pairwise(numbers), pairwise(values.tolist()), strict=True))
    assert numbers[4] == numbers[5]
    assert 0 <= min(numbers) <= max(numbers) < 2**32


def test_edges_are_kept_with_the_model_and_not_fitted_twice() -> None:
    quantities, mask = chamber()
    r, phi, eta = (quantities[name] for name in ("r", "phi", "eta"))
    points = {"x": r * phi.cos(), "y": r * phi.sin(), "z": r * eta.sinh(), "energy": torch.full_like(r, 250.0)}
    cloud = Cloud(points, {}, {}, mask, torch.arange(len(mask)))
    schema = (*(Column(name, "cm") for name in "xyz"), Column("energy", "ADC"))
    represent = Represent(FEATURES, Spacepoints(), RASTER)
    net, other = represent.build(schema), represent.build(schema)
    net.fit(cloud)
    other.load_state_dict(net.state_dict())
    assert torch.equal(net(cloud).index, other(cloud).index)
    assert not torch.equal(net(cloud).index, torch.arange(400).expand(3, -1))
    with pytest.raises(RecipeError, match="fitted already"):
        other.fit(cloud)
    tokens = net(cloud)
    places = tokens.x[tokens.mask][:, 1:]
    assert float(places.min()) > -1e-3
    assert float(places.max()) < 1.001


def test_a_group_without_points_and_bins_that_do_not_divide_are_refused() -> None:
    quantities, mask = chamber()
    with pytest.raises(
        RecipeError, match=r"gaps \(400\.0,\) leave group 1 of 2 without a point: are they in the units"
    ):
        RasterScan((Axis("r", 6, (400.0,)),), "r").build().fit(quantities, mask)
    with pytest.raises(RecipeError, match="multiple of the 3 groups"):
        Axis("r", 8, (40.0, 57.0))
    with pytest.raises(RecipeError, match="asks for 'time'"):
        RasterScan((Axis("time", 4),), "time").build().fit(quantities, mask)


@pytest.mark.parametrize("axes, bits", [(1, 5), (2, 4), (3, 3)])
@pytest.mark.parametrize("spec", [ZOrder, Hilbert])
def test_curves_visit_every_cell_once_and_hilbert_goes_from_neighbour_to_neighbour(
    spec: type[ZOrder | Hilbert], axes: int, bits: int
) -> None:
    names = tuple("abc"[:axes])
    cells = torch.tensor(list(product(range(2**bits), repeat=axes))).T
    quantities = {name: cells[n][None].float() for n, name in enumerate(names)}
    net: Curve = spec(names, bits).build()
    net.fit(quantities, torch.ones_like(quantities["a"], dtype=torch.bool))
    (key,) = net.keys(quantities)
    assert key[0].sort().values.tolist() == list(range(2 ** (bits * axes)))
    path = cells[:, key[0].argsort()]
    steps = (path[:, 1:] - path[:, :-1]).abs().sum(0)
    if spec is Hilbert:
        assert (steps == 1).all()
    else:
        bit_by_bit = [
            sum(((int(cells[a, n]) >> b) & 1) << (b * axes + axes - 1 - a) for a in range(axes) for b in range(bits))
            for n in range(cells.shape[1])
        ]
        assert key[0].tolist() == bit_by_bit


def test_a_curve_needs_axes_and_bits_that_fit_a_number() -> None:
    with pytest.raises(RecipeError, match="from 1 to 62 bits"):
        ZOrder(("a", "b", "c"), 21)
    with pytest.raises(RecipeError, match="0 axes"):
        Hilbert((), 4)
