"""PolarBERT's recipes: what is carried and what is trained, and that nothing but pulses of training gets in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from multiplet.cloud import Cloud
from multiplet.data.events import EventFiles
from multiplet.errors import RecipeError, RunError
from multiplet.evaluation.evaluate import evaluate
from multiplet.evaluation.folder import read_folders
from multiplet.files import read_json
from multiplet.objectives.pointing import Pointing
from multiplet.objectives.sensors import MaskedSensors
from multiplet.parametrisation import Standard
from multiplet.recipe import Recipe, open_run
from multiplet.recipes import polarbert
from multiplet.recipes.find import make_recipe
from multiplet.representation.represent import RepresentNet
from multiplet.training import train
from toy_pulses import write_pulses

SMALL = ["width=16", "depth=1", "batch=16", "steps=3", "optim.warmup=1", "train.validation_events=20"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pulses(tmp_path_factory.mktemp("pulses"), 48, 20, 20)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretraining of three steps."""
    out = tmp_path_factory.mktemp("runs") / "polarbert"
    train(recipe("polarbert", data), out, progress=False)
    return out


def recipe(name: str, data: Path, *more: str) -> Recipe:
    return make_recipe(name, [f"data={data}", *SMALL, *more])


def weights(run: Path) -> dict[str, Tensor]:
    return open_run(run).model().state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor], part: str) -> bool:
    names = [name for name in one if name.startswith(part)]
    assert names
    return all(torch.allclose(one[name], other[name], rtol=0, atol=0, equal_nan=True) for name in names)


@pytest.mark.parametrize(
    ("encoder", "as_carried", "trained"),
    [("tuned", True, True), ("frozen", True, False), ("random", False, False), ("scratch", False, True)],
)
def test_directions_train_the_head_and_an_encoder_that_may_be_trained(
    encoder: str, as_carried: bool, trained: bool, run: Path, data: Path, tmp_path: Path
) -> None:
    made = recipe("direction", data, f"run={run}", f"encoder={encoder}", "labels=12")
    carried, schema = weights(run), made.data.open().schema
    begin = made.build(schema)
    made.adapt.carry(begin)
    assert same(begin.state_dict(), carried, "encoder") == as_carried
    made.adapt.prepare(begin)
    assert {name.split(".")[0] for name, p in begin.named_parameters() if p.requires_grad} == {
        "objective",
        *(["encoder"] if trained else []),
    }
    train(made, tmp_path, progress=False)
    end = weights(tmp_path)
    assert same(end, begin.state_dict(), "encoder") != trained
    assert not same(end, begin.state_dict(), "objective")
    assert same(end, carried, "represent.places") == (encoder != "scratch")  # a random encoder is told the same places
    known = end["represent.places_sensor_id"].isfinite().all(1)
    assert 0 < int(known.sum()) < 5160
    assert (int(known.sum()) < 0.5 * int(carried["represent.places_sensor_id"].isfinite().all(1).sum())) == (
        encoder == "scratch"  # which knows the sensors of its 12 events
    )


def test_an_encoder_that_saw_drawn_pulses_may_read_whole_events_and_nothing_else_of_it_may_differ(
    run: Path, data: Path
) -> None:
    whole = recipe("direction", data, f"run={run}", "represent.select.training_only=true")
    model = whole.build(whole.data.open().schema)
    whole.adapt.carry(model)
    assert same(model.state_dict(), weights(run), "encoder")
    other = recipe("direction", data, f"run={run}", "represent.clip=3")
    with pytest.raises(RunError, match=r"does not fit this recipe: represent\.clip: 10\.0 → 3\.0"):
        other.adapt.carry(other.build(other.data.open().schema))


@pytest.mark.parametrize("geometry", ["true", "true pointing=true", "false"])
def test_an_encoder_goes_on_with_the_loss_it_was_pretrained_with(
    geometry: str, run: Path, data: Path, tmp_path: Path
) -> None:
    base = recipe("polarbert", data, *f"geometry={geometry}".split())
    if geometry != "true":
        train(base, run := tmp_path / "run", progress=False)
    assert recipe("direction", data, f"run={run}", f"unlabelled={data}").objective.parts["sensors"] == base.objective
    pointing = Pointing() if "pointing" in geometry else None
    assert base.objective == MaskedSensors(tied=geometry != "false", pointing=pointing)
    with pytest.raises(RecipeError, match="pointing needs to know where sensors are"):
        recipe("polarbert", data, "geometry=false", "pointing=true")


@pytest.mark.parametrize(("width", "depth"), [(64, 4), (96, 4), (256, 8)])
def test_backbones_have_as_many_parameters(width: int, depth: int) -> None:
    counts = []
    for name in ("transformer", "gru", "mamba"):
        spec, param = polarbert(width=width, depth=depth, backbone=name).encoder.backbone, Standard()
        with torch.device("meta"):
            counts.append(sum(p.numel() for p in spec.build(param.width(width), param).parameters()))
    assert max(counts) < 1.04 * min(counts)
    assert min(counts) == pytest.approx(14 * width**2 * depth, rel=0.04)


def test_evaluation_hides_what_validation_hid_every_time(run: Path, data: Path) -> None:
    logged = read_folders([run])[0].log["validation"][-1]["losses"]
    tables = []
    for _ in range(2):
        found = evaluate(run, split="validation")["metrics"]
        assert found["sensor"]["value"] == pytest.approx(logged["sensor"], rel=1e-5)
        assert found["charge, root mean square"]["value"] ** 2 == pytest.approx(logged["charge"], rel=1e-5)
        tables.append((run / "predictions.parquet").read_bytes())
    assert tables[0] == tables[1]
    assert read_json(run / "metrics.json")["split"] == "validation"


def test_long_events_pad_no_others_where_it_is_fitted(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[Cloud] = []
    whole = RepresentNet.fit

    def listen(self: RepresentNet, *samples: Cloud) -> None:
        parts.extend(samples)
        whole(self, *samples)

    monkeypatch.setattr(RepresentNet, "fit", listen)
    monkeypatch.setattr("multiplet.training._POINTS_TO_FIT", 1000)
    train(recipe("polarbert", data), tmp_path, progress=False)
    assert sorted(torch.cat([part.index for part in parts]).tolist()) == list(range(48))
    assert all(part.mask.numel() <= 1000 for part in parts)
    assert 4 < len(parts) < 48
    assert same(weights(run), weights(tmp_path), "")


def altering(monkeypatch: pytest.MonkeyPatch, change: Callable[[str, Cloud], Cloud]) -> None:
    whole = EventFiles.read

    def read(self: EventFiles, split: str, indices: np.ndarray) -> Cloud:
        return change(split, whole(self, split, indices))

    monkeypatch.setattr(EventFiles, "read", read)


def test_no_label_reaches_a_pretraining(run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    altering(monkeypatch, lambda split, c: replace(c, truth={n: torch.zeros_like(v) for n, v in c.truth.items()}))
    train(recipe("polarbert", data), tmp_path, progress=False)
    assert same(weights(run), weights(tmp_path), "")


@pytest.mark.parametrize("name", ["polarbert", "direction"])
def test_no_event_of_another_split_or_place_reaches_a_training(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither pulses nor labels of validation and test; nor a training event before or after those that are asked for.

    What is fitted is among what is compared.
    """
    made = recipe(name, data, *(["labels=16", "skip=8"] if name == "direction" else []))
    train(made, tmp_path / "plain", progress=False)

    def other(split: str, cloud: Cloud) -> Cloud:
        if split == "train":
            return cloud
        points = cloud.points | {axis: cloud.points[axis] + 50 for axis in ("x", "charge", "time")}
        return replace(cloud, points=points, truth={n: v + 1 for n, v in cloud.truth.items() if v.is_floating_point()})

    altering(monkeypatch, other)
    asked: list[np.ndarray] = []
    monkeypatch.setattr(EventFiles, "_places", listening(EventFiles._places, asked))
    train(made, tmp_path / "other", progress=False)
    assert same(weights(tmp_path / "plain"), weights(tmp_path / "other"), "")
    if name == "direction":
        assert set(np.concatenate(asked).tolist()) == set(range(8, 24))


def listening(whole: Callable, asked: list[np.ndarray]) -> Callable:
    def places(self: EventFiles, split: str, indices: np.ndarray) -> np.ndarray:
        found = whole(self, split, indices)
        asked.extend([found] if split == "train" else [])
        return found

    return places
