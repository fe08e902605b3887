"""Track plots: metrics in bins of a quantity, and an event's spacepoints by track or class, truth beside prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator, NullLocator

from multiplet.errors import DataError
from multiplet.evaluation.style import COLOURS, QUIET, look, plain, styled

PALETTE = tuple(colour for colour in COLOURS if colour not in ("#94a4a2", "#717581"))  # grey is for what has no colour
GREY = "#a9b0b5"


@dataclass(frozen=True)
class Curve:
    """A metric in n bins: edges (n + 1,); values and the ends of their intervals, (n,), NaN where there are none."""

    edges: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


@styled
def binned_metrics(curves: Mapping[str, Mapping[str, Curve]], label: str) -> Figure:
    """Metrics against a quantity, a panel a metric; `curves` maps metric → run → curve.

    Bars along the quantity are the bins, the others the intervals; runs stand a little aside of one another. Metrics
    between 0 and 1 are drawn as shares, and bins over more than a decade and a half on a logarithmic axis.
    """
    figure = Figure(figsize=(7, 1.4 + 2.8 * len(curves)), layout="constrained")
    panels = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    runs = list(dict.fromkeys(run for each in curves.values() for run in each))
    for axes, (metric, each) in zip(panels, curves.items(), strict=True):
        for run, curve in each.items():
            place = runs.index(run)
            _draw_curve(axes, curve, (place - (len(runs) - 1) / 2) / (2 * len(runs)), run, place)
        ends = np.concatenate([end[np.isfinite(end)] for curve in each.values() for end in (curve.low, curve.high)])
        axes.set(ylabel=plain(metric))
        if ((ends >= 0) & (ends <= 1)).all():
            axes.set(ylim=(-0.03, 1.05))
            axes.axhline(1, color=QUIET, ls=":", lw=1)
    edges = np.concatenate([curve.edges for each in curves.values() for curve in each.values()])
    if edges.min() > 0 and edges.max() > 30 * edges.min():
        panels[-1].set_xscale("log")
    panels[-1].set(xlabel=plain(label), xlim=(edges.min(), edges.max()))
    handles = [Line2D([], [], marker=_marker(n), label=plain(run), **look(n)) for n, run in enumerate(runs)]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, title="68 % bootstrap intervals over events")
    return figure


def _draw_curve(axes: Axes, curve: Curve, aside: float, run: str, number: int) -> None:
    middle, width = (curve.edges[1:] + curve.edges[:-1]) / 2, np.diff(curve.edges)
    at = middle + aside * width
    filled = np.isfinite(curve.value)
    along = np.stack([at - curve.edges[:-1], curve.edges[1:] - at])
    up = np.stack([curve.value - curve.low, curve.high - curve.value]).clip(min=0)
    axes.errorbar(
        at[filled], curve.value[filled], up[:, filled], along[:, filled],
        fmt=_marker(number), color=look(number)["color"], ms=5, lw=1.2, label=plain(run),
    )  # fmt: skip


def _marker(number: int) -> str:
    return "osD^vP"[number % 6]


@dataclass(frozen=True)
class View:
    """Points of one event seen in one way: their colours (n,), and which of them are drawn small, (n,)."""

    title: str
    colours: Sequence[str]
    small: np.ndarray


@styled
def spacepoint_display(
    xyz: np.ndarray, views: Sequence[View], legend: Mapping[str, str], radii: Sequence[float] = ()
) -> Figure:
    """Spacepoints (n, 3) in cm, a column a view: above across the beam with circles of `radii`, below in space.

    `legend` maps names to colours. Raises DataError where a view has not a colour for every point.
    """
    for view in views:
        if not len(view.colours) == len(view.small) == len(xyz):
            raise DataError(f"{len(view.colours)} colours for {len(xyz)} points in the view {view.title!r}")
    figure = Figure(figsize=(7, 7.4), layout="constrained")
    reach = 1.06 * max([*radii, float(np.abs(xyz[:, :2]).max(initial=1.0))])
    for column, view in enumerate(views):
        flat = figure.add_subplot(2, len(views), 1 + column)
        for radius in radii:
            flat.add_patch(Circle((0, 0), radius, fill=False, ec=QUIET, lw=0.7))
        _scatter(flat, xyz[:, :2], view, 7.0)
        flat.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="x [cm]", title=plain(view.title))
        flat.set_ylabel("y [cm]" if column == 0 else "")
        space: Any = figure.add_subplot(2, len(views), 1 + len(views) + column, projection="3d")
        _scatter(space, xyz[:, [2, 0, 1]], view, 5.0)  # the beam lies along the page
        space.set(xlabel="z [cm]", ylabel="x [cm]", zlabel="y [cm]")
        space.set_box_aspect((1.4, 1, 1), zoom=1.05)
        space.view_init(elev=20, azim=-60)
        space.tick_params(labelsize=8, pad=-1)
        for axis in (space.xaxis, space.yaxis, space.zaxis):
            axis.set_major_locator(MaxNLocator(3))
            axis.set_minor_locator(NullLocator())
    handles = [Line2D([], [], ls="", marker="o", ms=5, color=c, label=plain(name)) for name, c in legend.items()]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=9)
    return figure


def _scatter(axes: Any, places: np.ndarray, view: View, size: float) -> None:
    area = np.where(view.small, size / 5, size)
    order = np.argsort(~view.small, kind="stable")  # small ones lie beneath
    flat = {} if places.shape[1] == 2 else {"depthshade": False}
    axes.scatter(*places[order].T, s=area[order], c=np.asarray(view.colours)[order], lw=0, rasterized=True, **flat)
