"""Estimates: figures, displays and studies of runs that find directions and energies; what sensors' vectors know."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from multiplet.data.arrow import write_events
from multiplet.errors import DataError, RecipeError
from multiplet.evaluation.displays import displays
from multiplet.evaluation.estimate_plots import (
    angle_histogram,
    coverage,
    error_bands,
    pulse_display,
    true_and_found,
)
from multiplet.evaluation.estimates import estimates
from multiplet.evaluation.evaluate import evaluate
from multiplet.evaluation.folder import read_folders
from multiplet.evaluation.sensor_probe import linear_r2, sensor_probe
from multiplet.evaluation.study import differences, rows
from multiplet.evaluation.summary import report
from multiplet.kinematics import opening_angle, unit_vector
from multiplet.recipes.find import make_recipe
from multiplet.training import train
from plane_waves import plane_waves, write_waves

SMALL = ["width=16", "depth=1", "batch=32", "steps=2", "train.validation_events=40", "optim.warmup=1",
         "train.log_every=1", "represent.fit_events=40"]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_waves(tmp_path_factory.mktemp("data") / "waves", 60, 40)


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Trained for two steps and evaluated: pretraining, directions from there and from scratch, energies."""
    place = tmp_path_factory.mktemp("runs")
    made = {"polarbert": place / "polarbert"}
    train(make_recipe("polarbert", [f"data={data}", *SMALL]), made["polarbert"], name="polarbert", progress=False)
    for name, more in (
        ("direction", [f"run={place}/polarbert"]),
        ("direction-1", [f"run={place}/polarbert", "seed=1"]),
        ("scratch", []),
        ("scratch-1", ["seed=1"]),
        ("energy", ["encoder=frozen", f"run={place}/polarbert"]),
    ):
        recipe = make_recipe("energy" if name == "energy" else "direction", [f"data={data}", *SMALL, *more])
        made[name] = place / name
        train(recipe, made[name], name=name, progress=False)
    for path in made.values():
        evaluate(path)
    return made


@pytest.mark.slow
def test_a_report_holds_the_figures_of_both_tasks(runs: dict[str, Path], tmp_path: Path) -> None:
    text = report([runs["direction"], runs["scratch"], runs["energy"]], tmp_path / "page.html").read_text()
    for said in (
        "Opening angles between true and found direction; medians: direction",
        "Events inside the predicted regions",
        "opening angle [°] against energy [GeV]: direction, scratch",
        "True and found zenith, scratch",
        "error of log10 energy against true energy: energy",
        "True and found energy, energy",
        "median angle (°) against points in the event",
        "pulses,",
    ):
        assert said in text, said


def test_displays_are_of_events_that_were_evaluated(runs: dict[str, Path], data: Path, tmp_path: Path) -> None:
    figures = displays(runs["direction"])
    table = pq.read_table(runs["direction"] / "predictions.parquet").to_pydict()
    sizes = np.sort(table["points"])
    assert len(figures) == 2
    for title, size in zip(figures, (sizes[20], sizes[38]), strict=True):
        event = int(title.split()[2].rstrip(":"))
        both = (
            unit_vector(*(np.array(table[prefix + name][event : event + 1]) for name in ("azimuth", "zenith")))
            for prefix in ("", "found_")
        )
        angle = np.degrees(opening_angle(*both))[0]
        assert f"{size} pulses, {angle:.3g}° between" in title
        assert table["points"][event] == size
    assert displays(runs["energy"]) == {}
    assert displays(runs["polarbert"]) == {}
    copy = tmp_path / "run"
    shutil.copytree(runs["direction"], copy)
    write_events(tmp_path / "waves" / "test" / "00000.arrow", plane_waves(40, 77), {})
    text = (copy / "metrics.json").read_text()
    (copy / "metrics.json").write_text(text.replace(str(data), str(tmp_path / "waves")))
    with pytest.raises(DataError, match=r"waves has another test event \d+ than was evaluated"):
        displays(copy)


def test_a_study_says_that_lower_is_better(runs: dict[str, Path]) -> None:
    names = ("direction", "direction-1", "scratch", "scratch-1", "energy", "polarbert")
    found = rows([runs[name] for name in names])
    assert [(row.metric, row.way) for row in found] == [
        *2 * [("opening angle (°), lower is better", "fine-tuned")],
        *2 * [("opening angle (°), lower is better", "from scratch")],
        ("error of log10 energy, lower is better", "frozen"),
    ]
    table = pq.read_table(runs["energy"] / "predictions.parquet").to_pydict()
    expected = np.abs(np.log10(table["found_energy"]) - np.log10(table["energy"]))
    np.testing.assert_allclose(found[-1].values, expected, rtol=1e-6)
    (difference,) = differences(found[:4]).values()
    means = [row.mean for row in found]
    assert difference.value == pytest.approx((means[0] + means[1] - means[2] - means[3]) / 2)


def test_runs_that_were_not_evaluated_or_are_no_estimates_show_none(runs: dict[str, Path], tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(runs["direction"], bare)
    (bare / "predictions.parquet").unlink()
    assert not estimates(read_folders([bare])).count("<img")
    assert not estimates(read_folders([runs["polarbert"]]))


@pytest.mark.parametrize("events", [0, 1, 2000])
def test_figures_draw_whatever_there_is(events: int) -> None:
    rng = np.random.default_rng(0)
    angle, place = rng.uniform(0, 180, events), 10 ** rng.uniform(2, 6, events)
    if events:
        angle_histogram({"a": angle, "b": angle / 2}).canvas.draw()
        true_and_found(angle, angle[::-1], "zenith [°]").canvas.draw()
        true_and_found(place, place[::-1], "energy", log=True).canvas.draw()
    coverage({"a": angle / 180}).canvas.draw()
    figure = error_bands({"a": (place, angle)}, np.geomspace(100, 1e6, 9), "energy", "angle")
    figure.canvas.draw()
    assert figure.axes[0].get_xscale() == "log"
    xyz = rng.normal(size=(events, 3)) * 200
    directions = {"true": np.array([0, 0, 1.0]), "found": np.array([0.6, 0, 0.8])}
    shown = pulse_display(xyz, angle, place, rng.random(events) < 0.5, directions)
    shown.canvas.draw()
    assert sum(len(part.get_offsets()) for part in shown.axes[0].collections if hasattr(part, "_offsets3d")) == events


def test_a_histogram_of_guesses_follows_the_dotted_line() -> None:
    rng = np.random.default_rng(0)
    angle = np.degrees(np.arccos(rng.uniform(-1, 1, 100_000)))
    axes = angle_histogram({"guess": angle}, bins=30).axes[0]
    (stairs,), (line,) = axes.patches, axes.get_lines()
    values, edges, _ = stairs.get_data()
    expected = np.interp((edges[1:] + edges[:-1]) / 2, line.get_xdata(), line.get_ydata())
    np.testing.assert_allclose(values, expected, atol=5e-4)
    assert np.sum(values * np.diff(edges)) == pytest.approx(1)


def test_a_probe_finds_what_vectors_know_and_nothing_more() -> None:
    rng = np.random.default_rng(0)
    places, map_of = rng.normal(size=(400, 3)), rng.normal(size=(3, 32))
    known = places[:, :2] @ map_of[:2] + 0.01 * rng.normal(size=(400, 32))
    found = linear_r2(known, places)
    assert found[:2] == pytest.approx([1, 1], abs=0.01)
    assert found[2] < 0.05
    assert (linear_r2(rng.normal(size=(400, 32)), places) < 0.05).all()
    with pytest.raises(DataError, match="20 sensors were seen: a probe needs 50"):
        linear_r2(known[:20], places[:20])


def test_a_probe_reads_a_run_and_says_what_it_has_not(runs: dict[str, Path]) -> None:
    found = sensor_probe(runs["polarbert"])
    assert list(found) == ["x", "y", "z"]
    assert all(value < 0.5 for value in found.values())  # two steps teach no geometry
    with pytest.raises(RecipeError, match=r"no vectors of an id 'sensor' \(did you mean 'sensor_id'"):
        sensor_probe(runs["polarbert"], sensor="sensor")
