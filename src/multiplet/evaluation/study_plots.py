"""Plots of studies: a metric of many runs, against the number of labels or side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from multiplet.evaluation.style import QUIET, look, plain, styled


@styled
def label_efficiency(results: Mapping[str, Mapping[int, Sequence[float]]], metric: str) -> Figure:
    """A metric against the number of labels; `results` maps a way of adapting to labels → the values of its seeds.

    Markers are means with their standard error over seeds, dots the seeds themselves.
    """
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    for number, (way, values) in enumerate(results.items()):
        aside = 1.05 ** (number - (len(results) - 1) / 2)  # so that the bars do not cover each other
        labels = aside * np.array(sorted(values))
        seeds = [np.asarray(values[count], float) for count in sorted(values)]
        counts = sorted({len(each) for each in seeds})
        said = f"{counts[0]}–{counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
        line = {**look(number), "marker": "osD^vP"[number % 6], "ms": 7, "capsize": 3, "zorder": 3}
        error = [_standard_error(each) for each in seeds]
        axes.errorbar(labels, [each.mean() for each in seeds], error, label=f"{plain(way)} ({said} seeds)", **line)
        aside_of_each = np.repeat(labels, [len(each) for each in seeds])
        axes.plot(aside_of_each, np.concatenate(seeds), ".", color=line["color"], alpha=0.45, ms=5)
    axes.set(xscale="log", xlabel="labelled events", ylabel=plain(metric))
    tried = sorted({count for values in results.values() for count in values})
    axes.set_xticks(tried, [f"{count:,}" for count in tried])
    axes.xaxis.set_minor_formatter(NullFormatter())  # which has powers of ten, below a decade
    axes.legend(title="mean ± standard error", alignment="left")
    return figure


@styled
def side_by_side(results: Mapping[str, Sequence[float]], metric: str) -> Figure:
    """A metric of each way, a row each from the top down: mean and standard error over seeds, and seeds as dots."""
    figure = Figure(figsize=(7, 1.4 + 0.42 * len(results)), layout="constrained")
    axes = figure.subplots()
    for row, values in enumerate(results.values()):
        seeds = np.asarray(values, float)
        axes.plot(seeds, np.full(len(seeds), row + 0.18), ".", color=QUIET, alpha=0.6, ms=5)
        axes.errorbar(seeds.mean(), row, xerr=_standard_error(seeds), **look(0), marker="o", ms=7, capsize=3)
    axes.set_yticks(range(len(results)), [plain(way) for way in results])
    axes.set_ylim(len(results) - 0.4, -0.6)
    axes.tick_params(axis="y", which="both", length=0)
    axes.set_xlabel(f"{plain(metric)}: mean ± standard error")
    axes.grid(axis="x", alpha=0.3)
    return figure


def _standard_error(seeds: np.ndarray) -> float:
    return float(seeds.std(ddof=1) / np.sqrt(len(seeds))) if len(seeds) > 1 else 0.0
