"""Plots: what is drawn equals what was given, nothing of the caller's matplotlib changes, odd input draws too."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from multiplet.errors import DataError
from multiplet.evaluation import plots
from multiplet.evaluation.study_plots import label_efficiency, side_by_side
from multiplet.evaluation.style import COLOURS, LONGEST, plain
from multiplet.metrics import rejection


def two_kinds(seed: int = 0, shift: float = 1.5, events: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    signal, background = rng.normal(shift, 1, events), rng.normal(0, 1, events)
    return 1 / (1 + np.exp(-signal)), 1 / (1 + np.exp(-background))


def jet(points: int = 12) -> dict[str, object]:
    rng = np.random.default_rng(0)
    kinds = [list(plots.KINDS)[n % 5] for n in range(points)]
    charge = np.array(
        [(-1) ** n if kind in ("charged hadron", "electron", "muon") else 0 for n, kind in enumerate(kinds)]
    )
    deta, dphi = rng.uniform(-0.5, 0.5, (2, points))
    return {"deta": deta, "dphi": dphi, "pt": rng.exponential(20, points) + 1, "kinds": kinds, "charge": charge}


def steps(values: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(len(values)) * 10.0, np.array(values)


EXAMPLES: dict[str, Callable[[], Figure]] = {
    "rejection, two runs": lambda: plots.rejection_curves({"a": two_kinds(), "b": two_kinds(1, 1.0)}, "top", "QCD"),
    "rejection, one run": lambda: plots.rejection_curves({"a": two_kinds()}, "top", "QCD", replicas=0),
    "rejection, perfect": lambda: plots.rejection_curves({"a": (np.ones(9), np.zeros(9)), "b": two_kinds()}, "t", "q"),
    "confusion": lambda: plots.confusion_matrix(np.array([[9, 1], [0, 0]]), ["QCD", "top"]),
    "confusion, many": lambda: plots.confusion_matrix(np.eye(188, dtype=int), [f"class {n}" for n in range(188)]),
    "losses": lambda: plots.loss_curves({"a": steps([3, 2, 1])}, {"a": steps([3, 1])}, {"mean": 2.0}, "noise"),
    "losses, wide": lambda: plots.loss_curves({"a": steps([300, 2, 1])}, {}, {}),
    "losses, none": lambda: plots.loss_curves({}, {}, {}),
    "labels": lambda: label_efficiency({"frozen": {100: [1, 1, 1], 1000: [1, 1]}}, "accuracy"),
    "labels, one seed": lambda: label_efficiency({"a": {1000: [1], 100: [1]}}, "accuracy"),
    "ways": lambda: side_by_side({"frozen": [0.2, 0.3], "one seed": [0.25]}, "accuracy"),
    "jet": lambda: plots.jet_display(**jet(), title="a jet"),
    "jet, plain": lambda: plots.jet_display(np.zeros(1), np.zeros(1), np.ones(1)),
    "jet, empty": lambda: plots.jet_display(np.zeros(0), np.zeros(0), np.zeros(0)),
    "scores": lambda: plots.score_histograms(dict(zip(("top", "QCD"), two_kinds(), strict=True)), "top"),
    "scores, many": lambda: plots.score_histograms({str(n): two_kinds(n)[0] for n in range(12)}, "top"),
    "scores, none": lambda: plots.score_histograms({"top": np.zeros(0), "QCD": two_kinds()[1]}, "top"),
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_figure_is_drawn_and_leaves_matplotlib_as_it_was(name: str) -> None:
    before = dict(matplotlib.rcParams)
    figure = EXAMPLES[name]()
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")
    assert figure.get_size_inches()[0] * figure.dpi == 700
    assert dict(matplotlib.rcParams) == before
    for axes in figure.axes:
        assert axes.get_xlabel() or axes.get_ylabel()


def test_pyplot_is_not_imported() -> None:
    code = "import sys, multiplet.evaluation.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ticks_point_in_on_all_sides() -> None:
    figure = EXAMPLES["losses"]()
    figure.draw_without_rendering()
    ticks = figure.axes[0].xaxis.get_major_ticks() + figure.axes[0].yaxis.get_major_ticks()
    assert all(tick.tick1line.get_visible() and tick.tick2line.get_visible() for tick in ticks)
    assert figure.axes[0].xaxis.get_minor_ticks()


def test_colours_are_told_apart_by_the_colour_blind() -> None:
    # Machado et al. (2009), deuteranopia of severity 1, on linear RGB
    deutan = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]])
    colours = np.array([[int(c[n : n + 2], 16) / 255 for n in (1, 3, 5)] for c in COLOURS[:6]])
    seen = np.clip((colours**2.2) @ deutan.T, 0, 1) ** (1 / 2.2)
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1)[np.triu_indices(6, 1)]
    assert apart.min() > 0.1


# --- rejection curves -------------------------------------------------------------------------------------------------


def test_rejection_curves_are_the_metric_with_a_ratio_below() -> None:
    runs = {"first": two_kinds(), "second": two_kinds(1, 1.0)}
    above, below = plots.rejection_curves(runs, "top", "QCD").axes
    lines = {line.get_label(): line for line in above.get_lines()}
    for run, scores in runs.items():
        efficiency, curve = lines[run].get_data()
        at_half = int(np.argmin(np.abs(efficiency - 0.5)))
        assert curve[at_half] == pytest.approx(rejection(*scores, efficiency[at_half]).value)
    ratio = next(line for line in below.get_lines() if line.get_label() == "second").get_ydata()
    assert ratio == pytest.approx(lines["second"].get_ydata() / lines["first"].get_ydata(), nan_ok=True)
    assert above.get_yscale() == "log"
    assert len(above.collections) == 2  # the bands


def test_rejection_curves_end_where_too_few_background_events_pass() -> None:
    (axes,) = plots.rejection_curves({"a": two_kinds()}, "top", "QCD").axes
    curve = axes.get_lines()[1].get_ydata()
    assert np.isnan(curve).any()
    assert np.nanmax(curve) <= 2000 / plots.FEWEST


def test_bands_hold_the_curve_and_do_not_change_from_call_to_call() -> None:
    bands = [plots._rejection_band(*two_kinds(), np.linspace(0.1, 0.9, 9), 50, 0) for _ in range(2)]
    assert np.array_equal(bands[0], bands[1], equal_nan=True)
    curve, low, high = (part[~np.isnan(part)] for part in bands[0])
    assert np.mean((low <= curve) & (curve <= high)) > 0.8
    assert np.all(high > low)


# --- the others -------------------------------------------------------------------------------------------------------


def test_confusion_matrix_shows_shares_of_the_true_class() -> None:
    figure = plots.confusion_matrix(np.array([[90, 10, 0], [1, 299, 0], [0, 0, 0]]), ["QCD", "top", "W"])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["90", "10", "0", "<1", "100", "0", "", "", ""]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["QCD", "top", "W"]
    with pytest.raises(DataError, match="2 classes has as many rows"):
        plots.confusion_matrix(np.ones((3, 3)), ["QCD", "top"])


def test_loss_curves_draw_what_was_given_and_name_the_references() -> None:
    train, validation = steps(list(np.linspace(2, 1, 200))), steps([2.1, 1.1])
    (axes,) = plots.loss_curves({"run": train}, {"run": validation}, {"a guess": 1.5}, "my_loss").axes
    raw, smooth, points, reference = axes.get_lines()
    assert np.array_equal(raw.get_data(), train)
    assert np.array_equal(points.get_data(), validation)
    assert len({to_hex(line.get_color()) for line in (raw, smooth, points)}) == 1
    inner = slice(10, -10)
    assert smooth.get_ydata()[inner] == pytest.approx(train[1][inner])  # the running mean of a straight line is itself
    assert set(reference.get_ydata()) == {1.5}
    assert [text.get_text() for text in axes.texts] == ["a guess"]
    assert axes.get_ylabel() == "my loss"
    assert axes.get_yscale() == "linear"
    assert EXAMPLES["losses, wide"]().axes[0].get_yscale() == "log"


def test_label_efficiency_draws_means_and_standard_errors() -> None:
    (axes,) = label_efficiency({"frozen": {1000: [0.8, 0.9], 100: [0.5, 0.7]}}, "accuracy").axes
    container = axes.containers[0]
    assert container[0].get_ydata() == pytest.approx([0.6, 0.85])
    bars = np.array([segment[:, 1] for segment in container[2][0].get_segments()])
    assert bars == pytest.approx(np.array([[0.5, 0.7], [0.8, 0.9]]))  # of two seeds, the error is half their distance
    assert axes.get_xscale() == "log"


def test_ways_side_by_side_are_rows_with_means_and_standard_errors() -> None:
    (axes,) = side_by_side({"tuned": [0.5, 0.7], "scratch": [0.4]}, "accuracy").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["tuned", "scratch"]
    assert [container[0].get_xdata()[0] for container in axes.containers] == pytest.approx([0.6, 0.4])
    (bar,) = axes.containers[0][2][0].get_segments()
    assert bar[:, 0] == pytest.approx([0.5, 0.7])


def test_jet_display_area_grows_with_momentum_and_negative_charges_are_hollow() -> None:
    particles = jet() | {"kinds": ["charged hadron"] * 12, "charge": np.array([1, -1] * 6)}
    (axes,) = plots.jet_display(**particles).axes
    order = np.argsort(-particles["pt"])
    sizes = np.array([marker.get_sizes()[0] for marker in axes.collections])
    assert np.polyfit(particles["pt"][order], sizes, 1, full=True)[1] == pytest.approx([0], abs=1e-6)
    places = np.array([marker.get_offsets()[0] for marker in axes.collections])
    assert places == pytest.approx(np.stack([particles["deta"], particles["dphi"]], 1)[order])
    hollow = [len(marker.get_facecolor()) == 0 for marker in axes.collections]
    assert hollow == (particles["charge"][order] < 0).tolist()
    with pytest.raises(DataError, match=r"kinds of particle \['pion'\]"):
        plots.jet_display(np.zeros(1), np.zeros(1), np.ones(1), ["pion"])


def test_titles_tell_truth_and_prediction() -> None:
    assert plots.describe("top", {"top": 0.9, "QCD": 0.1}) == "true top (p = 0.90), as predicted"
    assert plots.describe("top", {"top": 0.1, "QCD": 0.9}) == "true top (p = 0.10), predicted QCD (p = 0.90)"


def test_score_histograms_have_area_one() -> None:
    scores = dict(zip(("top", "QCD"), two_kinds(), strict=True))
    (axes,) = plots.score_histograms(scores, "top", bins=20).axes
    for patch in axes.patches:
        assert patch.get_data().values.sum() / 20 == pytest.approx(1)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["top (2,000)", "QCD (2,000)"]


def test_plain_names_show_as_they_are() -> None:
    assert plain("$x$") == r"\$x\$"
    assert plain("_hidden") == " _hidden"
    assert len(plain("a" * 100)) == LONGEST
