"""Summary: the report of some runs with all that can be made of them together: studies, differences, displays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from multiplet.errors import DataError, RunError
from multiplet.evaluation.displays import displays
from multiplet.evaluation.report import write_report
from multiplet.evaluation.study import Row, label_figure, pairs, rows


def report(runs: Sequence[Path | str], out: Path | None = None, known: Sequence[type] = ()) -> Path:
    """Write one self-contained page of these runs and give its path: `out`, or report.html in the first run.

    With several evaluated runs of a task it holds a metric of theirs against the number of labels, and the paired
    differences over seeds between ways of adapting; with the events at hand, displays of single ones, of the first run
    that has any. `known` are classes of your own in a recipe. Raises RunError for a folder that is no run.
    """
    paths = [Path(run) for run in runs]
    figures: dict[str, Figure] = {}
    said: list[str] = []
    if len(paths) > 1:
        try:
            found = rows(paths, known)
            for metric in dict.fromkeys(row.metric for row in found):
                _compare([row for row in found if row.metric == metric], figures, said)
        except (DataError, RunError) as error:
            said.append(f"No differences over seeds: {error}")
    try:
        figures |= next((shown for path in paths if (shown := displays(path, known))), {})
    except DataError as error:  # the events may be elsewhere by now; the page is worth having without
        said.append(f"No event displays: {error}")
    return write_report(paths, out, figures, said)


def _compare(found: Sequence[Row], figures: dict[str, Figure], said: list[str]) -> None:
    """Add what rows of one metric show."""
    metric = found[0].metric
    if figure := label_figure(found):
        figures[f"{metric[0].upper()}{metric[1:]} and the number of labels"] = figure
    said += map(str, pairs(found))
