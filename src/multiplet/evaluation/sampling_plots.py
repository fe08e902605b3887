"""Sampling plots: distributions of points and whole jets, true and sampled back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from multiplet.evaluation.sampling_scores import transformed
from multiplet.evaluation.style import QUIET, look, plain, styled
from multiplet.representation.features import Feature, Log, SymLog

FEWEST = 10  # true values in a bin with a ratio
SPIKE = 0.25  # of all values in one bin: shares are then shown on a logarithmic scale
LABELS = {
    "pt": r"$p_T$",
    "eta": r"$\eta$",
    "phi": r"$\phi$",
    "energy": r"$E$",
    "dphi": r"$\Delta\phi$ to the jet axis",
    "deta": r"$\Delta\eta$ to the jet axis",
    "dr": r"$\Delta R$ to the jet axis",
    "pt_rel": r"$p_T / p_T^{\,\mathrm{jet}}$",
    "energy_rel": r"$E / E^{\,\mathrm{jet}}$",
    "q_over_pt": r"$q / p_T$",
    "charge": "charge",
    "d0": r"$d_0$",
    "dz": r"$d_z$",
    "d0_err": r"$\sigma(d_0)$",
    "dz_err": r"$\sigma(d_z)$",
    "pt_ratio": r"$\Sigma\, p_T$ of the jet, over its true value",
    "mass": "mass of the jet, constituents massless",
    "width": r"width of the jet, $\Sigma\, p_T\, \Delta R \,/\, \Sigma\, p_T$",
    "pt_dispersion": r"$\sqrt{\Sigma\, p_T^2} \,/\, \Sigma\, p_T$ of the jet",
}


@styled
def sampled_histogram(
    true: np.ndarray,
    sampled: Mapping[str, np.ndarray],
    control: Mapping[str, np.ndarray],
    feature: Feature,
    counted: str,
    bins: int = 41,
) -> Figure:
    """Shares of values (n,) in bins that are equal as the feature transforms them: true, a line a run, controls dashed.

    Below, the ratio to the truth, whose √N is the band. Values beyond the axis are counted in its first and last bin.
    """
    varied = bool(np.ptp(true) > 0)
    figure = Figure(figsize=(7, 5.6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1)) if varied else [figure.subplots()]
    edges = _edges([true, *sampled.values()], feature, bins)
    shown = feature.transform.inverse(torch.from_numpy(edges)).numpy()
    counts = _counts(true, feature, edges)
    share, top = counts / len(true), panels[0]
    if varied:
        top.stairs(share, shown, fill=True, color=QUIET, alpha=0.3, label="true")
        error = np.where(counts >= FEWEST, 1 / np.sqrt(np.maximum(counts, 1)), np.nan)
        panels[1].stairs(1 + error, shown, baseline=1 - error, fill=True, color=QUIET, alpha=0.3)
    else:
        top.axvline(true[0], color=QUIET, lw=1.2, label="true")
    lines = [(name, values, look(number)) for number, (name, values) in enumerate(sampled.items())]
    lines += [(name, values, {"color": QUIET, "ls": "--"}) for name, values in control.items()]
    for name, values, style in lines:
        drawn = _counts(values, feature, edges) / len(values)
        top.stairs(drawn, shown, label=plain(name), lw=1.6, **style)
        if varied:
            ratio = drawn / np.where(counts >= FEWEST, share, np.nan)
            panels[1].stairs(ratio, shown, baseline=None, lw=1.4, **style)
    if share.max() > SPIKE and varied:
        top.set_yscale("log")
    top.set(ylabel=f"share of {counted}", xlim=(shown[0], shown[-1]))
    _scale(panels[-1], feature)
    if varied:
        panels[1].set(ylabel="ratio", ylim=(0.5, 1.5))
    panels[-1].set_xlabel(_label(feature))
    figure.legend(loc="outside upper center", ncols=4)
    return figure


@styled
def rates(true: Mapping[str, float], sampled: Mapping[str, Mapping[str, float]], hidden: int) -> Figure:
    """Shares of `hidden` points that have each flag: true as bars, sampled by run as points with binomial errors."""
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(true))
    axes.bar(places, list(true.values()), 0.8, color=QUIET, alpha=0.3, label="true")
    for number, (run, each) in enumerate(sampled.items()):
        value = np.array([each[name] for name in true])
        aside = places + 0.12 * (number - (len(sampled) - 1) / 2)
        error = np.sqrt(value * (1 - value) / hidden)
        line = {"color": look(number)["color"], "marker": "osD^vP"[number % 6], "ls": "", "capsize": 3}
        axes.errorbar(aside, value, error, label=plain(run), **line)
    axes.set_xticks(places, [plain(name.removeprefix("is_").replace("_", "\n")) for name in true])
    axes.xaxis.set_minor_locator(NullLocator())
    lowest = min((share for share in true.values() if share > 0), default=1.0)
    axes.set(yscale="log", ylabel="share of hidden points", ylim=(lowest / 4, None))
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def _edges(values: list[np.ndarray], feature: Feature, bins: int) -> np.ndarray:
    """Of bins that hold the central 99.8 %, one of them centred on 0 where that is inside: many values are just 0."""
    low, high = np.quantile(transformed(np.concatenate(values), feature), [0.001, 0.999])
    edges = np.linspace(low, high, bins + 1) if low < high else np.linspace(low - 0.5, low + 0.5, bins + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    return edges - middle[np.abs(middle).argmin()] if low < 0 < high else edges


def _counts(values: np.ndarray, feature: Feature, edges: np.ndarray) -> np.ndarray:
    return np.histogram(transformed(values, feature).clip(edges[0], edges[-1]), edges)[0]


def _scale(axes: Axes, feature: Feature) -> None:
    if isinstance(feature.transform, Log):
        axes.set_xscale("log")
    elif isinstance(feature.transform, SymLog):
        scale = feature.transform.scale
        axes.set_xscale("symlog", linthresh=scale)
        powers = 10.0 ** np.arange(np.ceil(np.log10(scale)), 9)  # below the scale they would lie on top of each other
        axes.xaxis.set_major_locator(FixedLocator([*-powers[::-1], 0, *powers]))


def _label(feature: Feature) -> str:
    label = LABELS.get(feature.quantity, plain(feature.quantity))
    return f"{label} [{plain(feature.unit)}]" if feature.unit else label
