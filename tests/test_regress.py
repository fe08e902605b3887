"""Regress: errors known beforehand, labels that are missing or have no logarithm, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from multiplet.backbones.transformer import Transformer
from multiplet.cloud import Cloud
from multiplet.data.events import Events
from multiplet.draws import Draws
from multiplet.encoder import Encode
from multiplet.errors import DataError, NonFiniteError, RecipeError
from multiplet.model import Model
from multiplet.parametrisation import MuP
from multiplet.recipes.polarbert import TOKENS
from multiplet.representation.tokens import Shape
from multiplet.tasks.regress import Regress
from plane_waves import SCHEMA, write_waves

NO_DRAWS = Draws(0, 0)
SHAPE = Shape(("a",), truth=("energy", "height"))


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    folder = write_waves(tmp_path_factory.mktemp("pulses"), 64, 8)
    return Events(str(folder)).open().read("train", np.arange(64))


def model_of(task: Regress, cloud: Cloud) -> Model:
    encode = Encode(Transformer(32, 1, head_dim=8, position=None), MuP(base_width=32, base_depth=1))
    model = Model(TOKENS["pulses"], encode, task, SCHEMA)
    model.represent.fit(cloud)
    return model


def test_a_loss_is_the_squared_error_in_units_of_the_spread(cloud: Cloud) -> None:
    cloud = cloud.map(torch.Tensor.clone)
    cloud.truth["energy"][:5] = torch.nan
    model = model_of(Regress("energy", centre=4.0, spread=0.5), cloud)
    tokens = model.tokens(cloud)
    found = model.objective.predict(model.encoder, tokens)["found_energy"]
    loss = model(tokens, NO_DRAWS)["squared_error"]
    expected = ((found.log10() - cloud.truth["energy"].log10()) / 0.5).square()
    torch.testing.assert_close(loss[5:], expected[5:], rtol=1e-3, atol=1e-4)
    assert loss[:5].tolist() == [0.0] * 5
    assert model.objective.weights(tokens, NO_DRAWS)["squared_error"].tolist() == [0.0] * 5 + [1.0] * 59
    loss.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_it_learns_a_number_that_is_the_mean_of_a_feature(cloud: Cloud) -> None:
    model = model_of(Regress("energy", centre=4.0), cloud)
    tokens = model.tokens(cloud)
    optimiser, losses = torch.optim.Adam(model.parameters(), 3e-3), []
    for _ in range(60):
        loss = model(tokens, NO_DRAWS)["squared_error"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 1
    assert losses[-1] < 0.1


def test_metrics_are_errors_known_beforehand() -> None:
    true = np.geomspace(1e2, 1e6, 80)
    off = np.tile([0.1, -0.3, 0.5, 0.1], 20)
    net = Regress("energy").build(Encode(Transformer(16, 1, head_dim=8)).build(SHAPE), SHAPE)
    table = {"energy": np.append(true, np.nan), "found_energy": np.append(true * 10**off, 1.0)}
    found = net.measure(table)
    values = {name: estimate.value for name, estimate in found.metrics.items()}
    assert values == pytest.approx({
        "rms error of log10 energy": 0.3,
        "mean error of log10 energy": 0.1,
        "median |error| of log10 energy": 0.2,
        "68% of |error| of log10 energy below": 0.3,
        "share within a factor of 2": 0.75,
    })  # fmt: skip
    assert all(e.low <= e.value <= e.high for e in found.metrics.values())
    with pytest.raises(NonFiniteError, match="found_energy is not finite for 1 of 80"):
        net.measure(table | {"found_energy": np.append(np.inf, table["found_energy"][1:])})
    error, size = found.binned
    assert sum(error.counts) == 80
    assert error.outside == 0
    assert error.estimates[0] is not None
    assert error.estimates[0].value == pytest.approx(0.1)
    assert size.metric == "median |error| of log10 energy"


def test_values_that_are_no_logarithms_have_equal_bins() -> None:
    true, net = np.linspace(-5, 5, 101), Regress("height", log=False).build(
        Encode(Transformer(16, 1, head_dim=8)).build(SHAPE), SHAPE
    )  # fmt: skip
    found = net.measure({"height": true, "found_height": true + 2})
    assert found.metrics["mean error of height"].value == pytest.approx(2)
    assert sum(found.binned[0].counts) == 101
    assert "share within a factor of 2" not in found.metrics
    constant = net.measure({"height": np.ones(9), "found_height": np.zeros(9)})
    assert constant.binned == ()


def test_labels_that_are_missing_or_impossible_say_so(cloud: Cloud) -> None:
    net = Regress("energy").build(Encode(Transformer(16, 1, head_dim=8)).build(SHAPE), SHAPE)
    with pytest.raises(DataError, match="none of 2 events has a label in energy"):
        net.measure({"energy": np.full(2, np.nan), "found_energy": np.ones(2)})
    model, wrong = model_of(Regress("energy"), cloud), cloud.map(torch.Tensor.clone)
    wrong.truth["energy"][3] = 0.0
    with pytest.raises(RecipeError, match=r"energy is 0.0 in the event at place 3 .* log=False"):
        model.objective.weights(model.tokens(wrong), NO_DRAWS)
    with pytest.raises(RecipeError, match=r"Regress.label is 'enrgy'.*did you mean 'energy'"):
        model_of(Regress("enrgy"), cloud)
    with pytest.raises(RecipeError, match="spread"):
        Regress(spread=0.0)
