"""The loop: exact resume, signals, ranks, parts of batches, transfer, errors before they reach a parameter."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from multiplet.checkpoint import require_newest
from multiplet.cloud import Cloud
from multiplet.data.arrow import write_events
from multiplet.data.batches import Batches
from multiplet.data.columns import Columns
from multiplet.data.events import EventFiles, Events
from multiplet.errors import NonFiniteError, RecipeError, RunError
from multiplet.evaluation.evaluate import evaluate
from multiplet.optim import AdamW
from multiplet.recipe import Recipe, carry, open_run
from multiplet.tasks.classify import Classify
from multiplet.training import train
from multiplet.transfer import FineTune, Frozen
from toys import toy_jets, write_toys

HERE = Path(__file__).parent


def weights(run: Path) -> dict[str, torch.Tensor]:
    return require_newest(run).weights()


def log(run: Path) -> list[dict]:
    """The log without what may differ: timings."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


def same(first: Path, second: Path) -> None:
    a, b = require_newest(first), require_newest(second)
    assert a.step == b.step
    for kind in ("weights", "resume"):
        x, y = getattr(a, kind)(), getattr(b, kind)()
        assert x.keys() == y.keys()
        assert all(torch.equal(x[name], y[name]) for name in x), kind
    assert log(first) == log(second)


@pytest.fixture(scope="module")
def whole(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of 20 steps."""
    run = tmp_path_factory.mktemp("whole")
    train(tiny.masked(str(toys)), run, progress=False)
    return run


def test_a_run_leaves_its_recipe_log_and_checkpoints(whole: Path, toys: Path) -> None:
    opened = open_run(whole)
    assert opened.recipe == tiny.masked(str(toys))
    assert sorted(path.name for path in (whole / "checkpoints").iterdir()) == [f"step-{n:08d}" for n in (12, 16, 20)]
    kinds = [line["kind"] for line in log(whole)]
    assert (kinds[0], kinds[-1]) == ("start", "end")
    assert kinds.count("train") == 20
    assert kinds.count("validation") == 4
    steps = [line for line in log(whole) if line["kind"] == "train"]
    assert steps[-1]["losses"]["noise"] < steps[0]["losses"]["noise"]
    assert log(whole)[0]["references"]["noise: predicting nothing"] == 1.0


@pytest.mark.parametrize("free", [True, False])
def test_stopped_by_a_signal_and_resumed_it_is_the_same_run(
    free: bool, whole: Path, toys: Path, tmp_path: Path
) -> None:
    recipe = tiny.masked(str(toys), free=free)
    if not free:
        train(recipe, tmp_path / "whole", progress=False)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        finished = train(recipe, tmp_path / "parts", dataset=interrupting(toys, 7, number), progress=False)
        assert finished.stopped_by == number.name
    assert train(recipe, tmp_path / "parts", progress=False).stopped_by is None
    same(whole if free else tmp_path / "whole", tmp_path / "parts")


def interrupting(toys: Path, reads: int, number: int) -> EventFiles:
    """The data set, sending this process a signal while it reads the n-th batch."""

    class Interrupting(EventFiles):
        left = reads

        def read(self, split: str, indices: np.ndarray) -> Cloud:
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), number)
            return super().read(split, indices)

    return Interrupting(toys)


def test_a_run_that_is_done_stays_as_it_is(whole: Path, toys: Path) -> None:
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file() and path.name != "log.jsonl"}
    finished = train(tiny.masked(str(toys)), whole, progress=False)
    assert finished.step == 20
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_two_ranks_give_what_one_gives(whole: Path, toys: Path, tmp_path: Path) -> None:
    """Under torchrun, and with a batch of each rank in parts; without parts: test_guarantees.py."""
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "multiplet"]
    recipe = [f"{HERE / 'tiny.py'}:masked", tmp_path / "two", f"data={toys}", "train.batches.events_at_once=5"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([*program, "train", *recipe], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    one, two = weights(whole), weights(tmp_path / "two")
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name].double(), two[name].double(), atol=2e-3, rtol=2e-2, msg=name)
    for first, second in zip(log(whole), log(tmp_path / "two"), strict=True):
        assert first.get("losses", {}) == pytest.approx(second.get("losses", {}), rel=1e-4)
        assert first.get("points") == second.get("points")


@pytest.mark.parametrize("batches", [Batches(32, events_at_once=5), Batches(32, points_at_once=200)])
def test_a_batch_in_parts_is_the_same_batch(batches: Batches, whole: Path, toys: Path, tmp_path: Path) -> None:
    recipe = tiny.masked(str(toys), 8)
    train(replace(recipe, train=replace(recipe.train, batches=batches)), tmp_path, progress=False)
    lines = [line for line in log(tmp_path) if line["kind"] == "train"]
    assert len(lines) == 8
    for first, second in zip([line for line in log(whole) if line["kind"] == "train"], lines, strict=False):
        assert first.get("losses", {}) == pytest.approx(second.get("losses", {}), rel=1e-4)


def test_worker_processes_change_nothing(whole: Path, toys: Path, tmp_path: Path) -> None:
    recipe = tiny.masked(str(toys))
    train(replace(recipe, train=replace(recipe.train, workers=2)), tmp_path, progress=False)
    same(whole, tmp_path)


def test_the_newest_valid_checkpoint_wins(whole: Path, toys: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "hurt")
    file = tmp_path / "hurt" / "checkpoints" / "step-00000020" / "resume.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert require_newest(tmp_path / "hurt").step == 16
    train(tiny.masked(str(toys)), tmp_path / "hurt", progress=False)
    same(whole, tmp_path / "hurt")


def test_another_recipe_or_other_data_in_the_same_folder_is_refused(whole: Path, toys: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"optim\.rate"):
        train(
            replace(tiny.masked(str(toys)), optim=replace(tiny.masked(str(toys)).optim, rate=1e-3)),
            whole,
            progress=False,
        )
    other = write_toys(tmp_path, 200, 50, 50)
    recipe = replace(tiny.masked(str(toys)), data=Events(str(other)))
    with pytest.raises(RunError, match="data"):
        train(recipe, whole, progress=False)


def test_a_run_without_a_schedule_can_be_given_more_steps(whole: Path, toys: Path, tmp_path: Path) -> None:
    train(tiny.masked(str(toys), 12), tmp_path / "longer", progress=False)
    assert train(tiny.masked(str(toys), 20), tmp_path / "longer", progress=False).step == 20
    first, second = weights(tmp_path / "longer"), weights(whole)
    for name in first:  # the look at step 12 went to the averaged weights and back once more: the last bit may differ
        torch.testing.assert_close(first[name], second[name], atol=1e-5, rtol=1e-4)
    assert open_run(tmp_path / "longer").recipe.train.steps == 20
    train(tiny.masked(str(toys), 1, free=False), tmp_path / "cosine", progress=False)
    with pytest.raises(RunError, match=r"train\.steps"):
        train(tiny.masked(str(toys), 20, free=False), tmp_path / "cosine", progress=False)


# What is not finite


def spoil(column: str, value: float) -> Callable[[Columns], Columns]:
    def change(columns: Columns) -> Columns:
        values = dict(columns.values)
        values[column] = values[column].copy()
        values[column][len(values[column]) // 2] = value
        return Columns(columns.schema, columns.offsets, values)

    return change


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("column", "recipe"), [("deta", tiny.masked), ("jet_pt", tiny.labels), ("energy", tiny.masked)]
)
def test_a_value_that_is_not_finite_stops_before_the_update_and_names_its_event(
    column: str, recipe: Callable[..., Recipe], value: float, tmp_path: Path
) -> None:
    data = write_toys(tmp_path / "data", 300, 60, 60)
    made = replace(recipe(str(data)), represent=replace(tiny.REPRESENT, fit_events=100))
    write_events(data / "train" / "00001.arrow", spoil(column, value)(toy_jets(150, 1)), {})
    with pytest.raises(NonFiniteError, match=rf"00001\.arrow row \d+ .*{column}"):
        train(made, tmp_path / "run", progress=False)
    for name, value in (
        weights(tmp_path / "run").items() if list((tmp_path / "run" / "checkpoints").glob("step*")) else ()
    ):
        assert value.isfinite().all(), name


def test_a_validation_event_that_is_not_finite_is_named(tmp_path: Path) -> None:
    data = write_toys(tmp_path / "data", 100, 60, 60)
    write_events(data / "validation" / "00000.arrow", spoil("px", float("nan"))(toy_jets(60, 2)), {})
    with pytest.raises(NonFiniteError, match=r"validation.*00000\.arrow row \d+"):
        train(tiny.labels(str(data), 10), tmp_path / "run", progress=False)


def test_a_run_that_saved_nothing_yet_may_be_corrected(toys: Path, tmp_path: Path) -> None:
    recipe = tiny.masked(str(toys), free=False)
    with pytest.raises(NonFiniteError):
        train(replace(recipe, optim=replace(recipe.optim, decay=1e30)), tmp_path, progress=False)
    assert train(recipe, tmp_path, progress=False).step == 20
    assert open_run(tmp_path).recipe == recipe


def test_data_may_move(toys: Path, tmp_path: Path) -> None:
    recipe = tiny.masked(str(toys), 8)
    train(recipe, tmp_path / "run", progress=False)
    (tmp_path / "moved").symlink_to(toys)
    moved = replace(recipe, data=Events(str(tmp_path / "moved")))
    assert train(moved, tmp_path / "run", progress=False).step == 8


def test_weights_that_explode_are_named(toys: Path, tmp_path: Path) -> None:
    recipe = tiny.masked(str(toys), free=False)
    with pytest.raises(NonFiniteError, match="stopped before the update"):
        train(replace(recipe, optim=replace(recipe.optim, decay=1e30)), tmp_path, progress=False)


def test_a_gpu_that_is_not_there_is_an_error(toys: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    recipe = tiny.masked(str(toys))
    with pytest.raises(RecipeError, match="no GPU"):
        train(replace(recipe, train=replace(recipe.train, device="cuda")), tmp_path, progress=False)


# Carrying


def test_representation_and_encoder_are_carried_and_nothing_else(whole: Path, toys: Path) -> None:
    recipe = carry(whole, Classify(), FineTune(str(whole)))
    model = recipe.build(Events(str(toys)).open().schema)
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    account = recipe.adapt.carry(model)
    theirs = weights(whole)
    for name, value in model.state_dict().items():
        carried = name.split(".")[0] in ("represent", "encoder")
        assert torch.equal(value, theirs[name] if carried else fresh[name]), name
    assert account is not None
    assert "encoder" in str(account)
    assert set(account.fresh) == {"objective.out.weight", "objective.out.bias"}


def test_a_frozen_encoder_does_not_move_and_a_fine_tuned_one_does(whole: Path, toys: Path, tmp_path: Path) -> None:
    for adapt in (Frozen(str(whole)), FineTune(str(whole))):
        run = tmp_path / type(adapt).__name__
        train(tiny.labels(str(toys), 10, adapt), run, progress=False)
        moved = [not torch.equal(v, weights(whole)[n]) for n, v in weights(run).items() if n.startswith("encoder")]
        assert any(moved) is isinstance(adapt, FineTune)
        assert torch.equal(weights(run)["represent.features.mean"], weights(whole)["represent.features.mean"])


def test_what_lies_deep_in_a_carried_encoder_can_move_more_slowly(whole: Path, toys: Path) -> None:
    recipe = tiny.labels(str(toys), 2, FineTune(str(whole), 0.5))  # one block
    model = recipe.build(recipe.data.open().schema)
    plain = AdamW(rate=1e-2).build(model, recipe.encoder.param, 2).inner.param_groups
    recipe.adapt.prepare(model)
    slow = AdamW(rate=1e-2).build(model, recipe.encoder.param, 2).inner.param_groups
    before, after = ({n: group["lr"] for group in groups for n in group["names"]} for groups in (plain, slow))
    assert before.keys() == after.keys()
    starts = {"encoder.embed.": 0.25, "encoder.backbone.blocks.0.": 0.5, "encoder.backbone.norm.": 1, "objective.": 1}
    for name, rate in after.items():
        (factor,) = (factor for start, factor in starts.items() if name.startswith(start))
        assert rate == pytest.approx(factor * before[name]), name
    for bad in (0.0, 1.5):
        with pytest.raises(RecipeError, match=r"layer_decay is .*\(0, 1\]"):
            FineTune("run", bad)


def test_what_does_not_fit_is_refused(whole: Path, toys: Path, tmp_path: Path) -> None:
    recipe = tiny.labels(str(toys), 10, FineTune(str(whole)))
    wider = replace(recipe, encoder=replace(recipe.encoder, backbone=replace(recipe.encoder.backbone, depth=2)))
    with pytest.raises(RunError, match=r"encoder\.backbone\.depth"):
        train(wider, tmp_path / "a", progress=False)
    with pytest.raises(RunError, match="checkpoint"):
        train(tiny.labels(str(toys), 10, FineTune(str(tmp_path / "nowhere"))), tmp_path / "b", progress=False)


def test_classification_learns_the_toys_and_is_measured(toys: Path, tmp_path: Path) -> None:
    recipe = tiny.labels(str(toys), 60)
    train(replace(recipe, optim=replace(recipe.optim, rate=1e-2)), tmp_path, progress=False)
    metrics = evaluate(tmp_path)
    assert metrics["metrics"]["accuracy"]["value"] > 0.5
    assert metrics["metrics"]["auc"]["low"] > 0.6
    assert metrics["events"] == 60
    assert sum(map(sum, metrics["confusion"]["counts"])) == 60
    assert "rejection three at 50.0%" in metrics["metrics"]
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "predictions.parquet")
    assert table["index"].to_pylist() == list(range(60))
    assert table["event_id"].to_pylist() == [3_000_000 + n for n in range(60)]
    total = sum(table[f"score_{name}"].to_numpy() for name in ("one", "two", "three"))
    np.testing.assert_allclose(total, 1, atol=1e-5)


def test_pretraining_is_measured_on_the_masks_and_noise_of_its_validation(whole: Path) -> None:
    metrics = evaluate(whole, split="validation")["metrics"]
    assert set(metrics) == {"noise", "noise_without_context", "effective rank"}
    assert evaluate(whole, split="validation")["metrics"] == metrics


def test_what_is_saved_to_use_is_the_average_and_not_where_gradients_were_taken(whole: Path) -> None:
    """Schedule-free: y = (1 - β) z + β x, where gradients are taken at y and x is the result."""
    checkpoint, beta = require_newest(whole), tiny.masked("").optim.betas[0]
    used, kept = checkpoint.weights(), checkpoint.resume()
    moved = 0.0
    for key, y in kept.items():
        if key.startswith("parameter|"):
            name = key.removeprefix("parameter|")
            torch.testing.assert_close(used[name], (y - (1 - beta) * kept[f"z|{name}"]) / beta, rtol=1e-4, atol=1e-6)
            moved = max(moved, float((used[name] - y).abs().max()))
    assert moved > 1e-3


def test_validation_while_training_says_what_evaluation_says(toys: Path, tmp_path: Path) -> None:
    """On the same masks, times and noise, of the averaged weights."""
    recipe = tiny.masked(str(toys), 10)
    recipe = replace(recipe, train=replace(recipe.train, validation_events=10_000))
    train(recipe, tmp_path / "run", progress=False)
    (*_, last) = (line for line in log(tmp_path / "run") if line["kind"] == "validation")
    metrics = evaluate(tmp_path / "run", split="validation", sample=0)["metrics"]
    assert last["step"] == 10
    assert {name: metrics[name]["value"] for name in last["losses"]} == pytest.approx(last["losses"], rel=1e-4)
