"""Evaluation: event displays, studies over labels and seeds, the table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tiny
from multiplet.data.arrow import write_events
from multiplet.data.columns import Columns
from multiplet.errors import DataError, RunError
from multiplet.evaluation.displays import jet_displays
from multiplet.evaluation.evaluate import evaluate
from multiplet.evaluation.study import differences, label_figure, rows
from multiplet.evaluation.summary import report
from multiplet.evaluation.table import format_estimate, metrics_table
from multiplet.recipe import open_run
from multiplet.training import train
from multiplet.transfer import FineTune
from toys import toy_jets


@pytest.fixture(scope="module")
def study(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A pretraining, and two seeds of two ways at two numbers of labels."""
    folder = tmp_path_factory.mktemp("study")
    train(tiny.masked(str(toys), 3), folder / "pretrained", progress=False)
    runs = [folder / "pretrained"]
    for labels in (50, 100):
        for seed in (0, 1):
            for adapt in (None, FineTune(str(runs[0]))):
                recipe = tiny.labels(str(toys), 3, adapt)
                recipe = replace(recipe, seed=seed, data=replace(recipe.data, take=labels, skip=seed * 50))
                run = folder / f"{labels}-{seed}-{'tuned' if adapt else 'scratch'}"
                train(recipe, run, progress=False)
                evaluate(run)
                runs.append(run)
    return runs


def test_a_study_reads_who_was_right_and_pairs_seeds(study: list[Path]) -> None:
    found = rows(study)
    assert len(found) == 8
    assert {(row.way, row.labels) for row in found} == {
        (w, n) for w in ("fine-tuned", "from scratch") for n in (50, 100)
    }
    result = differences(found)
    assert list(result) == [50, 100]
    tuned, scratch = (
        [r.mean for r in found if r.way == way and r.labels == 50] for way in ("fine-tuned", "from scratch")
    )
    assert result[50].value == pytest.approx(np.mean(tuned) - np.mean(scratch))
    assert result[50].seeds == 2
    assert differences(found[:1]) == {}


def test_labels_are_drawn_where_there_are_several_numbers_of_them(study: list[Path]) -> None:
    figure = label_figure(rows(study))
    assert figure is not None
    assert len(figure.axes) == 1
    assert label_figure(rows(study[:3])) is None


def test_displays_show_a_jet_a_class(study: list[Path]) -> None:
    figures = jet_displays(open_run(study[1]), wanted=2)
    assert len(figures) == 2
    assert all("true" in title for title in figures)
    assert jet_displays(open_run(study[0])) == {}


def test_an_empty_split_is_refused(study: list[Path], toys: Path) -> None:
    with pytest.raises(DataError, match="no event files"):
        evaluate(study[1], data=str(toys / "nowhere"))


def test_values_have_as_many_digits_as_they_deserve() -> None:
    assert format_estimate({"value": 0.81234, "low": 0.8, "high": 0.82}) == "0.8123 [0.8000, 0.8200]"
    assert format_estimate({"value": 512.3, "low": 400, "high": 600, "is_bound": True}) == "> 512 [400, 600]"
    assert format_estimate(None) == "–"
    table = metrics_table(
        {"a": {"metrics": {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}}}, "b": {"metrics": {}}}
    )
    assert table.row_count == 1
    assert len(table.columns) == 3


def test_runs_that_are_not_of_one_study_are_not_paired(study: list[Path]) -> None:
    found = rows(study)
    with pytest.raises(RunError, match="share a seed"):
        differences([*found, found[0]])


def test_events_of_another_kind_are_refused(study: list[Path], tmp_path: Path) -> None:
    columns = toy_jets(20)
    schema = tuple(replace(c, classes=("a", "b", "c")) if c.name == "label" else c for c in columns.schema)
    write_events(tmp_path / "test" / "00000.arrow", Columns(schema, columns.offsets, columns.values), {})
    with pytest.raises(DataError, match="label has classes"):
        evaluate(study[1], data=str(tmp_path))


def test_displays_show_the_events_that_were_evaluated(study: list[Path], tmp_path: Path) -> None:
    write_events(tmp_path / "test" / "00000.arrow", toy_jets(20, seed=9), {})
    evaluate(study[1], data=str(tmp_path))
    assert all("test event" in title for title in jet_displays(open_run(study[1]), wanted=3))
    evaluate(study[1])


def test_a_report_of_a_study_holds_its_figure_and_paired_differences(study: list[Path], tmp_path: Path) -> None:
    text = report(study, tmp_path / "study.html").read_text()
    assert "50 labels, accuracy fine-tuned minus from scratch" in text
    assert "Accuracy and the number of labels" in text
    assert "test event" in text
    recipe = json.loads((study[1] / "metrics.json").read_text())
    (study[1] / "metrics.json").write_text(json.dumps({**recipe, "data": str(tmp_path / "gone")}))
    assert "No event displays" in report(study[:2], tmp_path / "moved.html").read_text()
    evaluate(study[1])
