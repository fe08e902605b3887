"""Together: weighted sums of objectives on one encoder, and what they are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from multiplet.backbones.transformer import Transformer
from multiplet.cloud import Cloud
from multiplet.data.events import Events
from multiplet.draws import Draws
from multiplet.encoder import Encode
from multiplet.errors import RecipeError
from multiplet.model import Model, ObjectiveNet
from multiplet.objectives.sensors import MaskedSensors
from multiplet.parametrisation import MuP
from multiplet.recipes.polarbert import TOKENS
from multiplet.spec import from_dict, to_dict
from multiplet.tasks.classify import Classify
from multiplet.tasks.direction import Angular, Direction
from multiplet.tasks.regress import Regress
from multiplet.tasks.together import Together, parts_of
from plane_waves import SCHEMA, write_waves

DRAWS = Draws(0, 3)
PARTS = {"sensors": MaskedSensors(), "direction": Direction(losses=(Angular(),)), "energy": Regress("energy")}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    folder: Path = write_waves(tmp_path_factory.mktemp("waves"), 32, 8)
    return Events(str(folder)).open().read("train", np.arange(32))


def model_of(spec: Together, cloud: Cloud) -> Model:
    encode = Encode(Transformer(16, 1, head_dim=8), MuP(base_width=16, base_depth=1), ids=("sensor_id",), event=True)
    model = Model(TOKENS["pulses"], encode, spec, SCHEMA)
    model.represent.fit(cloud)
    return model


def test_losses_are_those_of_the_parts_times_their_weights(cloud: Cloud) -> None:
    model = model_of(Together(PARTS, {"direction": 3.0}), cloud)
    net, tokens = model.objective, model.tokens(cloud)
    assert isinstance(net, ObjectiveNet)
    losses, weights = net(model.encoder, tokens, DRAWS), net.weights(tokens, DRAWS)
    assert tuple(losses) == tuple(weights) == net.names
    assert net.names == ("sensors.sensor", "sensors.charge", "direction.angle", "energy.squared_error")
    for part, times in (("sensors", 1.0), ("direction", 3.0), ("energy", 1.0)):
        alone = net.parts[part](model.encoder, tokens, DRAWS)
        for name, value in alone.items():
            torch.testing.assert_close(losses[f"{part}.{name}"], times * value)
        for name, value in net.parts[part].weights(tokens, DRAWS).items():
            torch.testing.assert_close(weights[f"{part}.{name}"], value)
    assert net.truth == ("azimuth", "zenith", "interaction", "energy")
    assert net.references == {"sensors.sensor: all alike": pytest.approx(np.log(5160))}


def test_predictions_stand_beside_each_other_and_each_part_measures_its_own(cloud: Cloud) -> None:
    model = model_of(Together(PARTS), cloud)
    tokens = model.tokens(cloud)
    with torch.no_grad():
        found = model.objective.predict(model.encoder, tokens)
    assert {"found_azimuth", "found_energy", "sensor", "charge"} <= found.keys()
    table = {name: value.numpy() for name, value in (found | cloud.truth).items()}
    measured = model.objective.measure(table | {"points": cloud.mask.sum(1).numpy()})
    assert {"sensors: perplexity", "direction: median angle (°)", "energy: rms error of log10 energy"} <= set(
        measured.metrics
    )
    assert [one.quantity for one in measured.binned] == ["points", "energy", "energy", "energy"]


def test_parts_that_predict_the_same_columns_are_refused_when_they_are_evaluated(cloud: Cloud) -> None:
    model = model_of(Together({"a": Regress("energy"), "b": Regress("energy", log=False)}), cloud)
    with pytest.raises(RecipeError, match=r"b and another part of Together both predict \['found_energy'\]"):
        model.objective.predict(model.encoder, model.tokens(cloud))


def test_it_is_a_recipe_value() -> None:
    spec = Together({"kind": Classify("interaction"), **PARTS}, {"kind": 0.5})
    assert from_dict(Together, to_dict(spec)) == spec
    assert parts_of(spec) == tuple(spec.parts.values())
    assert parts_of(Classify()) == (Classify(),)
    with pytest.raises(RecipeError, match=r"there is no part 'sensor'.*did you mean 'sensors'"):
        Together(PARTS, {"sensor": 2.0})
    with pytest.raises(RecipeError, match="weights above 0"):
        Together(PARTS, {"energy": 0.0})
