"""Reports of tasks on spacepoints: metrics in bins, confusion of points, displays; on straight toy tracks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from sklearn.metrics import adjusted_rand_score

from multiplet import recipes
from multiplet.data.arrow import write_events
from multiplet.data.columns import Column, Columns
from multiplet.data.formats.tpcpp import PARTICLES, POINTS, TRUTH
from multiplet.errors import DataError
from multiplet.evaluation import summary
from multiplet.evaluation.evaluate import evaluate
from multiplet.evaluation.folder import read_folders
from multiplet.evaluation.gallery import in_bins
from multiplet.evaluation.page import picture
from multiplet.evaluation.spacepoints import spacepoint_displays, views_of_classes, views_of_tracks
from multiplet.evaluation.study import differences, rows
from multiplet.evaluation.summary import report
from multiplet.evaluation.track_plots import GREY, PALETTE, Curve, View, binned_metrics, spacepoint_display
from multiplet.recipe import Recipe, Train, open_run
from multiplet.training import train

SCHEMA = (*POINTS, *TRUTH, Column("track_pt", "GeV", truth=True), Column("track_eta", truth=True))
ROWS = np.linspace(31.5, 75.0, 12)  # cm


def toy_tracks(events: int, seed: int) -> Columns:
    """Straight tracks from the origin, a point on each of twelve rows, in no order."""
    rng = np.random.default_rng(seed)
    tracks = rng.integers(1, 8, events)
    phi, eta, pt = rng.uniform(-3, 3, tracks.sum()), rng.uniform(-1, 1, tracks.sum()), rng.exponential(1, tracks.sum())
    each = np.repeat(np.arange(tracks.sum()), len(ROWS))
    order = np.lexsort((rng.random(len(each)), np.repeat(np.arange(events), tracks * len(ROWS))))
    each, r = each[order], np.tile(ROWS, tracks.sum())[order]
    values = {
        "energy": rng.exponential(200, len(r)), "x": r * np.cos(phi[each]), "y": r * np.sin(phi[each]),
        "z": r * np.sinh(eta[each]), "track_id": each, "particle": each % len(PARTICLES),
        "noise": each % 6 == 0, "track_pt": pt[each], "track_eta": eta[each],
    }  # fmt: skip
    offsets = np.concatenate([[0], np.cumsum(tracks * len(ROWS))]).astype(np.int64)
    return Columns(SCHEMA, offsets, {c.name: np.ascontiguousarray(values[c.name], c.dtype) for c in SCHEMA})


def short(recipe: Recipe) -> Recipe:
    batches = replace(recipe.train.batches, size=8)
    return replace(recipe, train=Train(2, batches, log_every=1, validate_every=2, validation_events=10, save_every=2))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two steps of track finding and of particle identification, evaluated on 30 events."""
    folder = tmp_path_factory.mktemp("spacepoints")
    for seed, (split, events) in enumerate({"train": 40, "validation": 20, "test": 30}.items()):
        write_events(folder / "data" / split / "00000.arrow", toy_tracks(events, seed), {})
    made = {}
    for name in ("track_finding", "particle_id"):
        made[name] = folder / name
        recipe = getattr(recipes, name)(data=str(folder / "data"), width=16, depth=1)
        train(short(recipe), made[name], name=name, progress=False)
        evaluate(made[name])
    return made


@pytest.fixture
def copy(runs: dict[str, Path], tmp_path: Path) -> Path:
    """The run of track finding, to be changed."""
    return Path(shutil.copytree(runs["track_finding"], tmp_path / "copy"))


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the report made last notes below the results; its page is not drawn."""
    said: list[str] = []

    def keep(paths: list[Path], out: Path | None, figures: dict[str, Figure], given: list[str]) -> Path:
        said[:] = given
        return paths[0]

    monkeypatch.setattr(summary, "write_report", keep)
    return said


def rewrite(run: Path, **columns: np.ndarray) -> dict[str, np.ndarray]:
    """Put other columns among a run's predictions."""
    table = pq.read_table(run / "predictions.parquet")
    values = {name: table[name].to_numpy() for name in table.column_names} | columns
    pq.write_table(pa.table(values), run / "predictions.parquet")
    return values


# --- what evaluation writes -------------------------------------------------------------------------------------------


def test_metrics_hold_efficiency_and_purity_in_bins(runs: dict[str, Path]) -> None:
    binned = json.loads((runs["track_finding"] / "metrics.json").read_text())["binned"]
    assert {(one["metric"], one["quantity"]) for one in binned} == {
        (metric, quantity)
        for metric in ("track efficiency", "track purity")
        for quantity in ("track_pt", "track_eta", "tracks")
    }
    for one in binned:
        assert len(one["edges"]) == len(one["counts"]) + 1
        for values in one["estimates"].values():
            assert len(values) == len(one["counts"])
    table = pq.read_table(runs["track_finding"] / "predictions.parquet")
    tracks = len(set(zip(table["index"].to_numpy(), table["track_id"].to_numpy(), strict=True)))
    efficiency = next(one for one in binned if one["metric"] == "track efficiency")
    assert sum(efficiency["counts"]) + efficiency["outside"] == tracks
    assert "binned" not in json.loads((runs["particle_id"] / "metrics.json").read_text())


# --- what the report shows --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_report_of_tracks_holds_bins_and_displays(runs: dict[str, Path], tmp_path: Path) -> None:
    page = report([runs["track_finding"], runs["particle_id"]], tmp_path / "page.html")
    text = page.read_text()
    for quantity in ("track pT [GeV]", "track η", "true tracks in the event"):
        assert f'alt="track efficiency and track purity against {quantity}: ' in text
    assert text.count('alt="test event') == 2
    assert "Confusion matrix of particle_id: " in text
    assert " points are on the diagonal" in text
    assert "Rejection of" not in text  # points are not independent
    assert page.stat().st_size < 3_000_000
    assert "points are right" in report([runs["particle_id"]], tmp_path / "other.html").read_text()


def test_labels_from_the_file_are_inert(copy: Path) -> None:
    metrics = json.loads((copy / "metrics.json").read_text())
    for one in metrics["binned"]:
        one |= {"label": r"<script>$\frac{", "counted": "<script>", "metric": r"$\nothing<b>" + one["metric"]}
    (copy / "metrics.json").write_text(json.dumps(metrics))
    text = in_bins(read_folders([copy]))
    assert "against &lt;script&gt;$\\frac{" in text
    assert "<script" not in text


@pytest.mark.parametrize("other", [True, False])
def test_events_that_are_others_by_now_leave_the_rest_of_the_page(
    other: bool, copy: Path, tmp_path: Path, notes: list[str]
) -> None:
    same = toy_tracks(30, 2)
    renamed = Columns(SCHEMA, same.offsets, {**same.values, "track_id": same.values["track_id"] + 1})
    write_events(tmp_path / "data" / "test" / "00000.arrow", toy_tracks(30, 9) if other else renamed, {})
    metrics = json.loads((copy / "metrics.json").read_text())
    (copy / "metrics.json").write_text(json.dumps({**metrics, "data": str(tmp_path / "data")}))
    with pytest.raises(DataError, match=r"data has another test event \d+ than was evaluated: evaluate again"):
        spacepoint_displays(open_run(copy))
    report([copy])
    assert "No event displays" in notes[0]


def test_displays_are_of_a_middling_and_a_large_event_in_their_places(copy: Path) -> None:
    table = rewrite(copy)
    rewrite(copy, found=table["track_id"].astype(np.int64))
    figures = spacepoint_displays(open_run(copy))
    sizes = np.bincount(table["index"])
    shown = [int(title.removeprefix("test event ").split(":")[0]) for title in figures]
    assert sizes[shown[0]] == np.sort(sizes)[15]
    assert sizes[shown[1]] == np.sort(sizes)[28]
    counts = np.diff(toy_tracks(30, 2).offsets)
    events = np.split(np.stack([toy_tracks(30, 2).values[name] for name in ("x", "y")], 1), np.cumsum(counts)[:-1])
    for event, (title, figure) in zip(shown, figures.items(), strict=True):
        tracks = sizes[event] // len(ROWS)
        assert f"{tracks} of {tracks} tracks found, 0 found that match none" in title
        truth, found = (figure.axes[n].collections[0] for n in (0, 2))
        assert np.array_equal(truth.get_facecolors(), found.get_facecolors())
        assert GREY not in {to_hex(colour) for colour in truth.get_facecolors()}
        places = {tuple(row) for row in np.round(np.asarray(truth.get_offsets()), 3).tolist()}
        azimuth = np.round(np.arctan2(*np.asarray(truth.get_offsets()).T[::-1]), 3)
        colours = [to_hex(colour) for colour in truth.get_facecolors()]
        assert len(set(zip(azimuth.tolist(), colours, strict=True))) == tracks == len(set(colours))
        assert places == {tuple(row) for row in np.round(events[event].astype(float), 3).tolist()}


# --- several runs -----------------------------------------------------------------------------------------------------


def test_differences_over_seeds_are_of_the_metric_of_an_event(
    runs: dict[str, Path], tmp_path: Path, notes: list[str]
) -> None:
    ways = {"from scratch": "Scratch", "frozen at random": "FrozenRandom"}
    means: dict[str, list[float]] = {way: [] for way in ways}
    folders = []
    for seed, (way, kind) in product((0, 1), ways.items()):
        folders.append(Path(shutil.copytree(runs["track_finding"], tmp_path / f"{kind}-{seed}")))
        record = json.loads((folders[-1] / "recipe.json").read_text())
        adapt = {"is": kind} | ({"run": "elsewhere"} if kind == "FrozenRandom" else {})
        record["recipe"] |= {"seed": seed, "adapt": adapt}
        (folders[-1] / "recipe.json").write_text(json.dumps(record))
        table = rewrite(folders[-1])
        right = np.random.default_rng(len(folders)).random(len(table["found"])) < (0.9 if kind == "Scratch" else 0.6)
        table = rewrite(folders[-1], found=np.where(right, table["track_id"], -1).astype(np.int64))
        events = [table["index"] == event for event in np.unique(table["index"])]
        each = [adjusted_rand_score(table["track_id"][event], table["found"][event]) for event in events]
        means[way].append(float(np.mean(each)))
    found = rows(folders)
    assert {row.metric for row in found} == {"adjusted Rand index of an event"}
    assert [row.mean for row in found if row.way == "from scratch"] == pytest.approx(means["from scratch"])
    (difference,) = differences(found, "from scratch", "frozen at random").values()
    expected = np.mean(means["from scratch"]) - np.mean(means["frozen at random"])
    assert difference.value == pytest.approx(expected)
    assert difference.significant
    report(folders[:3])
    assert notes == []  # one of the ways has one seed
    report(folders)
    (note,) = notes
    about = "40 labels, adjusted Rand index of an event frozen at random minus from scratch"
    assert note.startswith(f"{about}: {-expected:+.4f}")
    report([*folders, runs["track_finding"]])
    (note,) = notes
    assert note.startswith("No differences over seeds: among the from scratch runs on 40 labels two share a seed")


def test_an_event_of_tagged_points_counts_by_its_share_of_right_ones(runs: dict[str, Path]) -> None:
    (row,) = rows([runs["particle_id"]])
    table = pq.read_table(runs["particle_id"] / "predictions.parquet")
    names = [name for name in table.column_names if name.startswith("score_")]
    right = np.stack([table[name].to_numpy() for name in names], 1).argmax(1) == table["particle"].to_numpy()
    assert row.values == pytest.approx([right[table["index"].to_numpy() == event].mean() for event in range(30)])
    assert row.metric == "accuracy of particle in an event"


# --- views ------------------------------------------------------------------------------------------------------------


def test_tracks_that_match_have_one_colour_and_others_are_grey() -> None:
    true = np.repeat([5, 8, 9, -1], 6)
    found = np.concatenate([[9] * 6, [3] * 3 + [4] * 3, [-1] * 6, [7] * 6])
    angle = np.repeat([0.0, 1.0, 2.0, 3.0], 6)
    xyz = np.stack([np.cos(angle), np.sin(angle), angle], axis=1)
    (truth, guess), legend, about = views_of_tracks(xyz, true, found, np.arange(24) == 0)
    assert truth.colours == [PALETTE[0]] * 6 + [GREY] * 18
    assert guess.colours == truth.colours
    assert truth.small.tolist() == [True] + [False] * 17 + [True] * 6
    assert guess.small.tolist() == [True] + [False] * 11 + [True] * 6 + [False] * 6
    assert (truth.title, guess.title) == ("truth: 3 tracks", "found: 4 tracks")
    assert about == "1 of 3 tracks found, 1 found that match none"  # those of three points do not count
    assert GREY in legend.values()


def test_neighbours_in_azimuth_differ_in_colour() -> None:
    ids = np.repeat(np.arange(20)[::-1], 4)
    angle = np.repeat(np.linspace(-3, 3, 20), 4)
    (truth, _), _, about = views_of_tracks(np.stack([np.cos(angle), np.sin(angle), angle], 1), ids, ids, ids < 0)
    colours = truth.colours[::4]
    assert all(a != b for a, b in pairwise(colours))
    assert about.startswith("20 of 20")


def test_classes_have_their_colours_and_points_without_a_label_are_small() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    (truth, guess), legend, about = views_of_classes(np.array([0, 0, -1]), scores, ["pion", "kaon"])
    assert truth.colours == [PALETTE[0], PALETTE[0], GREY]
    assert guess.colours == [PALETTE[0], PALETTE[1], PALETTE[1]]
    assert truth.small.tolist() == [False, False, True]
    assert legend == {"pion": PALETTE[0], "kaon": PALETTE[1]}
    assert about == "50% of 2 points are right"
    assert views_of_classes(np.array([-1]), scores[:1], ["pion", "kaon"])[2] == "no point has a label"


# --- figures ----------------------------------------------------------------------------------------------------------


def test_curves_are_drawn_as_given_and_runs_stand_aside() -> None:
    edges = np.array([0.0, 1.0, 3.0, 4.0])
    value, low, high = np.array([0.5, np.nan, 1.0]), np.array([0.4, np.nan, 0.9]), np.array([0.8, np.nan, 1.0])
    curve = Curve(edges, value, low, high)
    figure = binned_metrics({"efficiency": {"a": curve, "b": curve}, "purity": {"b": curve}}, "pT [GeV]")
    assert [len(axes.containers) for axes in figure.axes] == [2, 1]
    (first, second), (alone,) = (axes.containers for axes in figure.axes)
    for container in (first, second, alone):
        line, _, (along, up) = container
        assert line.get_ydata() == pytest.approx([0.5, 1.0])
        ends = np.array([segment[:, 0] for segment in along.get_segments()])
        assert ends == pytest.approx(np.array([[0, 1], [3, 4]]))
        ends = np.array([segment[:, 1] for segment in up.get_segments()])
        assert ends == pytest.approx(np.array([[0.4, 0.8], [0.9, 1.0]]))
    assert np.all(first[0].get_xdata() < second[0].get_xdata())
    assert second[0].get_xdata() == pytest.approx(alone[0].get_xdata())
    assert to_rgba(second[0].get_color()) == to_rgba(alone[0].get_color())
    assert figure.axes[1].get_xlim() == (0, 4)


def test_a_display_of_many_points_is_bounded_and_lays_small_ones_beneath() -> None:
    rng = np.random.default_rng(0)
    xyz = rng.normal(0, 40, (3200, 3))
    view = View("truth", [PALETTE[n % 8] for n in range(3200)], np.arange(3200) % 5 == 0)
    figure = spacepoint_display(xyz, [view, view], {"pion": PALETTE[0]}, (30.0, 78.0))
    flat = figure.axes[0]
    assert [patch.get_radius() for patch in flat.patches] == [30.0, 78.0]
    sizes = flat.collections[0].get_sizes()
    assert sizes[:640].max() < sizes[640:].min()
    assert [axes.name for axes in figure.axes] == ["rectilinear", "3d"] * 2
    assert len(picture(figure, "many")) < 1_000_000
    with pytest.raises(DataError, match="1 colours for 3200 points in the view 'found'"):
        spacepoint_display(xyz, [View("found", [GREY], np.zeros(3200, bool))], {})


def test_a_display_of_nothing_draws() -> None:
    figure = spacepoint_display(np.zeros((0, 3)), [View("truth", [], np.zeros(0, bool))], {})
    assert isinstance(figure, Figure)
    assert picture(figure, "none")
