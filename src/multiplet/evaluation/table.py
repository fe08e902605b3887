"""Metrics as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from multiplet.errors import printable


def metrics_table(metrics: Mapping[str, Mapping[str, Any]], wanted: tuple[str, ...] = ()) -> Table:
    """One column a run, one row a metric (those wanted, or all); values with their intervals."""
    table = Table("metric", *(Column(_text(run)) for run in metrics))
    names = wanted or tuple(dict.fromkeys(name for run in metrics.values() for name in run["metrics"]))
    for name in names:
        table.add_row(_text(name), *(format_estimate(run["metrics"].get(name)) for run in metrics.values()))
    return table


def _text(name: str) -> Text:
    """A name that may come from a stranger's file: neither markup nor control characters count."""
    return Text(printable(name))


def format_estimate(estimate: Mapping[str, Any] | None) -> str:
    """A value and its interval in as many digits as the interval deserves; "> value" for a bound."""
    if estimate is None:
        return "–"
    value, low, high = (float(estimate[key]) for key in ("value", "low", "high"))
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 4
    bound = "> " if estimate.get("is_bound") else ""
    return f"{bound}{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
