"""Every shipped recipe trains and is evaluated on simulated jets; the demo goes the whole way."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from multiplet import recipes
from multiplet.evaluation.evaluate import evaluate
from multiplet.recipe import Recipe, open_run
from multiplet.recipes.find import make_recipe
from multiplet.spec import from_dict, to_dict
from multiplet.training import train
from toy_pulses import write_pulses

SMALL = ["train.validation_events=20", "optim.warmup=1", "represent.fit_events=50"]
RECIPES = {
    "maskdiff": ["steps=2", "width=64", "depth=1"],
    "jet_classes": ["steps=2", "width=64", "depth=1"],
    "fm4npp": ["steps=2", "width=32", "depth=1"],
    "track_finding": ["steps=2", "width=32", "depth=1"],
    "noise_tagging": ["steps=2", "width=32", "depth=1", "encoder=nothing"],
    "particle_id": ["steps=2", "width=32", "depth=1"],
    "polarbert": ["steps=2", "width=32", "depth=1"],
    "direction": ["steps=2", "width=32", "depth=1", "tokens=sensors", "backbone=gru"],
    "energy": ["steps=2", "width=32", "depth=1", "tokens=pulses", "backbone=mamba"],
}
SPACEPOINTS = {"fm4npp", "track_finding", "noise_tagging", "particle_id"}
PULSES = {"polarbert", "direction", "energy"}


@pytest.fixture(scope="session")
def jets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 simulated jets of all ten classes."""
    for package in ("pythia8mc", "fastjet", "numba", "awkward"):
        pytest.importorskip(package, reason="needs the extra `simulate`")
    from multiplet.simulation.blocks import simulate
    from multiplet.simulation.jets import Jets

    folder = tmp_path_factory.mktemp("jets")
    simulate(Jets(), folder, 200, seed=5, fractions=(0.5, 0.25, 0.25))
    return folder


@pytest.fixture(scope="session")
def spacepoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 simulated collisions in a time projection chamber."""
    for package in ("pythia8mc", "numba", "awkward"):
        pytest.importorskip(package, reason="needs the extra `simulate`")
    from multiplet.simulation.blocks import simulate
    from multiplet.simulation.tpc import Tpc

    folder = tmp_path_factory.mktemp("spacepoints")
    simulate(Tpc(), folder, 80, seed=5, fractions=(0.5, 0.25, 0.25))
    return folder


@pytest.fixture(scope="session")
def pulses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hand-made events of a neutrino telescope."""
    return write_pulses(tmp_path_factory.mktemp("pulses"))


def test_every_recipe_is_in_this_list_and_says_what_it_is() -> None:
    assert set(RECIPES) == set(recipes.__all__)
    for name in recipes.__all__:
        function = getattr(recipes, name)
        assert inspect.getdoc(function), name
        recipe = function()
        assert from_dict(Recipe, to_dict(recipe)) == recipe


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_two_steps_and_is_evaluated(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    detector = "spacepoints" if name in SPACEPOINTS else "pulses" if name in PULSES else "jets"
    size = {"jets": 32, "spacepoints": 8, "pulses": 16}[detector]
    data = [f"data={request.getfixturevalue(detector)}", f"train.batches.size={size}"]
    recipe = make_recipe(name, [*data, *RECIPES[name], *SMALL])
    assert train(recipe, tmp_path, progress=False).step == 2
    metrics = evaluate(tmp_path)
    assert metrics["events"] == {"jets": 50, "spacepoints": 20, "pulses": 40}[detector]
    assert all(estimate["low"] <= estimate["value"] <= estimate["high"] for estimate in metrics["metrics"].values())
    assert open_run(tmp_path).model().objective.names


@pytest.mark.slow
def test_the_demo_goes_the_whole_way_and_uses_again_what_is_there(jets: Path, tmp_path: Path) -> None:
    from multiplet.demonstration import demo

    page, table = demo(tmp_path, events=100, workers=1, labels=40, steps=3, tuning=2)
    text = page.read_text()
    assert page == tmp_path / "report.html"
    assert table.row_count > 1
    for word in ("fine-tuned", "from-scratch", "noise_without_context", "accuracy", "multiplet demo"):
        assert word in text
    before = (tmp_path / "pretrained" / "log.jsonl").read_bytes()
    demo(tmp_path, events=100, workers=1, labels=40, steps=3, tuning=2)
    after = (tmp_path / "pretrained" / "log.jsonl").read_bytes()
    assert after.startswith(before)
    assert after.count(b'"kind": "train"') == before.count(b'"kind": "train"')
