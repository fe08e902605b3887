"""Plots: plain functions of arrays → matplotlib Figure, 700 px wide, to save or to put in a report.

Figures are made through the object-oriented interface, never pyplot: nothing of the caller's matplotlib changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from multiplet.errors import DataError
from multiplet.evaluation.style import COLOURS, INK, QUIET, look, plain, styled
from multiplet.metrics import rejections

Series = tuple[np.ndarray, np.ndarray]
FEWEST = 5  # background events that must pass for a point of a rejection curve
# Each kind of particle in a jet display: marker, colour, and the size at which the marker is as large as a circle of 1.
KINDS = {
    "charged hadron": ("o", "#3f90da", 1.0),
    "neutral hadron": ("s", "#717581", 0.79),
    "photon": ("D", "#ffa90e", 0.79),
    "electron": ("^", "#832db6", 1.57),
    "muon": ("X", "#bd1f01", 1.4),
    "particle": ("o", "#3f90da", 1.0),
}


@styled
def rejection_curves(
    scores: Mapping[str, Series], signal: str, background: str, replicas: int = 100, seed: int = 0
) -> Figure:
    """Background rejection 1/ε_B against signal efficiency ε_S, a curve a run, and their ratio to the first run's.

    `scores` maps a run to its scores of signal and of background events. Bands hold the central 68 % of bootstrap
    replicates, which resample signal and background apart; curves end where fewer than FEWEST background events pass.
    """
    figure = Figure(figsize=(7, 6.2), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1)) if len(scores) > 1 else [figure.subplots()]
    efficiency = np.linspace(0.02, 0.99, 98)
    panels[0].plot(efficiency, 1 / efficiency, color=QUIET, ls=":", lw=1.2, label="guessing")
    bands = {run: _rejection_band(*each, efficiency, replicas, seed) for run, each in scores.items()}
    first = next(iter(bands.values()))[0] if bands else efficiency
    for axes, unit in zip(panels, (np.ones_like(first), first), strict=False):
        for number, (run, (curve, low, high)) in enumerate(bands.items()):
            axes.plot(efficiency, curve / unit, label=plain(run), **look(number))
            axes.fill_between(efficiency, low / unit, high / unit, color=look(number)["color"], alpha=0.2, lw=0)
    if len(scores) > 1:
        panels[1].set(ylabel="ratio to first", ylim=_ratio_limits(panels[1]))
    panels[0].set(yscale="log", ylabel=r"background rejection $1/\varepsilon_B$", xlim=(0, 1))
    panels[0].set_title(f"{plain(signal)} (signal) against {plain(background)} (background)")
    panels[0].legend(title="68 % bootstrap bands" if replicas else None, alignment="left")
    panels[-1].set(xlabel=r"signal efficiency $\varepsilon_S$")
    return figure


@styled
def confusion_matrix(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """Shares of each true class (row) by predicted class (column) of counts (C, C), in per cent."""
    counts = np.asarray(counts)
    if counts.shape != (len(classes), len(classes)):
        raise DataError(
            f"a confusion matrix of {len(classes)} classes has as many rows and columns, not {counts.shape}"
        )
    total = counts.sum(1, keepdims=True)
    share = 100 * counts / np.where(total > 0, total, np.nan)
    figure = Figure(figsize=(7, 6.3), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    size = 12 if len(classes) <= 6 else 9
    for (row, column), value in np.ndenumerate(share if len(classes) <= 16 else np.empty((0, 0))):
        colour = "white" if value > 55 else INK
        axes.text(column, row, _percent(value), ha="center", va="center", fontsize=size, color=colour)
    names = [plain(name) for name in classes]
    shown = range(0, len(classes), 1 + len(classes) // 40)
    axes.set_xticks(shown, [names[n] for n in shown], rotation=0 if sum(map(len, names)) < 50 else 60)
    axes.set_yticks(shown, [names[n] for n in shown])
    axes.tick_params(which="both", length=0)
    axes.set(xlabel="predicted class", ylabel="true class")
    figure.colorbar(image, ax=axes, label="share of the true class [%]", fraction=0.046, pad=0.03)
    return figure


@styled
def score_histograms(scores: Mapping[str, np.ndarray], of: str, bins: int = 40, counted: str = "events") -> Figure:
    """Distributions of the score `of` in [0, 1], a line a true class, each of area 1; √N errors on up to four."""
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    edges = np.linspace(0, 1, bins + 1)
    for number, (name, values) in enumerate(scores.items()):
        counts, _ = np.histogram(values, edges)
        scale, filled = bins / max(counts.sum(), 1), counts > 0
        axes.stairs(counts * scale, edges, label=f"{plain(name)} ({len(values):,})", lw=1.6, **look(number))
        at, errors = (edges[:-1] + 0.5 / bins)[filled], np.sqrt(counts[filled]) * scale
        if len(scores) <= 4 and counted == "events":  # more would cover the lines; points are dependent
            axes.errorbar(at, counts[filled] * scale, errors, fmt="none", ecolor=look(number)["color"], elinewidth=1)
    axes.set(xlabel=f"score of {plain(of)}", ylabel=f"{counted}, normalised to area 1", yscale="log", xlim=(0, 1))
    axes.set_ylim(top=axes.get_ylim()[1] * 6)
    axes.legend(title=f"true class ({counted})", ncols=3, loc="upper center", fontsize=9.5)
    return figure


@styled
def loss_curves(
    train: Mapping[str, Series], validation: Mapping[str, Series], references: Mapping[str, float], label: str = "loss"
) -> Figure:
    """A loss against training steps, a colour a run: batches faint, their running mean, validation as points.

    Each series is (steps, losses). References are what trivial predictions would reach, drawn dashed and named.
    """
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    colours = {run: COLOURS[number % 10] for number, run in enumerate(dict.fromkeys([*train, *validation]))}
    for run, (step, loss) in train.items():
        axes.plot(step, loss, color=colours[run], alpha=0.25, lw=0.8)
        axes.plot(step, _running_mean(loss), color=colours[run], label=f"{plain(run)}, training")
    for run, (step, loss) in validation.items():
        axes.plot(step, loss, "o--", color=colours[run], mec="white", ms=7, lw=1.1, label=f"{plain(run)}, validation")
    _draw_references(axes, references)
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.get_lines()] or [np.ones(1)])
    if values.min() > 0 and values.max() > 20 * values.min():
        axes.set_yscale("log")
    axes.set(xlabel="training step", ylabel=plain(label.replace("_", " ")))
    axes.margins(x=0.02, y=0.09)
    if colours:
        figure.legend(loc="outside upper center", ncols=2)  # in the axes it would cover a reference's name
    return figure


@styled
def jet_display(
    deta: np.ndarray,
    dphi: np.ndarray,
    pt: np.ndarray,
    kinds: Sequence[str] | None = None,
    charge: np.ndarray | None = None,
    title: str = "",
    radius: float = 0.8,
) -> Figure:
    """One jet's constituents (N,) about its axis, dphi in rad; the area of a marker grows with pT [GeV].

    `kinds` are names in KINDS; negative charges are hollow. `describe` makes a title of truth and probabilities.
    """
    names = ["particle"] * len(pt) if kinds is None else [str(kind) for kind in kinds]
    signs = np.zeros(len(pt), int) if charge is None else np.sign(charge).astype(int)
    if unknown := sorted(set(names) - set(KINDS)):
        raise DataError(f"kinds of particle {unknown} are not known here; there are {list(KINDS)}")
    figure = Figure(figsize=(7, 7.2), layout="constrained")
    axes = figure.subplots()
    axes.add_patch(Circle((0, 0), radius, fill=False, ec=QUIET, ls="--", lw=1))
    axes.plot(0, 0, "+", color=QUIET, ms=10)
    for n in np.argsort(-pt):  # hard first, so that soft ones lie on top
        marker, colour, size = KINDS[names[n]]
        face = "none" if signs[n] < 0 else colour
        area = size * (6 + 1100 * pt[n] / pt.max())
        axes.scatter(deta[n], dphi[n], area, marker=marker, facecolor=face, edgecolor=colour, alpha=0.75, lw=1.3)
    reach = 1.1 * radius
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=title)
    axes.set(xlabel=r"$\Delta\eta$ to the jet axis", ylabel=r"$\Delta\phi$ to the jet axis [rad]")
    summary = f"$p_T$ = {pt.sum():,.0f} GeV\n{len(pt)} constituents\narea ∝ $p_T$"
    axes.text(0.03, 0.97, summary, transform=axes.transAxes, va="top", fontsize=10, linespacing=1.5)
    handles = _handles(sorted(set(zip(names, signs.tolist(), strict=True)), key=_place))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=10, columnspacing=1.5)
    return figure


def describe(truth: str, probabilities: Mapping[str, float]) -> str:
    """A title for one event: its true class, and the probability given to that and to the most probable class."""
    predicted = max(probabilities, key=lambda name: probabilities[name])
    right = f"true {plain(truth)} (p = {probabilities[truth]:.2f})"
    return right + (
        ", as predicted"
        if predicted == truth
        else f", predicted {plain(predicted)} (p = {probabilities[predicted]:.2f})"
    )


def _rejection_band(
    signal: np.ndarray, background: np.ndarray, efficiency: np.ndarray, replicas: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The curve and its interval, NaN where too few background events pass."""
    rng = np.random.default_rng(seed)
    curve = rejections(signal, background, efficiency)[0]
    drawn = ((rng.choice(signal, len(signal)), rng.choice(background, len(background))) for _ in range(replicas))
    replicates = [rejections(*both, efficiency)[0] for both in drawn] or [curve]
    low, high = np.quantile(replicates, [0.16, 0.84], axis=0)
    enough = curve * FEWEST <= len(background)
    return np.where(enough, curve, np.nan), np.where(enough, low, np.nan), np.where(enough, high, np.nan)


def _ratio_limits(axes: Axes) -> tuple[float, float]:
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.get_lines()] or [np.ones(1)])
    low, high = np.nanquantile(values, [0.02, 0.98]) if np.isfinite(values).any() else (1.0, 1.0)
    return max(0.0, min(0.8, low - 0.1)), max(1.2, high + 0.1)


def _percent(value: float) -> str:
    return "" if np.isnan(value) else "<1" if 0 < value < 0.5 else f"{value:.0f}"


def _running_mean(values: np.ndarray) -> np.ndarray:
    window = np.ones(min(len(values), 2 * (len(values) // 40) + 1))
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def _draw_references(axes: Axes, references: Mapping[str, float]) -> None:
    for name, value in references.items():
        axes.axhline(value, color=QUIET, ls="--", lw=1.2)
        place: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "ha": "right"}
        axes.annotate(plain(name), (0.97, value), (0, 3), color=QUIET, fontsize=10, **place)


def _place(kind: tuple[str, int]) -> tuple[int, int]:
    return list(KINDS).index(kind[0]), -kind[1]


def _handles(kinds: Sequence[tuple[str, int]]) -> list[Line2D]:
    handles = []
    for kind, sign in kinds:
        marker, colour, _ = KINDS[kind]
        face, label = "none" if sign < 0 else colour, kind + {1: " +", -1: " −"}.get(sign, "")
        handles.append(Line2D([], [], ls="", marker=marker, mec=colour, mfc=face, ms=8, label=label))
    return handles
