"""Mixture: events of several folders as one dataset, and labels on one of them with none needed on the other."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from multiplet.data.arrow import write_events
from multiplet.data.columns import Column, Columns
from multiplet.data.events import SPLITS, Dataset, Events
from multiplet.data.mixture import Mixture
from multiplet.draws import Draws
from multiplet.errors import DataError, RecipeError
from multiplet.evaluation.evaluate import evaluate
from multiplet.evaluation.study import rows
from multiplet.files import read_json
from multiplet.recipe import open_run
from multiplet.recipes.find import make_recipe
from multiplet.tasks.together import Together
from multiplet.training import train
from plane_waves import MEASURED, SCHEMA, plane_waves, write_waves


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("folders")
    write_waves(place / "measured", 90, 20, labelled=False, seed=10)
    write_waves(place / "simulated", 30, 20)
    return {name: str(place / name) for name in ("measured", "simulated")}


@pytest.fixture
def mixture(folders: dict[str, str]) -> Mixture:
    return Mixture({name: Events(path) for name, path in folders.items()})


def test_every_event_of_every_folder_is_there_once_and_as_it_was(mixture: Mixture) -> None:
    data = mixture.open()
    assert isinstance(data, Dataset)
    assert [data.size(split) for split in ("train", "validation", "test")] == [120, 40, 40]
    cloud = data.read("train", np.arange(120))
    assert cloud.index.tolist() == list(range(120))
    assert cloud.mask.sum(1).tolist() == data.lengths("train").tolist()
    for number, events in enumerate(mixture.sources.values()):
        mine, alone = cloud.truth["source"] == number, events.open()
        whole = alone.read("train", np.arange(alone.size("train")))
        assert cloud.event["event_id"][mine].tolist() == whole.event["event_id"].tolist()
        width = whole.mask.shape[1]
        for name, values in whole.points.items():
            torch.testing.assert_close(cloud.points[name][mine][:, :width][whole.mask], values[whole.mask])
        for name, values in whole.truth.items():
            torch.testing.assert_close(cloud.truth[name][mine], values)
    measured = cloud.truth["source"] == 0
    assert cloud.truth["azimuth"][measured].isnan().all()
    assert (cloud.truth["interaction"][measured] == -1).all()
    source = data.schema[-1]
    assert (source.name, source.truth, source.classes) == ("source", True, ("measured", "simulated"))


def test_folders_are_spread_evenly_and_any_order_can_be_asked_for(mixture: Mixture) -> None:
    data = pickle.loads(pickle.dumps(mixture.open()))
    sources = data.read("train", np.arange(120)).truth["source"].numpy()
    for start in range(0, 120, 12):
        assert sources[start : start + 12].sum() == 3  # 30 of 120 are simulated
    picked = np.array([77, 3, 3, 119, 0])
    some = data.read("train", picked)
    for place, index in enumerate(picked):
        one = data.read("train", np.array([index]))
        assert some.event["event_id"][place] == one.event["event_id"][0]
        torch.testing.assert_close(some.points["time"][place][some.mask[place]], one.points["time"][0][one.mask[0]])
    with pytest.raises(DataError, match="120"):
        data.read("train", np.array([120]))


def test_places_say_which_file_and_the_fingerprint_follows_the_data(mixture: Mixture, folders: dict[str, str]) -> None:
    data = mixture.open()
    event = data.read("train", np.array([1]))
    name = list(folders)[int(event.truth["source"][0])]
    assert data.locate("train", 1).startswith(f"{folders[name]}/train/00000.arrow row ")
    fewer = replace(mixture, sources={**mixture.sources, "simulated": Events(folders["simulated"], 5, 10)})
    assert fewer.open().size("train") == 100
    assert fewer.skip == 5
    assert fewer.from_start().sources["simulated"] == Events(folders["simulated"], 0, 10)
    assert fewer.whole() == mixture
    assert data.fingerprint() == mixture.open().fingerprint() != fewer.open().fingerprint()


def changed(folder: Path, schema: tuple[Column, ...], labelled: bool = False) -> Events:
    """Plane waves with these columns, in this order of the usual ones."""
    columns = plane_waves(20, labelled=labelled)
    given = [columns.values[column.name] for column in columns.schema]
    values = {c.name: value.astype(c.dtype) for c, value in zip(schema, given, strict=True)}
    write_events(folder / "train" / "00000.arrow", Columns(schema, columns.offsets, values), {})
    return Events(str(folder))


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("charge", {"name": "amplitude"}, "charge is measured in measured alone"),
        ("time", {"unit": "us"}, r"time is measured of points, float32 \[ns\] in measured and .* \[us\] in other"),
        ("charge", {"truth": True}, "charge is measured of points.* and truth of points"),
        ("z", {"name": "source"}, "other has a column 'source'"),
    ],
)
def test_folders_that_do_not_go_together_are_refused(
    name: str, change: dict[str, object], fault: str, folders: dict[str, str], tmp_path: Path
) -> None:
    schema = tuple(replace(c, **change) if c.name == name else c for c in MEASURED)  # type: ignore[arg-type]
    mixture = Mixture({"measured": Events(folders["measured"]), "other": changed(tmp_path, schema)})
    with pytest.raises(DataError, match=f"cannot be mixed: .*{fault}"):
        mixture.open()


def test_truth_without_a_value_for_none_is_refused_and_identities_may_be_missing(
    folders: dict[str, str], tmp_path: Path
) -> None:
    schema = tuple(replace(c, dtype="uint8") if c.name == "interaction" else c for c in SCHEMA)
    measured = Events(folders["measured"])
    with pytest.raises(DataError, match="interaction is uint8, which has no value for no label"):
        Mixture({"measured": measured, "other": changed(tmp_path / "a", schema, labelled=True)}).open()
    nameless = tuple(replace(c, name="source_entry") if c.name == "event_id" else c for c in MEASURED)
    data = Mixture({"measured": measured, "other": changed(tmp_path / "b", nameless)}).open()
    assert data.read("train", np.arange(3)).event == {}
    with pytest.raises(RecipeError, match="two folders at least"):
        Mixture({"one": measured})


SMALL = ["width=16", "depth=1", "batch=32", "train.validation_events=40", "optim.warmup=1", "train.log_every=1",
         "represent.fit_events=40"]  # fmt: skip


def test_labels_on_one_folder_and_none_on_the_other_train_in_one_run(folders: dict[str, str], tmp_path: Path) -> None:
    given = [f"data={folders['simulated']}", f"unlabelled={folders['measured']}", "steps=2", "labels=20", *SMALL]
    recipe = make_recipe("direction", given)
    assert isinstance(recipe.objective, Together)
    model = recipe.build(recipe.data.open().schema)
    assert recipe.data.open().size("train") == 90 + 4 * 20  # labelled ones come round, to be about as many
    cloud = recipe.data.open().read("train", np.arange(170))
    model.represent.fit(cloud)
    tokens, draws = model.tokens(cloud), Draws(0, 0)
    losses, weights = model(tokens, draws), model.objective.weights(tokens, draws)
    assert set(losses) == {"sensors.sensor", "sensors.charge", "direction.angle", "direction.von_mises_fisher"}
    assert all(value.isfinite().all() for value in losses.values())
    assert int(weights["direction.angle"].sum()) == 80
    assert int(weights["sensors.charge"].sum()) == 170
    assert train(recipe, tmp_path / "run", progress=False).step == 2
    metrics = evaluate(tmp_path / "run")
    assert metrics["events"] == 40
    assert {"sensors: sensor", "direction: mean angle (°)"} <= metrics["metrics"].keys()
    assert metrics["data"] == str(recipe.data)
    opened = open_run(tmp_path / "run")
    assert opened.recipe == recipe
    row = rows([tmp_path / "run"])[0]
    assert (row.metric, row.labels, len(row.values)) == ("opening angle (°), lower is better", 20, 20)
    alone = evaluate(tmp_path / "run", data=folders["simulated"])
    assert alone["events"] == 20
    assert read_json(tmp_path / "run" / "metrics.json")["data"] == folders["simulated"]


def test_truth_of_what_is_called_unlabelled_is_not_read(folders: dict[str, str], tmp_path: Path) -> None:
    write_waves(
        tmp_path / "measured", 90, 20, labelled=True, seed=10
    )  # a simulation, or a sample with labels of others
    given = [f"data={folders['simulated']}", f"unlabelled={tmp_path / 'measured'}", "labels=20", *SMALL]
    data = make_recipe("direction", given).data.open()
    without = make_recipe("direction", [given[0], f"unlabelled={folders['measured']}", *given[2:]]).data.open()
    for split in SPLITS:
        places = np.arange(data.size(split))
        cloud, expected = data.read(split, places), without.read(split, places)
        for name, values in expected.truth.items():
            torch.testing.assert_close(cloud.truth[name], values, equal_nan=True)
        assert cloud.truth["azimuth"].isnan().tolist() == (cloud.truth["source"] == 0).tolist()
    again = pickle.loads(pickle.dumps(data))
    assert again.read("train", np.arange(170)).truth["azimuth"].isnan().sum() == 90


def test_smaller_folders_come_round_in_training_alone(folders: dict[str, str]) -> None:
    mixture = Mixture(
        {"measured": Events(folders["measured"]), "simulated": Events(folders["simulated"], 3, 20)}, even=True
    )
    data = mixture.open()
    assert [data.size(split) for split in SPLITS] == [90 + 80, 40, 40]
    cloud = data.read("train", np.arange(170))
    mine = cloud.truth["source"] == 1
    ids, count = np.unique(cloud.event["event_id"][mine].numpy(), return_counts=True)
    assert (len(ids), set(count)) == (20, {4})
    first = cloud.event["event_id"][mine][:20]
    assert len(set(first.tolist())) == 20  # all once before any comes again
    assert mine[:17].sum() == 8
    assert len(data.lengths("train")) == 170
    assert mixture.whole().open().size("train") == 90 + 30  # where it is evaluated, each is there once
    assert data.lengths("train").tolist() == cloud.mask.sum(1).tolist()
    with pytest.raises(RecipeError, match="'simulation' is none of the sources"):
        Mixture(mixture.sources, unlabelled=("simulation",))


def test_a_run_goes_on_where_its_folders_were_moved_to(folders: dict[str, str], tmp_path: Path) -> None:
    given = [f"data={folders['simulated']}", f"unlabelled={folders['measured']}", "steps=1", *SMALL]
    train(make_recipe("energy", given), tmp_path / "run", progress=False)
    (tmp_path / "moved").symlink_to(folders["measured"])
    moved = make_recipe("energy", [given[0], f"unlabelled={tmp_path / 'moved'}", *given[2:]])
    assert train(moved, tmp_path / "run", progress=False).step == 1
