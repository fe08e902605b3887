"""Events of 0, 1, 2 and 100,000 points, in one batch or apart: finite, and the same either way."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from multiplet.cloud import Cloud
from multiplet.data.columns import Column
from multiplet.draws import Draws
from multiplet.model import Model
from multiplet.recipe import Recipe
from multiplet.recipes import direction, fm4npp, noise_tagging, polarbert, track_finding
from multiplet.spec import override
from toy_pulses import SCHEMA as PULSES
from toy_pulses import pulse_cloud

SCHEMA = (
    *(Column(name, "cm") for name in ("x", "y", "z")),
    Column("energy", "ADC"),
    Column("track_id", truth=True, dtype="int32"),
    Column("noise", truth=True, dtype="int8", classes=("signal", "noise")),
)
MANY = 100_000


def cloud(*lengths: int) -> Cloud:
    """Events of so many points; each is the same in whatever company."""
    width = max(lengths)
    made: dict[str, list[Tensor]] = {column.name: [] for column in SCHEMA}
    for points in lengths:
        rng = np.random.default_rng(points)
        r, phi = rng.uniform(31, 75, points), rng.uniform(-np.pi, np.pi, points)
        drawn = {"x": r * np.cos(phi), "y": r * np.sin(phi), "z": rng.uniform(-100, 100, points)}
        drawn |= {"energy": rng.uniform(30, 600, points), "track_id": rng.integers(0, 9, points), "noise": 0 * r}
        for column in SCHEMA:
            value = np.pad(drawn[column.name], (0, width - points)).astype(column.dtype)
            made[column.name].append(torch.from_numpy(value))
    values = {name: torch.stack(rows) for name, rows in made.items()}
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    truth = {column.name: values[column.name] for column in SCHEMA if column.truth}
    return Cloud({n: v for n, v in values.items() if n not in truth}, {}, truth, mask, torch.tensor(lengths))


def small(recipe: Recipe, **changes: str) -> Model:
    model = replace(override(recipe, changes), seed=1).build(SCHEMA)
    model.represent.fit(cloud(300, 400))
    return model.eval()


def pretraining() -> Model:
    return small(fm4npp(width=16, depth=1), **{"objective.k": "3"})


def tracks() -> Model:
    sizes = {"objective.width": "16", "objective.queries": "10", "objective.heads": "2"}
    return small(track_finding(width=16, depth=1), **sizes)


def tags() -> Model:
    return small(noise_tagging(width=16, depth=1), **{"objective.width": "16", "objective.heads": "2"})


@pytest.mark.parametrize("make", [pretraining, tracks, tags])
@torch.no_grad()
def test_empty_single_and_paired_points_are_fine_beside_others(make: Callable[[], Model]) -> None:
    model = make()
    together, draws = model.tokens(cloud(0, 1, 2, 500)), Draws(0, 0)
    losses, weights = model(together, draws), model.objective.weights(together, draws)
    for row, points in enumerate((0, 1, 2, 500)):
        alone = model.tokens(cloud(points))
        for name, value in model(alone, draws).items():
            assert value.isfinite().all()
            torch.testing.assert_close(losses[name][row], value[0], rtol=1e-4, atol=1e-5)
            assert (weights[name][row] > 0) == (points > (make is pretraining)), (
                "what has nothing to say counts nothing"
            )


@torch.no_grad()
def test_a_hundred_thousand_points_pass_the_encoder_and_become_tracks() -> None:
    model = tracks()
    found = model.objective.predict(model.encoder, model.tokens(cloud(MANY)))
    assert found["found"].shape == (1, MANY)
    assert found["score"].isfinite().all()
    assert found["found"].max() < 10


def many_pulses() -> Cloud:
    """One event of 100,000 pulses of 30 sensors."""
    parts = pulse_cloud((5000,) * (MANY // 5000))
    points = {name: value.reshape(1, MANY) for name, value in parts.points.items()}
    truth = {name: value[:1] for name, value in parts.truth.items()}
    return Cloud(points, {}, truth, parts.mask.reshape(1, MANY), parts.index[:1])


@pytest.mark.parametrize(("tokens", "slots"), [("pulses", MANY), ("subsample", 127), ("sensors", 30)])
@torch.no_grad()
def test_a_hundred_thousand_pulses_have_a_direction_and_their_whole_charge(tokens: str, slots: int) -> None:
    event = many_pulses()
    recipe = direction(width=16, depth=1, tokens=tokens, backbone="mamba")
    model = recipe.build(PULSES)
    model.represent.fit(pulse_cloud())
    made = model.tokens(event)
    assert int(made.mask.sum()) == slots
    found = model.objective.predict(model.encoder, made)
    assert all(value.isfinite().all() for value in found.values())
    charge = float(event.points["charge"].double().sum().log10())
    pretraining = polarbert(width=16, depth=1, tokens=tokens).build(PULSES)
    pretraining.represent.fit(pulse_cloud())
    assert float(pretraining.tokens(event).targets["event"]) == pytest.approx(charge - 2, abs=1e-4)  # as scaled
