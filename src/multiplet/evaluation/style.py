"""Style: the look that all figures share, applied while one is made and undone afterwards."""

from __future__ import annotations

from typing import Any

import matplotlib
from cycler import cycler

from multiplet.errors import printable

# Told apart by the colour-blind and in print: arXiv 2107.02270.
COLOURS = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd")
INK, QUIET = "#1a1a1a", "#62676d"
LONGEST = 40  # characters of a name in a legend

TICKS = {"direction": "in", "minor.visible": True, "major.size": 7, "minor.size": 3.5}
STYLE: dict[Any, Any] = {
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.edgecolor": INK,
    "axes.linewidth": 0.9,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.formatter.use_mathtext": True,
    "figure.figsize": (7, 5),
    "figure.dpi": 100,
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "legend.edgecolor": "none",
    "legend.fancybox": False,
    "lines.linewidth": 1.7,
    "xaxis.labellocation": "right",
    "yaxis.labellocation": "top",
    "xtick.top": True,
    "ytick.right": True,
    **{f"{axis}tick.{name}": value for axis in "xy" for name, value in TICKS.items()},
}
styled = matplotlib.rc_context(STYLE)  # a decorator: figures made inside have the style, the caller's stays as it was


def look(number: int) -> dict[str, Any]:
    """Colour and line style of the n-th line of a figure; they repeat after thirty."""
    return {"color": COLOURS[number % 10], "ls": ("-", "--", "-.")[number // 10 % 3]}


def plain(name: str) -> str:
    """A name as matplotlib is to show it: no mathematics, no hidden legend entry, not longer than a legend is wide."""
    name = printable(name)
    short = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
    return (" " if short.startswith("_") else "") + short.replace("$", r"\$")
