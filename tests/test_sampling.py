"""Hidden points drawn back: what is drawn, how far it is from the truth, and what a report says of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from matplotlib.patches import StepPatch
from scipy.stats import wasserstein_distance
from typer.testing import CliRunner

import tiny
from multiplet.backbones.transformer import Transformer
from multiplet.cli import app
from multiplet.data.arrow import write_events
from multiplet.data.batches import Batches
from multiplet.data.columns import Column, Columns
from multiplet.data.events import Events
from multiplet.draws import FIXED
from multiplet.encoder import Encode
from multiplet.errors import CorruptError, RecipeError
from multiplet.evaluation import sampling
from multiplet.evaluation.evaluate import evaluate
from multiplet.evaluation.report import write_report
from multiplet.evaluation.sampling import TRUE, Table, can_sample, exchanged, sample_back
from multiplet.evaluation.sampling_plots import sampled_histogram
from multiplet.evaluation.sampling_scores import measure, wasserstein
from multiplet.evaluation.whole_jets import has_jets, whole_jets
from multiplet.model import Model
from multiplet.objectives.decoder import CrossDecoder
from multiplet.objectives.diffusion import Diffusion
from multiplet.objectives.masked import Masked, MaskedNet
from multiplet.objectives.targets import MeanSquared
from multiplet.optim import AdamW
from multiplet.progress import Silent
from multiplet.recipe import Recipe, Train, open_run
from multiplet.representation.features import Feature, Log, SymLog, Tanh
from multiplet.representation.jets import CONSTITUENTS
from multiplet.representation.represent import Represent
from multiplet.training import train
from toys import toy_jets

FLAGS = [feature for feature in CONSTITUENTS if feature.name.startswith("is_")]
TARGETS = (
    Feature("pt", unit="GeV"),
    Feature("pt", Log(), unit="GeV"),  # the last of a quantity counts
    Feature("pt_rel", Log()),
    Feature("deta"),
    Feature("dphi"),
    Feature("d0", SymLog(0.05), unit="mm"),
    *FLAGS,
)


@pytest.fixture(scope="module")
def run(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluated after three steps of pretraining."""
    path = tmp_path_factory.mktemp("sampling") / "run"
    recipe = tiny.masked(str(toys), 3)
    train(replace(recipe, represent=replace(recipe.represent, targets=TARGETS)), path, progress=False)
    evaluate(path)
    return path


def sample(run: Path, events: int = 60) -> tuple[Model, Table]:
    opened = open_run(run)
    model = opened.model()
    return model, sample_back(model, opened.recipe.data.open(), "test", events, Silent())


def made(**columns: list[float]) -> Table:
    """A table of two events with three points each, one of each visible."""
    table = {"index": np.repeat([3, 8], 3), "rank": np.tile(np.arange(3), 2), "hidden": np.array([0, 1, 1] * 2, bool)}
    return table | {name: np.array(values, np.float32) for name, values in columns.items()}


# What is drawn


def test_the_visible_points_stay_and_the_hidden_ones_are_those_of_every_evaluation(run: Path, toys: Path) -> None:
    opened = open_run(run)
    model, objective = opened.model(), opened.model().objective
    assert isinstance(objective, MaskedNet)
    tokens = model.tokens(Events(str(toys)).open().read("test", np.arange(20)))
    drawn, hide = objective.sample(model.encoder, tokens, FIXED)
    masks = objective.draw(tokens, FIXED)
    visible = torch.zeros_like(hide).scatter(1, masks.visible, masks.visible_mask)
    assert torch.equal(hide, tokens.mask & ~visible)
    assert hide.sum(1).tolist() == [round(n / 2) for n in tokens.mask.sum(1).tolist()]
    assert torch.equal(drawn[~hide], tokens.targets["x"][~hide])
    assert bool((drawn[hide] != tokens.targets["x"][hide]).all())
    table = sample(run)[1]
    assert table["hidden"][table["index"] < 20].tolist() == hide[tokens.mask].tolist()


def test_what_was_hidden_has_no_influence_on_what_is_drawn(run: Path, toys: Path) -> None:
    model = open_run(run).model()
    tokens = model.tokens(Events(str(toys)).open().read("test", np.arange(20)))
    drawn, hide = model.objective.sample(model.encoder, tokens, FIXED)
    here = hide[..., None]
    changed = replace(
        tokens, x=torch.where(here, 3.0, tokens.x), targets={"x": torch.where(here, -2.0, tokens.targets["x"])}
    )
    again, _ = model.objective.sample(model.encoder, changed, FIXED)
    assert torch.equal(again[hide], drawn[hide])


def test_what_is_drawn_of_an_event_does_not_depend_on_the_others(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = sample(run)[1]
    monkeypatch.setattr(sampling, "_POINTS", 1)  # one event at a time
    alone = sample(run, 6)[1]
    assert alone.keys() == together.keys()
    assert np.unique(alone["index"]).tolist() == list(range(0, 60, 10))
    part = np.isin(together["index"], alone["index"])
    for name, values in together.items():
        np.testing.assert_allclose(alone[name], values[part], rtol=2e-3, atol=1e-3, err_msg=name)


def test_true_columns_are_in_the_units_of_the_file(run: Path, toys: Path) -> None:
    table = sample(run)[1]
    cloud = Events(str(toys)).open().read("test", np.arange(60))
    points = {name: values[cloud.mask].numpy().astype(float) for name, values in cloud.points.items()}
    assert (np.diff(cloud.points["px"].hypot(cloud.points["py"]).numpy()) <= 0).all()  # in the order of the tokens
    jet_pt = cloud.event["jet_pt"][table["index"]].numpy()
    expected = {"pt": np.hypot(points["px"], points["py"]), "deta": points["deta"], "d0": points["d0"]}
    expected |= {"pt_rel": expected["pt"] / jet_pt, "dphi": points["dphi"], "is_muon": points["is_muon"]}
    for name, values in expected.items():
        np.testing.assert_allclose(table[TRUE + name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    assert set(np.unique(table["sampled_is_muon"])) <= {0, 1}
    flags = [name for name in table if name.startswith("sampled_is_")]
    assert (sum(table[name] for name in flags) == 1).all()


def test_whole_jets_of_the_truth_are_those_of_the_file(run: Path, toys: Path) -> None:
    found = whole_jets(sample(run)[1], TRUE)
    cloud = Events(str(toys)).open().read("test", np.arange(60))
    for place in range(60):
        px, py, pz, deta, dphi = (
            cloud.points[name][place][cloud.mask[place]].double().numpy() for name in ("px", "py", "pz", "deta", "dphi")
        )
        pt = np.hypot(px, py)
        energy = np.sqrt(px**2 + py**2 + pz**2).sum()
        mass = math.sqrt(energy**2 - px.sum() ** 2 - py.sum() ** 2 - pz.sum() ** 2)
        assert found["mass"][place] == pytest.approx(mass, rel=1e-3)
        assert found["width"][place] == pytest.approx((pt * np.sqrt(deta**2 + dphi**2)).sum() / pt.sum(), rel=1e-4)
        assert found["pt_dispersion"][place] == pytest.approx(math.sqrt((pt**2).sum()) / pt.sum(), rel=1e-4)
    assert (found["pt_ratio"] == 1).all()


def test_jets_can_be_put_together_from_relative_momenta() -> None:
    absolute = made(true_pt=[8, 4, 2, 6, 3, 1], true_deta=[0.1] * 6, true_dphi=[0, 0.2, 0.4] * 2)
    relative = {name: values for name, values in absolute.items() if name != "true_pt"}
    assert has_jets(absolute)
    assert not has_jets(relative)
    relative |= {"true_pt_rel": absolute["true_pt"] / 20, "jet_pt": np.full(6, 20, np.float32)}
    assert has_jets(relative)
    for name, values in whole_jets(absolute, TRUE).items():
        np.testing.assert_allclose(whole_jets(relative, TRUE)[name], values, rtol=1e-6)


def test_whole_jets_of_what_was_drawn_are_made_of_nothing_else() -> None:
    drawn = {"pt": [8, 4, 2, 6, 3, 1], "deta": [0.1, 0.3, 0, 0, 0.2, 0.1], "dphi": [0, 0.2, 0.4] * 2}
    truth = {"true_pt": [9.0] * 6, "true_deta": [0.5, -0.5] * 3, "true_dphi": [0.0] * 6}
    both = made(**truth, **{f"sampled_{name}": values for name, values in drawn.items()})
    alone = whole_jets(made(**{TRUE + name: values for name, values in drawn.items()}), TRUE)
    found = whole_jets(both, "sampled_")
    for name in ("mass", "width", "pt_dispersion"):
        np.testing.assert_allclose(found[name], alone[name], rtol=1e-6)
    np.testing.assert_allclose(found["pt_ratio"], [14 / 27, 10 / 27], rtol=1e-6)


def test_flags_that_do_not_exclude_each_other_are_cut_at_one_half() -> None:
    table = made(true_a=[1, 1, 1, 0, 0, 0], true_b=[1, 0, 1, 0, 0, 0])
    table |= {"sampled_a": np.array([1, 0.6, 0.4, 0, 0.9, 0.1]), "sampled_b": np.array([1, 0.7, 0.2, 0, 0.3, -0.2])}
    found = sampling._as_flags(table, ["a", "b"])
    assert found["sampled_a"].tolist() == [1, 1, 0, 0, 1, 0]
    assert found["sampled_b"].tolist() == [1, 1, 0, 0, 0, 0]
    table["true_b"] = 1 - table["true_a"]
    found = sampling._as_flags(table, ["a", "b"])
    assert found["sampled_a"].tolist() == [1, 0, 1, 0, 1, 1]


def test_events_with_one_point_or_none_have_nothing_to_draw(run: Path, tmp_path: Path) -> None:
    jets = toy_jets(60, least=0, most=3)
    write_events(tmp_path / "test" / "00000.arrow", jets, {})
    opened = open_run(run)
    table = sample_back(opened.model(), Events(str(tmp_path)).open(), "test", 60, Silent())
    counts = np.diff(jets.offsets)
    assert set(counts) == {0, 1, 2, 3}
    assert np.bincount(table["index"], minlength=60).tolist() == counts.tolist()
    hidden = np.bincount(table["index"], table["hidden"], 60)
    assert hidden.tolist() == np.array([0, 0, 1, 2])[counts].tolist()  # 1.5 is rounded to 2
    assert all(np.isfinite(values).all() for values in table.values())
    found = measure(table, TARGETS, replicas=10)
    assert found["events"] == (counts > 1).sum()
    assert found["hidden"] == hidden.sum()
    none = {name: values[np.isin(table["index"], np.flatnonzero(counts < 2))] for name, values in table.items()}
    assert len(none["index"]) == (counts == 1).sum() > 0
    assert measure(none, TARGETS) == {}


@pytest.mark.parametrize("name", ["codes", "labels"])
def test_objectives_that_know_no_points_are_not_asked(toys: Path, name: str) -> None:
    recipe = tiny.codes(str(toys)) if name == "codes" else tiny.labels(str(toys))
    dataset = recipe.data.open()
    model = recipe.build(dataset.schema)
    assert not can_sample(model)
    if isinstance(model.objective, MaskedNet):
        cloud = dataset.read("train", np.arange(300))
        model.represent.fit(cloud)
        with pytest.raises(RecipeError, match="only Diffusion and MeanSquared"):
            model.objective.sample(model.encoder, model.tokens(cloud), FIXED)


def test_a_prediction_beyond_what_tanh_reaches_has_an_inverse() -> None:
    x = torch.tensor([-2.0, -0.5, 0.0, 1.0, 1.5])
    found = Tanh(0.3).inverse(x)
    assert found.isfinite().all()
    assert found[1:3].tolist() == pytest.approx([0.3 * math.atanh(-0.5), 0.0])
    assert found[3] == found[4] == -found[0] > 0.3 * 8


# How far it is


def test_distances_are_those_of_scipy() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=50).round(1), rng.exponential(size=70).round(1)  # with ties
    weights = rng.integers(0, 3, (4, 50)), rng.integers(0, 3, (4, 70))
    expected = [wasserstein_distance(a, b, *pair) for pair in zip(*weights, strict=True)]
    np.testing.assert_allclose(wasserstein(a, b, *weights), expected, rtol=1e-12)


def test_controls_use_every_hidden_point_once() -> None:
    table = made(true_a=[0, 1, 2, 3, 4, 5], sampled_a=[9] * 6)
    for same_rank in (True, False):
        found = exchanged(table, ["a"], same_rank)["sampled_a"]
        assert found[[0, 3]].tolist() == [0, 3]
        assert sorted(found) == [0, 1, 2, 3, 4, 5]
        assert (found != table["true_a"])[table["hidden"]].all()
    rng = np.random.default_rng(0)
    rank = np.tile(np.arange(10), 50)
    many = {"index": np.repeat(np.arange(50), 10), "rank": rank, "hidden": rng.random(500) < 0.5, "true_a": rank * 1.0}
    moved = exchanged(many, ["a"], same_rank=True)["sampled_a"] - rank
    assert (moved != 0).sum() == 10  # the last of each rank
    assert (exchanged(many, ["a"], same_rank=False)["sampled_a"] != rank).mean() > 0.3
    error = measure(many | {"sampled_a": rank + 0.5}, (Feature("a"),), replicas=5)["points"]["a"]["error"]
    assert error["same_rank"]["value"] < 0.1 < 0.17 < error["sampled"]["value"] < 0.18 < 1 < error["any_rank"]["value"]


def test_measures_of_samples_that_are_known() -> None:
    """Draws from the right distribution are at the floor, draws from another and the mean are not."""
    rng = np.random.default_rng(0)
    events, each = 300, 8
    index = np.repeat(np.arange(events), each)
    of_event = rng.choice([-2.0, 2.0], events)[index]

    def draw() -> np.ndarray:
        return np.exp(of_event + 0.6 * rng.normal(size=len(index)))

    table = {"index": index, "rank": np.tile(np.arange(each), events), "hidden": rng.random(len(index)) < 0.5}
    true = draw()
    others = {"right": draw(), "mean": np.exp(of_event), "blind": rng.permutation(true), "shifted": true * math.e}
    found = {}
    for name, sampled in others.items():
        columns = {"true_x": true, "sampled_x": np.where(table["hidden"], sampled, true)}
        features = (Feature("x"), Feature("x", Log(), unit="mm"))  # the last one counts
        found[name] = measure(table | columns, features)["points"]["x"]
    right, spread = found["right"], math.sqrt(2**2 + 0.6**2)
    assert right["unit"] == "mm"
    assert right["spread"] == pytest.approx(spread, rel=0.02)
    floor = right["floor"]["value"]  # two counts of the one sign differ by √(2/π) √(2/4 events) on average
    assert floor == pytest.approx(4 * math.sqrt(2 / math.pi * 2 / 4 / events) / spread, rel=0.25)
    assert right["floor"]["low"] < floor < right["floor"]["high"]
    distances = {name: one["distance"]["sampled"]["value"] for name, one in found.items()}
    assert distances["mean"] == pytest.approx(0.6 * math.sqrt(2 / math.pi) / spread, rel=0.1)
    assert distances["mean"] > 2 * floor > 2 * distances["right"]
    assert distances["shifted"] == pytest.approx(1 / spread, rel=0.02)
    assert distances["blind"] < 2 * floor  # one point by itself looks right
    factor = (math.e - 1) * true[table["hidden"]].mean()
    assert found["shifted"]["distance_in_unit"]["sampled"]["value"] == pytest.approx(factor, rel=1e-6)
    errors = {name: one["error"]["sampled"]["value"] for name, one in found.items()}
    assert errors["right"] == pytest.approx(0.6 * math.sqrt(2) * math.sqrt(2 / math.pi) / spread, rel=0.05)
    assert errors["blind"] == pytest.approx(right["error"]["any_rank"]["value"], rel=0.05)
    assert errors["blind"] > 3 * errors["right"]


def test_standard_errors_are_the_spread_over_experiments() -> None:
    rng = np.random.default_rng(0)
    values, errors = [], []
    for _ in range(40):
        index = np.repeat(np.arange(100), 5)
        shift = rng.normal(size=100)[index]  # points of an event move together
        columns = {"index": index, "rank": np.tile(np.arange(5), 100), "hidden": np.ones(500, bool)}
        columns |= {"true_x": rng.normal(size=500), "sampled_x": 1 + shift + rng.normal(size=500)}
        found = measure(columns, (Feature("x"),), replicas=50)["points"]["x"]["distance_in_unit"]["sampled"]
        values.append(found["value"])
        errors.append(found["high"] - found["value"])
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.3)


# A run that has learned


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs on events whose points share one sign, `shared`, and have one each of their own, `own`."""
    folder = tmp_path_factory.mktemp("signs")
    schema = (Column("shared"), Column("own", "mm"))
    rng = np.random.default_rng(0)
    for split, events in (("train", 600), ("validation", 50), ("test", 200)):
        index = np.repeat(np.arange(events), 6)
        values = {"shared": rng.choice([-1, 1], events)[index], "own": rng.choice([-1, 1], len(index))}
        values = {name: (sign + 0.15 * rng.normal(size=len(index))).astype(np.float32) for name, sign in values.items()}
        columns = Columns(schema, np.arange(events + 1) * 6, values)
        write_events(folder / "data" / split / "00000.arrow", columns, {})
    represent = Represent((Feature("shared"), Feature("own", unit="mm")))
    encode = Encode(Transformer(32, 1, head_dim=8))
    paths = {}
    for name, target in (("diffusion", Diffusion(32, 2, reference=False)), ("mean", MeanSquared())):
        objective = Masked(0.5, 0.5, CrossDecoder(1, head_dim=8), target)
        schedule = Train(300, Batches(64), validate_every=300, save_every=300)
        data, optim = Events(str(folder / "data")), AdamW(3e-3, 20)
        recipe = Recipe(data, represent, encode, objective, optim=optim, train=schedule)
        paths[name] = folder / name
        train(recipe, paths[name], name=name, progress=False)
        evaluate(paths[name])
    return paths


def points_of(run: Path) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    return json.loads((run / "metrics.json").read_text())["sampled"]["points"]


@pytest.mark.slow
def test_diffusion_gives_the_distribution_back_and_a_mean_does_not(learned: dict[str, Path]) -> None:
    drawn, mean = points_of(learned["diffusion"]), points_of(learned["mean"])
    for name in ("shared", "own"):
        assert drawn[name]["distance"]["sampled"]["value"] < 0.12
    assert mean["own"]["distance"]["sampled"]["value"] > 0.8  # between the signs, where no point is
    assert mean["own"]["distance"]["sampled"]["low"] > drawn["own"]["distance"]["sampled"]["high"]
    for found in (drawn, mean):  # the visible points tell one sign, and nothing of the other
        assert found["shared"]["error"]["sampled"]["value"] < 0.3 < 0.8 < found["shared"]["error"]["any_rank"]["value"]
    assert drawn["own"]["error"]["sampled"]["value"] > 0.8


@pytest.mark.slow
def test_runs_with_the_same_points_hidden_share_a_table(learned: dict[str, Path]) -> None:
    page = write_report(list(learned.values())).read_text()
    part = page[page.index('id="sampled-back"') : page.index('id="how-to-reproduce"')]
    assert part.count("<table>") == 2
    assert part.count("<figure>") == 2
    assert "600 points of 200 events were hidden from diffusion and mean" in part
    assert "mean gives means instead of samples" in part
    assert "do not hold what whole jets" in part


# Files and page


def test_evaluate_writes_what_was_drawn(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())["sampled"]
    table = pq.read_table(run / "sampled.parquet")
    assert metrics["hidden"] == sum(table["hidden"].to_pylist())
    assert metrics["events"] == len(set(table["index"].to_pylist())) == 60
    assert list(metrics["jets"]) == ["pt_ratio", "mass", "width", "pt_dispersion"]
    assert metrics["jets"]["pt_ratio"]["spread"] == metrics["jets"]["pt_ratio"]["floor"]["value"] == 0
    assert metrics["jets"]["mass"]["distance"].keys() == {"sampled", "same_rank", "any_rank"}
    assert metrics["points"]["d0"]["unit"] == "mm"
    assert "sampled.parquet" in (run / "SHA256SUMS").read_text()


def test_a_page_needs_nothing_but_the_folder(run: Path) -> None:
    page = write_report([run]).read_text()
    part = page[page.index('id="sampled-back"') : page.index('id="how-to-reproduce"')]
    assert part.count("<figure>") == 5 + 1 + 4  # quantities, all flags, jets
    assert "mass of the jet" in part
    assert "in the order of its event is told" in part
    assert part.count("<td>–</td>") == 2 * 10  # distances of points have no controls
    table = pq.read_table(run / "sampled.parquet").filter(pc.field("hidden"))
    sampled, true = (table[prefix + "is_photon"].to_numpy().mean() for prefix in ("sampled_", "true_"))
    assert f"is_photon {sampled:.2%} for {true:.2%}" in part
    (run / "sampled.parquet").write_bytes((whole := (run / "sampled.parquet").read_bytes())[:1000])
    with pytest.raises(CorruptError, match="evaluate the run again"):
        write_report([run])
    (run / "sampled.parquet").write_bytes(whole)


def test_none_are_drawn_where_none_are_asked_for(toys: Path, tmp_path: Path) -> None:
    train(tiny.masked(str(toys), 1), tmp_path / "run", progress=False)
    for events, there in (("7", True), ("0", False)):
        result = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), "--sample", events])
        assert result.exit_code == 0, result.output
        assert (tmp_path / "run" / "sampled.parquet").is_file() is there
        metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
        assert metrics.get("sampled", {}).get("events", 0) == int(events)
    assert 'id="sampled-back"' not in write_report([tmp_path / "run"]).read_text()


def test_histograms_count_every_value_and_none_twice() -> None:
    rng = np.random.default_rng(0)
    true = np.where(rng.random(1000) < 0.5, 0, rng.standard_t(2, 1000))
    feature = Feature("d0", SymLog(0.05), unit="mm")
    figure = sampled_histogram(true, {"a run": 2 * true}, {"a control": true}, feature, "points")
    top, ratio = figure.axes
    drawn = [patch.get_data() for patch in top.patches if isinstance(patch, StepPatch)]
    shares = [each.values for each in drawn]
    assert [share.sum() for share in shares] == pytest.approx([1, 1, 1])
    assert len(set(map(len, shares))) == 1
    np.testing.assert_array_equal(shares[0], shares[2])
    assert shares[0].argmax() == np.searchsorted(drawn[0].edges, 0) - 1
    assert drawn[0].edges[shares[0].argmax() : shares[0].argmax() + 2].sum() == pytest.approx(0)  # 0 is in the middle
    assert top.get_yscale() == "log"
    assert ratio.get_xlabel() == "$d_0$ [mm]"
    constant = sampled_histogram(np.ones(5), {"a run": np.ones(5)}, {}, Feature("pt_ratio"), "jets")
    assert len(constant.axes) == 1
