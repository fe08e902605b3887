"""Summary: the report of some runs with all that can be made of them together: studies, differences, displays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from multiplet.errors import DataError
from multiplet.evaluation.displays import jet_displays
from multiplet.evaluation.report import write_report
from multiplet.evaluation.study import differences, label_figure, rows
from multiplet.recipe import open_run
from multiplet.tasks.classify import Classify


def report(runs: Sequence[Path | str], out: Path | None = None, known: Sequence[type] = ()) -> Path:
    """Write one self-contained page of these runs and give its path: `out`, or report.html in the first run.

    With several evaluated classifiers it holds accuracy against the number of labels and paired differences over
    seeds; with the events at hand, displays of single ones. `known` are classes of your own in a recipe. Raises RunError for a folder that is no run.
    """
    paths = [Path(run) for run in runs]
    found = rows(paths, known)
    figure = label_figure(found)
    figures = {"Accuracy and the number of labels": figure} if figure else {}
    notes = [
        f"{labels:,} labels, accuracy fine-tuned minus from scratch: {difference}"
        for labels, difference in differences(found).items()
    ]
    classifiers = [path for path in paths if isinstance(open_run(path, known).recipe.objective, Classify)]
    try:
        figures |= jet_displays(classifiers[0], known) if classifiers else {}
    except DataError as error:  # the events may be elsewhere by now; the page is worth having without
        notes.append(f"No event displays: {error}")
    return write_report(paths, out, figures, notes)
