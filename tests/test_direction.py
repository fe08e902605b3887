"""Direction: angles against other formulas, the von Mises-Fisher density, its calibration, and that it learns."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from multiplet.backbones.transformer import Transformer
from multiplet.cloud import Cloud
from multiplet.data.events import Events
from multiplet.draws import Draws
from multiplet.encoder import Encode
from multiplet.errors import DataError, NonFiniteError, RecipeError
from multiplet.kinematics import angles, opening_angle, unit_vector
from multiplet.model import Model
from multiplet.parametrisation import MuP
from multiplet.recipes.polarbert import TOKENS
from multiplet.representation.telescope import POSITION, PULSES
from multiplet.tasks.angle_scores import angle_quantiles, measure_angles, powers
from multiplet.tasks.direction import Angular, Direction, VonMisesFisher, log_normaliser
from plane_waves import SCHEMA, plane_waves, write_waves

NO_DRAWS = Draws(0, 0)


def directions(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 2 * np.pi, count), np.arccos(rng.uniform(-1, 1, count))


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    folder = write_waves(tmp_path_factory.mktemp("pulses"), 64, 8)
    return Events(str(folder)).open().read("train", np.arange(64))


def model_of(task: Direction, cloud: Cloud) -> Model:
    represent = replace(TOKENS["pulses"], features=(*PULSES, *POSITION), event_targets=())
    encode = Encode(Transformer(32, 1, head_dim=8, position=None), MuP(base_width=32, base_depth=1), event=True)
    model = Model(represent, encode, task, SCHEMA)
    model.represent.fit(cloud)
    return model


@pytest.mark.parametrize("library", [np.asarray, torch.from_numpy])
def test_opening_angles_are_those_of_spherical_trigonometry(library: object) -> None:
    (azimuth, zenith), (other, tilt) = directions(500), directions(500, 1)
    cosine = np.sin(zenith) * np.sin(tilt) * np.cos(azimuth - other) + np.cos(zenith) * np.cos(tilt)
    given = [library(each) for each in (azimuth, zenith, other, tilt)]  # type: ignore[operator]
    a, b = unit_vector(*given[:2]), unit_vector(*given[2:])
    np.testing.assert_allclose(np.asarray(opening_angle(a, 3 * b)), np.arccos(cosine), atol=1e-12)
    np.testing.assert_allclose(np.asarray(opening_angle(a, -a)), np.pi, atol=1e-12)
    back = [np.asarray(each) for each in angles(2 * a)]
    np.testing.assert_allclose(back, [azimuth, zenith], atol=1e-12)


def test_small_angles_are_exact_in_single_precision_and_gradients_finite_at_both_ends() -> None:
    zenith = torch.tensor([1e-4, 1e-3, 0.1])
    a, up = unit_vector(torch.zeros(3), zenith), torch.tensor([[0.0, 0.0, 1.0]]).expand(3, 3)
    torch.testing.assert_close(opening_angle(a, up), zenith, rtol=1e-5, atol=0)
    v = torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, -2.0], [1.0, 0.0, 0.0]], requires_grad=True)
    opening_angle(v, up).sum().backward()
    assert v.grad is not None
    assert v.grad.isfinite().all()
    torch.testing.assert_close(v.grad[2], torch.tensor([0.0, 0.0, -1.0]))
    assert float(angles(torch.tensor([[1.0, -1e-9, 0.0]]))[0]) < 2 * math.pi


@pytest.mark.parametrize("kappa", [0.0, 1e-3, 0.3, 0.499, 0.501, 5.0, 60.0])
def test_the_density_integrates_to_one_and_its_gradient_is_coth(kappa: float) -> None:
    cosine, weights = np.polynomial.legendre.leggauss(100)
    along = torch.tensor(np.stack([np.sqrt(1 - cosine**2), 0 * cosine, cosine], -1))
    v = torch.tensor([[0.0, 0.0, kappa]], dtype=torch.float64).expand(100, 3)
    density = torch.exp(-VonMisesFisher()(v, along)).numpy()
    assert 2 * np.pi * (weights * density).sum() == pytest.approx(1, abs=1e-8)
    single = torch.tensor([0.0, 0.0, kappa], requires_grad=True)
    log_normaliser((single * single).sum()[None]).sum().backward()
    assert single.grad is not None
    expected = 1 / np.tanh(kappa) - 1 / kappa if kappa > 0.01 else kappa / 3
    assert single.grad.numpy() == pytest.approx([0, 0, expected], abs=1e-4)


def test_a_loss_at_kappa_zero_is_that_of_knowing_nothing_and_can_be_learned_from() -> None:
    n = torch.tensor([[0.6, 0.0, 0.8]])
    v = torch.zeros(1, 3, requires_grad=True)
    loss = VonMisesFisher()(v, n)
    loss.sum().backward()
    assert float(loss.detach()) == pytest.approx(math.log(4 * math.pi), abs=1e-6)
    torch.testing.assert_close(v.grad, -n)
    huge = VonMisesFisher()(torch.tensor([[0.0, 0.0, 1e4]]), torch.tensor([[0.0, 0.0, 1.0]]))
    assert float(huge) == pytest.approx(math.log(2 * math.pi / 1e4), abs=1e-2)
    far = torch.tensor([[0.0, 0.0, 3e6], [0.0, 0.0, 1e20]], requires_grad=True)
    lost = VonMisesFisher()(far, torch.tensor([[0.0, 0.0, 1.0]]).expand(2, 3))
    lost.sum().backward()
    assert float(lost[0].detach()) == pytest.approx(math.log(2 * math.pi / 3e6), abs=1e-3)
    assert lost.isfinite().all()
    assert far.grad is not None
    assert far.grad.isfinite().all()
    assert float(Angular(weight=2.0)(torch.tensor([[5.0, 0.0, 0.0]]), n)) == pytest.approx(2 * math.acos(0.6), abs=1e-6)


def drawn(kappa: float, count: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True directions about +x of the von Mises-Fisher density: w = 1 + ln(u + (1 - u) e^{-2κ})/κ (Wood 1994)."""
    rng = np.random.default_rng(seed)
    uniform, turn = rng.random(count), rng.uniform(0, 2 * np.pi, count)
    w = 1 + np.log(uniform + (1 - uniform) * np.exp(-2 * kappa)) / kappa
    across = np.sqrt(1 - w**2)
    return angles(np.stack([w, across * np.cos(turn), across * np.sin(turn)], -1))


@pytest.mark.parametrize(("kappa", "said", "right"), [(0.5, 0.5, True), (30.0, 30.0, True), (30.0, 90.0, False)])
def test_regions_hold_what_they_say_where_kappa_is_right(kappa: float, said: float, right: bool) -> None:
    azimuth, zenith = drawn(kappa)
    count = len(azimuth)
    found = {"found_azimuth": np.zeros(count), "found_zenith": np.full(count, np.pi / 2), "kappa": np.full(count, said)}
    metrics = measure_angles({"azimuth": azimuth, "zenith": zenith, **found}, "azimuth", "zenith").metrics
    for share in (0.5, 0.68, 0.9):
        inside = metrics[f"inside the {share:.0%} region"]
        assert (abs(inside.value - share) < 0.015) == right
        assert inside.low < inside.value < inside.high


def test_quantiles_are_shares_of_the_sphere_for_kappa_zero() -> None:
    assert angle_quantiles(np.array([0.0, 90.0, 180.0]), np.zeros(3)) == pytest.approx([0, 0.5, 1])
    assert angle_quantiles(np.array([0.0, 180.0]), np.full(2, 800.0)) == pytest.approx([0, 1])


def table_of(shift: np.ndarray, **more: np.ndarray) -> dict[str, np.ndarray]:
    """Events whose directions are found `shift` degrees off in zenith."""
    azimuth = np.linspace(0, 6, len(shift))
    zenith = np.full(len(shift), 0.5)
    return {"azimuth": azimuth, "zenith": zenith, "found_azimuth": azimuth, **more,
            "found_zenith": zenith + np.radians(shift)}  # fmt: skip


def test_a_direction_that_is_no_number_does_not_pass_for_a_missing_label() -> None:
    table = table_of(np.zeros(8))
    table["azimuth"][0] = np.nan  # no label
    table["found_azimuth"][0] = np.nan
    assert measure_angles(table, "azimuth", "zenith").metrics["mean angle (°)"].value == pytest.approx(0, abs=1e-6)
    table["found_zenith"][5] = np.nan
    with pytest.raises(NonFiniteError, match=r"found_zenith is not finite for 1 of 7 .* the first in row 5"):
        measure_angles(table, "azimuth", "zenith")


def test_metrics_and_bins_are_those_of_angles_known_beforehand() -> None:
    shift = np.concatenate([np.full(60, 1.0), np.full(30, 10.0), np.full(10, 60.0)])
    points = np.repeat([127, 128, 3000], (60, 30, 10))
    kind, energy = np.repeat([0, 1], (60, 40)), np.repeat([200.0, 5e4], (60, 40))
    table = table_of(shift, points=points, interaction=kind, energy=energy)
    found = measure_angles(table, "azimuth", "zenith", 127, "interaction", ("track", "cascade", "tau"))
    values = {name: round(estimate.value, 6) for name, estimate in found.metrics.items()}
    assert values == {
        "mean angle (°)": 9.6,
        "median angle (°)": 1.0,
        "68% of angles below (°)": 10.0,
        "90% of angles below (°)": pytest.approx(15.0),
        "share within 5°": 0.6,
        "mean angle (°), up to 127 points": 1.0,
        "median angle (°), up to 127 points": 1.0,
        "mean angle (°), above 127 points": 22.5,
        "median angle (°), above 127 points": 10.0,
        "mean angle (°), track": 1.0,
        "median angle (°), track": 1.0,
        "mean angle (°), cascade": 22.5,
        "median angle (°), cascade": 10.0,
    }
    by_points, by_energy = found.binned
    assert by_points.edges == tuple(2.0 ** np.arange(6, 13))
    assert by_points.counts == (60, 30, 0, 0, 0, 10)
    assert [None if e is None else round(e.value, 6) for e in by_points.estimates] == [1, 10, None, None, None, 60]
    assert sum(by_energy.counts) == 100
    assert by_energy.outside == 0


def test_events_without_a_label_are_left_out_and_none_with_one_is_an_error() -> None:
    table = table_of(np.array([2.0, 4.0, 6.0]))
    table["zenith"][1] = np.nan
    assert measure_angles(table, "azimuth", "zenith").metrics["mean angle (°)"].value == pytest.approx(4.0)
    table["zenith"][:] = np.nan
    with pytest.raises(DataError, match="none of 3 events has a label in azimuth and zenith"):
        measure_angles(table, "azimuth", "zenith")


def test_edges_hold_all_values() -> None:
    for values in (np.array([1, 64]), np.array([5, 127, 128]), np.array([1000.0]), np.array([0])):
        edges = powers(values, 2.0)
        assert edges[0] <= max(values.min(), 1) <= values.max() < edges[-1] or values.max() == 0
    assert powers(np.array([100.0, 1e6]), 10**0.5)[[0, -1]] == pytest.approx([100, 10**6.5])


@pytest.mark.parametrize("losses", [(VonMisesFisher(),), (Angular(), VonMisesFisher(0.05))])
def test_it_learns_from_labelled_events_alone(losses: tuple[Angular | VonMisesFisher, ...], cloud: Cloud) -> None:
    cloud = cloud.map(torch.Tensor.clone)
    cloud.truth["zenith"][:8] = torch.nan
    model = model_of(Direction(losses=losses), cloud)
    tokens = model.tokens(cloud)
    weights = model.objective.weights(tokens, NO_DRAWS)
    assert all(weight.tolist() == [0.0] * 8 + [1.0] * 56 for weight in weights.values())
    optimiser, mean = torch.optim.Adam(model.parameters(), 3e-3), []
    for _ in range(60):
        found = model(tokens, NO_DRAWS)
        assert list(found) == list(model.objective.names)
        loss = torch.stack([(value * weights[name]).sum() / 56 for name, value in found.items()]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        mean.append(loss.item())
    assert mean[-1] < mean[0] - 0.5
    table = {name: value.detach().numpy()[8:] for name, value in model.objective.predict(model.encoder, tokens).items()}
    table |= {name: cloud.truth[name].numpy()[8:] for name in ("azimuth", "zenith")}
    assert set(table) == {"azimuth", "zenith", "found_azimuth", "found_zenith", "kappa"}
    assert model.objective.measure(table).metrics["median angle (°)"].value < 45


def test_labels_have_no_influence_on_predictions_and_kappa_is_predicted_where_it_means_something(cloud: Cloud) -> None:
    model = model_of(Direction(losses=(Angular(),)), cloud)
    blind = replace(cloud, truth={name: torch.zeros_like(value) for name, value in cloud.truth.items()})
    first, second = (model.objective.predict(model.encoder, model.tokens(each)) for each in (cloud, blind))
    assert set(first) == {"found_azimuth", "found_zenith"}
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_what_cannot_be_built_is_refused(cloud: Cloud) -> None:
    with pytest.raises(RecipeError, match=r"Direction.zenith is 'zenit'.*did you mean 'zenith'"):
        model_of(Direction(zenith="zenit"), cloud)
    with pytest.raises(RecipeError, match="none twice"):
        Direction(losses=(Angular(), Angular(0.5)))
    point = replace(cloud, truth={**cloud.truth, "azimuth": cloud.points["x"]})
    model = model_of(Direction(), cloud)
    with pytest.raises(RecipeError, match="azimuth is truth of points"):
        model.objective.weights(model.tokens(point), NO_DRAWS)


def test_toys_are_labelled_by_their_own_light(tmp_path: Path) -> None:
    """Light comes from the true direction: early pulses lie on that side (specification's orientation check)."""
    columns = plane_waves(50)
    n = unit_vector(columns.values["azimuth"], columns.values["zenith"])
    for event in range(50):
        here = slice(*columns.offsets[event : event + 2])
        place = np.stack([columns.values[axis][here] for axis in "xyz"], 1).astype(float)
        time = columns.values["time"][here].astype(float)
        assert ((time - time.mean()) * ((place - place.mean(0)) @ n[event])).sum() < 0
