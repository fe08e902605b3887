"""Run folders written by older versions: every later version loads them, predicts the same and goes on with them.

tests/golden/run-1 holds events, a pretraining and a task tuned on it, in format 1, as tests/golden/make.py wrote them.

If a test here fails, a user's runs of last year are broken too. Do not write the folder again. Either undo what changed
the meaning of a stored recipe, checkpoint, event file or draw, or, where the change is wanted: raise `FORMAT` (of
record.py, checkpoint.py or data/arrow.py), make the reader of the old number turn it into the new one, keep run-1 and
its test, and add run-2 made by the new version.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from golden.make import LONGER, STEPS, losses, recipes
from multiplet.checkpoint import newest
from multiplet.errors import RunError
from multiplet.evaluation.evaluate import evaluate
from multiplet.recipe import open_run
from multiplet.record import FORMAT
from multiplet.spec import to_dict
from multiplet.training import train

GOLDEN = Path(__file__).parent / "golden" / "run-1"
NAMES = ("pretrained", "tuned")


@pytest.fixture
def golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the golden folder as the working directory, which its relative paths start from."""
    shutil.copytree(GOLDEN, tmp_path / "run-1")
    monkeypatch.chdir(tmp_path / "run-1")
    return tmp_path / "run-1"


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_recipe_means_what_it_meant(name: str, golden: Path) -> None:
    stored = json.loads((golden / name / "recipe.json").read_text())
    opened = open_run(name)
    assert opened.recipe == recipes()[name]
    written = to_dict(opened.recipe)
    assert _within(stored["recipe"], written), "a field that was stored is gone or changed"


def _within(old: object, new: object) -> bool:
    """Whether all of `old` is in `new`: later versions may know more fields, whose defaults keep the old meaning."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(key in new and _within(value, new[key]) for key, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_within, old, new))
    return old == new


@pytest.mark.parametrize("name", NAMES)
def test_an_old_run_predicts_and_scores_as_it_did(name: str, golden: Path) -> None:
    run = golden / name
    before, metrics = pq.read_table(run / "predictions.parquet"), json.loads((run / "metrics.json").read_text())
    (run / "predictions.parquet").unlink()
    assert newest(run)[1] == []
    after = evaluate(name)
    table = pq.read_table(run / "predictions.parquet")
    assert set(before.column_names) <= set(table.column_names)
    for column in before.column_names:
        old, new = before[column].to_numpy(), table[column].to_numpy()
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-6 if old.dtype.kind == "f" else 0, err_msg=column)
    assert after["events"] == metrics["events"] == 12
    for key, value in metrics["metrics"].items():
        assert after["metrics"][key]["value"] == pytest.approx(value["value"], abs=1e-6), key


@pytest.mark.parametrize("name", NAMES)
def test_an_old_run_goes_on_as_it_would_have(name: str, golden: Path) -> None:
    recipe = open_run(name).recipe
    longer = replace(recipe, train=replace(recipe.train, steps=LONGER))
    finished = train(longer, name, name=name, progress=False)
    assert finished.step == LONGER
    expected, got = json.loads((golden / "longer.json").read_text())[name], losses(golden / name)
    assert list(got) == list(expected) == [str(step) for step in range(1, LONGER + 1)]
    for step in map(str, range(STEPS + 1, LONGER + 1)):
        assert got[step] == pytest.approx(expected[step], rel=1e-4), f"step {step}"


def test_an_old_pretraining_is_tuned_as_it_was(golden: Path) -> None:
    before = losses(golden / "tuned")
    assert train(open_run("tuned").recipe, "again", progress=False).step == STEPS
    after = losses(golden / "again")
    assert list(after) == list(before) == [str(step) for step in range(1, STEPS + 1)]
    assert all(after[step] == pytest.approx(before[step], rel=1e-4) for step in before)


@pytest.mark.parametrize("number", [FORMAT + 1, 0, None, "1", True])
def test_a_recipe_of_a_format_that_is_not_known_is_refused(number: object, golden: Path) -> None:
    file = golden / "tuned" / "recipe.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": number}))
    with pytest.raises(RunError) as caught:
        open_run("tuned")
    assert "recipe.json" in str(caught.value)
    assert ("newer version" in str(caught.value)) == (number == FORMAT + 1)
