"""Estimate plots: directions and numbers found for events beside the true ones, and pulses with both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from multiplet.evaluation.style import INK, QUIET, look, plain, styled
from multiplet.tasks.angle_scores import FEWEST, in_bins

Pair = tuple[np.ndarray, np.ndarray]
_DIRECTIONS = ("#bd1f01", "#3f90da")  # true, found


@styled
def angle_histogram(angles: Mapping[str, np.ndarray], bins: int = 60) -> Figure:
    """Opening angles in degrees, (events,) by run, each of area 1; dotted what guessing gives, ½ sin."""
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    edges = np.linspace(0, 180, bins + 1)
    for number, (run, values) in enumerate(angles.items()):
        counts, _ = np.histogram(values, edges)
        label = f"{plain(run)}, median {np.median(values):.3g}°"
        axes.stairs(counts * bins / 180 / max(counts.sum(), 1), edges, label=label, lw=1.7, **look(number))
    fine = np.linspace(0, 180, 181)
    axes.plot(fine, np.sin(np.radians(fine)) / 2 * np.pi / 180, color=QUIET, ls=":", label="guessing, median 90°")
    axes.set(xlabel="opening angle between true and found direction [°]", ylabel="events, normalised to area 1")
    axes.set(xlim=(0, 180), ylim=(0, None))
    axes.legend()
    return figure


@styled
def coverage(quantiles: Mapping[str, np.ndarray]) -> Figure:
    """The share of events inside the region that is to hold a share of them, from quantiles (events,) by run."""
    figure = Figure(figsize=(7, 5.6), layout="constrained")
    axes = figure.subplots()
    axes.plot((0, 1), (0, 1), color=QUIET, ls=":", label="as it should be")
    share = np.linspace(0, 1, 101)
    for number, (run, values) in enumerate(quantiles.items()):
        inside = np.searchsorted(np.sort(values), share, side="right") / max(len(values), 1)
        axes.plot(share, inside, label=plain(run), **look(number))
    axes.set(xlabel="share of the predicted density", ylabel="share of events inside", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left")
    return figure


@styled
def true_and_found(true: np.ndarray, found: np.ndarray, label: str, log: bool = False, bins: int = 50) -> Figure:
    """Counts of events by true and found value, (events,) both, on axes that hold the central 99.8 % of either."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    both = np.concatenate([true, found])
    both = both[both > 0] if log else both
    low, high = np.quantile(both, [0.001, 0.999])
    low, high = (low, high) if low < high else (low * 0.99 - (not log), high * 1.01 + (not log))
    edges = np.geomspace(low, high, bins + 1) if log else np.linspace(low, high, bins + 1)
    counts, _, _ = np.histogram2d(true, found, (edges, edges))
    shown = np.ma.masked_equal(counts.T, 0)
    image = axes.pcolormesh(edges, edges, shown, cmap="viridis", norm=LogNorm(1, max(counts.max(), 2)), rasterized=True)
    axes.plot((low, high), (low, high), color=INK, ls=":", lw=1.2)
    scale = "log" if log else "linear"
    axes.set(xscale=scale, yscale=scale, xlabel=f"true {plain(label)}", ylabel=f"found {plain(label)}")
    figure.colorbar(image, ax=axes, label="events", fraction=0.046, pad=0.03)
    return figure


@styled
def error_bands(errors: Mapping[str, Pair], edges: np.ndarray, label: str, error: str) -> Figure:
    """An error against a quantity, by run (quantity, error), (events,) both: median, and a band of the central 68 %."""
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    for number, (run, (place, values)) in enumerate(errors.items()):
        held = in_bins(values, place, edges)
        shares = [np.quantile(each, [0.16, 0.5, 0.84]) if len(each) >= FEWEST else [np.nan] * 3 for each in held]
        low, middle, high = np.array(shares, float).reshape(-1, 3).T
        axes.stairs(middle, edges, baseline=None, label=plain(run), lw=1.7, **look(number))
        axes.stairs(high, edges, baseline=low, fill=True, color=look(number)["color"], alpha=0.2)
    if edges[0] > 0 and edges[-1] > 30 * edges[0]:
        axes.set_xscale("log")
    axes.set(xlabel=plain(label), ylabel=plain(error), xlim=(edges[0], edges[-1]))
    figure.legend(loc="outside upper center", ncols=3, title="median and central 68 % of events")
    return figure


@styled
def pulse_display(
    xyz: np.ndarray, time: np.ndarray, charge: np.ndarray, quiet: np.ndarray, directions: Mapping[str, np.ndarray]
) -> Figure:
    """Pulses at (n, 3) m in space: colour for time in ns, area for charge, faint where `quiet`; all (n,).

    `directions` are unit vectors (3,) to where the event came from: arrows point where it went, through its brightest
    middle.
    """
    figure = Figure(figsize=(7, 6.4), layout="constrained")
    space: Any = figure.add_subplot(projection="3d")
    loud = ~quiet if (~quiet).any() else np.ones(len(xyz), bool)
    low, high = (time[loud].min(), time[loud].max()) if len(xyz) else (0.0, 1.0)
    area = 6 + 60 * np.sqrt(charge / max(charge.max(initial=1.0), 1e-9))
    look_of = {"cmap": "rainbow_r", "vmin": low, "vmax": max(high, low + 1), "lw": 0, "depthshade": False}
    for chosen, alpha in ((~loud, 0.25), (loud, 0.9)):
        image = space.scatter(*xyz[chosen].T, s=area[chosen], c=time[chosen], alpha=alpha, rasterized=True, **look_of)
    middle, reach = np.zeros(3), 200.0
    if len(xyz):
        middle = np.average(xyz[loud], axis=0, weights=charge[loud] + 1e-9)
        reach = 0.6 * max(float(np.ptp(xyz[loud], axis=0).max()), 200.0)
    handles = []
    for colour, (name, direction) in zip(_DIRECTIONS, directions.items(), strict=False):
        start, step = middle + reach * direction, -2 * reach * direction
        space.quiver(*start, *step, color=colour, lw=1.8, arrow_length_ratio=0.08)
        handles.append(Line2D([], [], color=colour, label=f"{plain(name)} direction"))
    space.set(xlabel="x [m]", ylabel="y [m]", zlabel="z [m]")
    space.view_init(elev=15, azim=-60)
    space.tick_params(labelsize=8, pad=-1)
    for axis in (space.xaxis, space.yaxis, space.zaxis):
        axis.set_major_locator(MaxNLocator(4))
        axis.set_minor_locator(NullLocator())
    figure.colorbar(image, ax=space, label="time [ns]", fraction=0.035, pad=0.08)
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure
