"""What docs/guarantees.md promises and no other file proves: kills, full disks, locks, damage, ranks, foreign files."""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uproot

import test_formats_jets
import test_formats_root
import test_kaggle_icecube
import test_prometheus
import tiny
from mortal import Mortals
from multiplet import training
from multiplet.checkpoint import newest, require_newest
from multiplet.data.arrow import write_events
from multiplet.data.batches import Batches, Plan, load
from multiplet.data.columns import Column, Columns
from multiplet.data.events import EventFiles
from multiplet.data.formats import FORMATS, Format
from multiplet.data.formats.jetclass import JetClass
from multiplet.distributed import Ranks
from multiplet.draws import Draws
from multiplet.errors import DataError, MultipletError, NonFiniteError, RunError
from multiplet.files import held, read_json
from multiplet.optim import Optimiser
from multiplet.progress import Log
from multiplet.recipe import Recipe
from multiplet.tasks.classify import ClassifyNet
from multiplet.training import train
from multiplet.transfer import FineTune
from test_training import log, same
from toys import SCHEMA, toy_jets, write_toys


@pytest.fixture(scope="module")
def mortals() -> Iterator[Mortals]:
    made = Mortals()
    yield made
    made.close()


@pytest.fixture(scope="module")
def pretrained(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretraining of 8 steps, saved at 4 and at 8."""
    run = tmp_path_factory.mktemp("pretrained") / "run"
    train(tiny.masked(str(toys), 8), run, progress=False)
    return run


# --- 1. resuming ------------------------------------------------------------------------------------------------------

# In this order: an epoch has 10 updates, every 4 are saved, every 5 validated, and 3 checkpoints are kept.
INSTANTS = (
    ("multiplet.identity:Identity.write", 1, "before"),  # nothing but the lock is there
    ("multiplet.training:_Loop._start", 1, "after"),
    ("multiplet.progress:Log.write", 3, "half"),  # a line of the log is torn
    ("multiplet.training:_Loop._update", 3, "before"),
    ("multiplet.checkpoint:save_file", 1, "half"),  # the first checkpoint, its first file
    ("multiplet.checkpoint:_write_tensors", 1, "after"),
    ("multiplet.checkpoint:write_json", 1, "after"),  # no manifest yet
    ("multiplet.checkpoint:write_json", 2, "after"),  # complete, but under its name aside
    ("os:rename", 1, "after"),  # step 4 counts from here on
    ("multiplet.training:validate", 1, "before"),
    ("multiplet.validation:load", 1, "after"),  # within validation
    ("multiplet.training:_Loop._validate", 1, "after"),
    ("multiplet.optim:Optimiser.step", 2, "after"),
    ("os:rename", 1, "before"),
    ("multiplet.training:_Loop._save", 1, "after"),  # step 8
    ("multiplet.data.batches:Plan._shuffled", 2, "before"),  # the edge of an epoch
    ("multiplet.training:_Loop._update", 3, "after"),  # the first update of the next one
    ("multiplet.training:_Loop._save", 2, "before"),
    ("multiplet.checkpoint:_remove", 1, "before"),  # step 16 is written, step 4 to be removed
)


@pytest.mark.slow
def test_killed_more_than_twenty_times_it_is_the_run_that_was_not(mortals: Mortals, toys: Path, tmp_path: Path) -> None:
    run, steps = {"out": tmp_path / "run", "data": toys, "steps": 64}, set()
    for at, call, when in INSTANTS:
        assert mortals.train(**run, at=at, call=call, when=when) == [-signal.SIGKILL], at
        found, _ = newest(tmp_path / "run")
        steps.add(found.step if found else 0)
    assert {0, 4, 8, 16} <= steps
    chance, kills = random.Random(0), len(INSTANTS)
    for _ in range(6):
        kills += mortals.train(**run, after=chance.uniform(0.05, 0.4)) == [-signal.SIGKILL]
    assert mortals.train(**run) == [0]
    assert mortals.train(**run | {"out": tmp_path / "whole"}) == [0]
    assert kills >= 20
    same(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
def test_a_run_goes_from_one_rank_to_two_and_back_and_reads_the_same_events(
    mortals: Mortals, toys: Path, tmp_path: Path
) -> None:
    """In bits: which events an update has, and all that is counted. Up to rounding: what is summed over them."""
    task: dict[str, Any] = {"data": toys, "steps": 20, "at": "multiplet.training:_Loop._update"}
    parts = (("one", 1, 99, 0), ("elastic", 1, 7, -9), ("elastic", 2, 10, -9), ("elastic", 1, 99, 0))
    orders = []
    for number, (name, ranks, call, code) in enumerate(parts):
        order = tmp_path / f"{number}.order"
        assert mortals.train(**task, out=tmp_path / name, order=order, ranks=ranks, call=call)[0] == code
        orders.append(order_of(order, ranks))
    whole = orders[0]
    assert set(whole) == set(orders[1]) | set(orders[2]) | set(orders[3]) == set(range(20))
    assert all(order == {step: whole[step] for step in order} for order in orders[1:])
    assert [min(order) for order in orders] == [0, 0, 4, 12]  # the second went from 1 to 2 ranks, the third back
    for first, second in zip(log(tmp_path / "one"), log(tmp_path / "elastic"), strict=True):
        alike = first.get("step", 0) <= 4
        for key in ("losses", "gradient_norm"):
            one, other = first.pop(key, 0.0), second.pop(key, 0.0)
            assert one == (other if alike else pytest.approx(other, rel=1e-3))
        assert first == second
    weights = [require_newest(tmp_path / name).weights() for name in ("one", "elastic")]
    for name, value in weights[0].items():
        torch.testing.assert_close(value.double(), weights[1][name].double(), atol=2e-3, rtol=2e-2, msg=name)


def order_of(path: Path, ranks: int) -> dict[int, list[int]]:
    """For each update that all ranks have done its events."""
    seen: dict[int, list[list[int]]] = {}
    for step, _, events in map(json.loads, path.read_text().splitlines()):
        seen.setdefault(step, []).append(events)
    return {step: sorted(chain(*shares)) for step, shares in seen.items() if len(shares) == ranks}


# --- 2. checkpoints and disks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [".step-00000008.tmp", "step-00000008"])
def test_a_checkpoint_cut_at_any_of_fifty_places_of_its_write_does_not_count(
    pretrained: Path, tmp_path: Path, name: str
) -> None:
    """Its files in the order they are written: those before the place are whole, one is cut, later ones are not there.

    The second name is what a network file system may leave that renames before it writes.
    """
    written = ("weights.safetensors", "resume.safetensors", "state.json", "manifest.json")
    run = shutil.copytree(pretrained, tmp_path / "run")
    whole = {file: (run / "checkpoints" / "step-00000008" / file).read_bytes() for file in written}
    shutil.rmtree(run / "checkpoints" / "step-00000008")
    for place in np.linspace(0, sum(map(len, whole.values())) - 2, 50).astype(int):
        folder = run / "checkpoints" / name
        folder.mkdir()
        left = int(place)
        for file, content in whole.items():
            (folder / file).write_bytes(content[:left])
            left -= len(content)
            if left <= 0:
                break
        found, refused = newest(run)
        assert found is not None
        assert found.step == 4
        assert len(refused) == (name[0] != ".")
        shutil.rmtree(folder)


def test_a_full_disk_is_an_error_that_says_what_to_do_and_costs_no_checkpoint(
    mortals: Mortals, toys: Path, tmp_path: Path
) -> None:
    task = {"out": tmp_path / "run", "data": toys, "steps": 12}
    at = "multiplet.training:write_checkpoint"
    assert mortals.train(**task, at=at, call=2) == [-9]  # step 4 is there
    before = {path: path.read_bytes() for path in (tmp_path / "run" / "checkpoints").rglob("*") if path.is_file()}
    assert mortals.train(**task, largest=100_000) == [2]
    said = Path(f"{task['out']}.said").read_text()
    assert "RunError" in said
    assert "step-00000008 could not be written" in said
    assert "free space" in said
    assert "it goes on from step 4" in said
    assert {path: path.read_bytes() for path in before} == before
    assert os.listdir(tmp_path / "run" / "checkpoints") == ["step-00000004"]
    assert mortals.train(**task) == [0]
    assert mortals.train(**task | {"out": tmp_path / "whole"}) == [0]
    same(tmp_path / "whole", tmp_path / "run")


def test_a_recipe_or_log_that_cannot_be_written_is_an_error_that_says_what_to_do(
    mortals: Mortals, toys: Path, tmp_path: Path
) -> None:
    assert mortals.train(out=tmp_path / "run", data=toys, steps=4, largest=1000) == [2]
    assert "recipe.json could not be written" in Path(f"{tmp_path / 'run'}.said").read_text()
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(RunError, match=r"/dev/full could not be written .*No space left.* free space"):
        Log(Path("/dev/full")).write("train", {"step": 1})


def test_a_folder_that_cannot_be_written_is_an_error_before_training(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of a read-only file system; root, as whom tests often run, may write in spite of any mode."""
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot write in .*file.*make it writable, or choose another folder"):
        train(tiny.masked(str(toys)), tmp_path / "file" / "run", progress=False)
    real = os.open

    def refuse(path: Any, *rest: Any, **options: Any) -> int:
        if str(path).endswith(".lock"):
            raise OSError(30, "Read-only file system", str(path))
        return real(path, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RunError, match=r"cannot write in .*Read-only file system"):
        train(tiny.masked(str(toys)), tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "recipe.json").exists()


def test_the_log_is_on_disk_before_a_checkpoint_that_counts_on_it(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed, written = [], []
    monkeypatch.setattr(training, "flush", lambda path: flushed.append((path, path.read_bytes())))
    real = training.write_checkpoint

    def write(*arguments: Any) -> Path:
        written.append(flushed[-1] == (tmp_path / "log.jsonl", (tmp_path / "log.jsonl").read_bytes()))
        return real(*arguments)

    monkeypatch.setattr(training, "write_checkpoint", write)
    train(tiny.masked(str(toys), 8), tmp_path, progress=False)
    assert written == [True, True]


def test_a_damaged_newest_checkpoint_is_passed_over_and_named(
    pretrained: Path, toys: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(pretrained, tmp_path / "run")
    file = run / "checkpoints" / "step-00000008" / "resume.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    train(tiny.masked(str(toys), 8), run)
    said = capfd.readouterr().err
    assert "passed over: " in said
    assert "step-00000008: resume.safetensors changed after writing" in said
    assert "resumed at step 4" in said
    same(pretrained, run)


# --- 3. every event once ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("events", [1, 2, 7, 31, 32, 33, 64, 97])
def test_every_event_is_read_once_an_epoch_whatever_the_ranks_and_resumptions(events: int, tmp_path: Path) -> None:
    """Three epochs through the reader itself, resumed at random steps by another number of ranks each time."""
    data = EventFiles(write_numbers(tmp_path, events))
    chance = random.Random(events)
    for size in (1, 3, 8, 32, 100):
        batches = Batches(size, events_at_once=chance.choice([None, 1, 5]), by_length=chance.random() < 0.5)
        steps = 3 * Plan(data.lengths("train"), batches, 1).steps_per_epoch
        cuts = sorted({0, steps, *(chance.randrange(steps + 1) for _ in range(4))})
        read: dict[int, list[int]] = {0: [], 1: [], 2: []}
        for first, last in pairwise(cuts):
            ranks = chance.randint(1, 4)
            for rank in range(ranks):
                plan = Plan(data.lengths("train"), batches, 1)  # as a new process makes it
                for work, clouds in load(data, "train", plan.work(first, last, rank, ranks)):
                    read[work.epoch] += [n for cloud in clouds for n in cloud.event["number"].tolist()]
        assert [sorted(epoch) for epoch in read.values()] == [list(range(events))] * 3


@pytest.mark.slow
def test_every_event_is_read_once_an_epoch_by_worker_processes_too(tmp_path: Path) -> None:
    data, batches = EventFiles(write_numbers(tmp_path, 97)), Batches(8, events_at_once=3)
    read: dict[int, list[int]] = {0: [], 1: []}
    plan = Plan(data.lengths("train"), batches, 1)
    for work, clouds in load(data, "train", plan.work(0, 26), workers=2):  # 13 updates an epoch
        read[work.epoch] += [n for cloud in clouds for n in cloud.event["number"].tolist()]
    assert [sorted(epoch) for epoch in read.values()] == [list(range(97))] * 2


def write_numbers(folder: Path, events: int) -> Path:
    """Events with nothing but their number and a few points."""
    counts = np.random.default_rng(events).integers(0, 5, events)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    values = {"x": np.zeros(offsets[-1], np.float32), "number": np.arange(events)}
    schema = (Column("x"), Column("number", level="event", dtype="int64"))
    write_events(folder / "train" / "0.arrow", Columns(schema, offsets, values), {})
    return folder


# --- 4. and 5. damage (of event files and checkpoints: test_arrow.py and test_checkpoint.py) --------------------------

Written = tuple[Format, Path]


def published(name: str) -> Callable[[Path], Written]:
    format, file, make, write = test_formats_jets.CASES[name]
    return lambda folder: (format, write(folder / file, make()))


def root_file(ntuple: bool = False, **options: Any) -> Callable[[Path], Written]:
    def make(folder: Path) -> Written:
        branches = test_formats_root.arrays(test_formats_root.simulated())
        with uproot.recreate(folder / "jets.root", **options) as file:
            (file.mkrntuple if ntuple else file.mktree)("tree", branches)
        return JetClass(step=7), folder / "jets.root"

    return make


def event_file(folder: Path) -> Written:
    write_events(folder / "0.arrow", toy_jets(10), {})
    return FORMATS["events"], folder / "0.arrow"


def spacepoints(folder: Path) -> Written:
    rng = np.random.default_rng(0)
    np.savez(folder / "spacepoints.npz", data=rng.uniform(0, 9, (60, 4)).astype(np.float32), size=np.full(12, 5))
    tracks = rng.integers(0, 10, 60)
    for name, label in (("track_ids", tracks), ("pid_labels", tracks % 5), ("noise_tags", tracks % 2)):
        np.savez(folder / f"{name}.npz", data=label)
    return FORMATS["tpcpp"], folder / "spacepoints.npz"


def kaggle_icecube(folder: Path) -> Written:
    test_kaggle_icecube.geometry(folder)
    return FORMATS["kaggle_icecube"], test_kaggle_icecube.write(folder, *test_kaggle_icecube.events())


def prometheus(layout: str) -> Callable[[Path], Written]:
    write = test_prometheus.LAYOUTS[layout]
    return lambda folder: (FORMATS["prometheus"], write(folder, *test_prometheus.simulate()))


SOURCES: dict[str, Callable[[Path], Written]] = {
    **{name: published(name) for name in test_formats_jets.CASES},
    "jetclass": root_file(),
    "jetclass uncompressed": root_file(compression=None),
    "jetclass as RNTuple": root_file(ntuple=True),
    "events": event_file,
    "tpcpp": spacepoints,
    "kaggle_icecube": kaggle_icecube,
    **{f"prometheus {name}": prometheus(name) for name in ("flat", "database")},
}


def test_every_format_is_among_those_that_are_truncated(tmp_path: Path) -> None:
    tried = {type(make(tmp_path)[0]) for make in SOURCES.values()}
    assert {type(format) for format in FORMATS.values()} <= tried


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_a_file_cut_at_any_of_two_hundred_places_is_an_error_and_never_fewer_events(name: str, tmp_path: Path) -> None:
    format, path = SOURCES[name](tmp_path)
    whole = path.read_bytes()
    assert sum(len(chunk.columns) for chunk in format.chunks(path)) > 0
    for place in {*np.linspace(0, len(whole) - 1, 150).astype(int).tolist(), *range(len(whole) - 50, len(whole))}:
        path.write_bytes(whole[:place])
        begun = time.process_time()
        with pytest.raises(DataError, match=path.name):
            list(format.chunks(path))
        assert time.process_time() - begun < 10


# --- 7. what is not finite --------------------------------------------------------------------------------------------


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each update that is made, whether all gradients before it and all parameters after it were finite."""
    seen: list[bool] = []
    real = Optimiser.step

    def step(self: Optimiser, number: int) -> None:
        held = [tensor for group in self.inner.param_groups for tensor in group["params"]]
        before = all(bool(tensor.grad.isfinite().all()) for tensor in held if tensor.grad is not None)
        real(self, number)
        seen.append(before and all(bool(tensor.isfinite().all()) for tensor in held))

    monkeypatch.setattr(Optimiser, "step", step)
    return seen


def stopped(recipe: Recipe, out: Path, updates: list[bool], error: type[MultipletError], message: str) -> None:
    """Training ends with this error, after some updates that were all finite."""
    with pytest.raises(error, match=message):
        train(recipe, out, progress=False)
    assert updates
    assert all(updates)


def spoiled(folder: Path, column: str, value: Any, dtype: str = "", event: int = 70) -> Path:
    """Toys of which one event of the second training file holds a value that may not be: row 70."""
    schema = tuple(replace(c, dtype=dtype) if dtype and c.name == column else c for c in SCHEMA)
    for number in (0, 1):
        jets = toy_jets(150, number)
        values = {c.name: jets.values[c.name].astype(c.dtype) for c in schema}
        if number:
            at = jets.offsets[event] + 1 if next(c for c in schema if c.name == column).level == "point" else event
            values[column][at] = value
        write_events(folder / "train" / f"{number:05d}.arrow", Columns(schema, jets.offsets, values), {})
    return folder


FIT = replace(tiny.REPRESENT, fit_events=100)


def small_batches(recipe: Recipe, seed: int = 2) -> Recipe:
    """Over one epoch; the event comes neither first nor in the events that are standardised on."""
    return replace(recipe, represent=FIT, train=replace(recipe.train, steps=40, batches=Batches(8)), seed=seed)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_feature_that_is_not_finite_is_named_with_its_column(
    value: float, tmp_path: Path, updates: list[bool]
) -> None:
    recipe = small_batches(tiny.labels(str(spoiled(tmp_path / "data", "d0", value))))
    stopped(recipe, tmp_path / "run", updates, NonFiniteError, r"00001\.arrow row 70 .*file: d0; features .*symlog_d0")


def test_a_feature_that_its_columns_only_make_so_is_named(tmp_path: Path, updates: list[bool]) -> None:
    """A jet without momentum: each column is finite, the constituents' shares of it are not."""
    recipe = small_batches(tiny.labels(str(spoiled(tmp_path / "data", "jet_pt", 0.0))))
    stopped(recipe, tmp_path / "run", updates, NonFiniteError, r"row 70 \(.*file: nothing; .* not: log_pt_rel\)")


@pytest.mark.parametrize("points", [50_000_000, 2000])
def test_events_that_are_standardised_on_are_named(
    points: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read at once, or in parts, so that a long event does not pad all others."""
    monkeypatch.setattr("multiplet.training._POINTS_TO_FIT", points)
    data = spoiled(tmp_path / "data", "d0", float("nan"))
    recipe = replace(tiny.labels(str(data)), represent=replace(FIT, fit_events=300))
    with pytest.raises(DataError, match=r"cannot standardise: .*00001\.arrow row 70 \(not finite in the file: d0"):
        train(recipe, tmp_path / "run", progress=False)


@pytest.mark.parametrize(("value", "dtype"), [(3, ""), (120, ""), (float("nan"), "float32"), (3, "uint8")])
def test_a_label_that_no_class_has_is_named(value: Any, dtype: str, tmp_path: Path, updates: list[bool]) -> None:
    recipe = small_batches(tiny.labels(str(spoiled(tmp_path / "data", "label", value, dtype))))
    message = rf"00001\.arrow row 70: label is {value}.*its classes are 0 to 2 \(one, two, three\)"
    stopped(recipe, tmp_path / "run", updates, DataError, message)


def test_a_weight_that_is_not_finite_is_named(
    toys: Path, tmp_path: Path, updates: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ClassifyNet.weights

    def weights(self: ClassifyNet, tokens: Any, draws: Draws) -> dict[str, torch.Tensor]:
        out = real(self, tokens, draws)
        return {name: value.masked_fill(tokens.event == 220, torch.nan) for name, value in out.items()}

    monkeypatch.setattr(ClassifyNet, "weights", weights)
    recipe = small_batches(tiny.labels(str(toys), 60))
    stopped(recipe, tmp_path, updates, NonFiniteError, r"the weight of .*00001\.arrow row 70 [^;]*$")


def test_a_gradient_that_is_not_finite_under_a_finite_loss_stops_too(
    toys: Path, tmp_path: Path, updates: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = ClassifyNet.logits, []

    def logits(self: ClassifyNet, encoder: Any, tokens: Any) -> torch.Tensor:
        out = real(self, encoder, tokens)
        calls.append(1)
        if len(calls) == 4:
            out.register_hook(lambda gradient: gradient * torch.nan)
        return out

    monkeypatch.setattr(ClassifyNet, "logits", logits)
    message = r"step 3: stopped before the update.*losses of this rank's events are finite"
    stopped(tiny.labels(str(toys)), tmp_path, updates, NonFiniteError, message)
    assert len(updates) == 3


def test_parameters_that_an_update_made_overflow_are_not_saved(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Optimiser.step

    def step(self: Optimiser, number: int) -> None:
        real(self, number)
        if number == 7:  # the last before a save
            with torch.no_grad():
                self.inner.param_groups[0]["params"][0].fill_(torch.inf)

    monkeypatch.setattr(Optimiser, "step", step)
    with pytest.raises(NonFiniteError, match=r"step 8: an update made .* overflow: lower optim\.rate"):
        train(tiny.masked(str(toys)), tmp_path, progress=False)
    assert require_newest(tmp_path).step == 4


def test_the_log_is_json_whatever_the_numbers(tmp_path: Path) -> None:
    Log(tmp_path / "log").write("train", {"losses": {"a": float("nan"), "b": 0.5}, "lr": [float("inf")]})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    line = json.loads((tmp_path / "log").read_text(), parse_constant=refuse)
    assert line == {"kind": "train", "losses": {"a": None, "b": 0.5}, "lr": [None]}


def test_validation_that_weighs_nothing_says_nothing(tmp_path: Path) -> None:
    """Without a labelled event there is no loss; 0 would look like a good one."""
    data = write_toys(tmp_path / "data", 100, 60, 60)
    jets = toy_jets(60, 2)
    unlabelled = jets.values | {"label": np.full(60, -1, np.int16)}
    write_events(data / "validation" / "00000.arrow", Columns(SCHEMA, jets.offsets, unlabelled), {})
    train(tiny.labels(str(data), 5), tmp_path / "run", progress=False)
    assert [line["losses"] for line in log(tmp_path / "run") if line["kind"] == "validation"] == [{}]


def test_a_pretraining_loss_that_is_not_finite_is_not_left_out_of_its_mean(
    pretrained: Path, toys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from multiplet.recipe import open_run

    model, cloud = open_run(pretrained).model(), EventFiles(toys).read("test", np.arange(20))
    tokens = model.tokens(cloud)
    assert all(value.isfinite().all() for value in model.objective.predict(model.encoder, tokens).values())
    spoiled_x = tokens.targets["x"].masked_fill((tokens.event == 7)[:, None, None], torch.nan)
    with pytest.raises(NonFiniteError, match=r"not finite for the events at places \[7\]"):
        model.objective.predict(model.encoder, replace(tokens, x=spoiled_x, targets={"x": spoiled_x}))


# --- 8. one process a run ---------------------------------------------------------------------------------------------


def test_a_second_process_is_refused_and_told_by_whom(
    mortals: Mortals, toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, asked = tmp_path / "run", []
    real = Optimiser.step

    def step(self: Optimiser, number: int) -> None:
        if number == 5:
            asked.append(mortals.train(out=out, data=toys, steps=20))
        real(self, number)

    monkeypatch.setattr(Optimiser, "step", step)
    train(tiny.masked(str(toys)), out, progress=False)
    assert asked == [[2]]
    said = Path(f"{out}.said").read_text()
    assert f"RunError: {out} is in use by process {os.getpid()} on {socket.gethostname()}: wait until it ends" in said
    assert mortals.train(out=out, data=toys, steps=20) == [0]
    monkeypatch.undo()
    train(tiny.masked(str(toys)), tmp_path / "whole", progress=False)
    same(tmp_path / "whole", out)


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from multiplet.files import held\n"
        "with held(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(RunError, match=f"in use by process {process.pid} on "), held(tmp_path):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with held(tmp_path) as alone:
        assert alone
        with pytest.raises(RunError, match=f"in use by process {os.getpid()} on "), held(tmp_path):
            pass
    with held(tmp_path) as alone:
        assert alone


def test_a_file_system_without_locks_is_said_and_trained_on(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import fcntl

    def refuse(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert train(tiny.masked(str(toys), 2), tmp_path).step == 2
    assert "file system without locks" in capfd.readouterr().err


# --- 10. and 11. what a run starts with -------------------------------------------------------------------------------


def test_a_tuned_run_says_what_it_started_from_and_starts_from_nothing_else(
    pretrained: Path, toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, out = shutil.copytree(pretrained, tmp_path / "base"), tmp_path / "tuned"
    recipe = tiny.labels(str(toys), 8, FineTune(str(base)))

    def stop(self: Optimiser, number: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Optimiser, "step", stop)
        for _ in range(2):  # begun, and begun again, from step 8
            with pytest.raises(KeyboardInterrupt):
                train(recipe, out, progress=False)
    started = read_json(out / "recipe.json")["carried"]
    hashed = read_json(base / "checkpoints" / "step-00000008" / "manifest.json")["sha256"]["weights.safetensors"]
    assert started == f"{base} step 8 ({hashed[:12]})"
    shutil.rmtree(base / "checkpoints" / "step-00000008")
    with pytest.raises(RunError, match=r"tuned first started from .*base step 8 .* which is now .*step 4 .*remove"):
        train(recipe, out, progress=False)
    other = replace(recipe, adapt=FineTune(str(shutil.copytree(base, tmp_path / "other"))))
    assert train(other, out, progress=False).step == 8  # another recipe says so itself
    shutil.rmtree(tmp_path / "other")
    assert train(other, out, progress=False).step == 8  # done, with nothing to be carried any more
    assert "other step 4" in read_json(out / "recipe.json")["carried"]


@pytest.mark.slow
def test_what_is_fitted_is_fitted_by_the_first_rank_alone(mortals: Mortals, toys: Path, tmp_path: Path) -> None:
    task = {"data": toys, "steps": 4, "recipe": "codes"}
    for ranks in (1, 2):
        assert mortals.train(**task, out=tmp_path / str(ranks), ranks=ranks) == [0] * ranks
    one, two = (require_newest(tmp_path / str(ranks)).weights() for ranks in (1, 2))
    fitted = [name for name in one if name.startswith("represent")]
    assert "represent.tokenizer.centroids" in fitted
    assert all(torch.equal(one[name], two[name]) for name in fitted)
    # Were the second rank to fit, and to fit something else, it would have to fail.
    at = "multiplet.representation.tokenizers:KMeansNet.fit"
    assert mortals.train(**task, out=tmp_path / "killed", ranks=2, at=at)[0] == -9


@pytest.mark.slow
def test_ranks_need_not_reach_every_parameter_nor_have_an_event(mortals: Mortals, toys: Path, tmp_path: Path) -> None:
    for ranks in (1, 2):
        assert mortals.train(out=tmp_path / str(ranks), data=toys, steps=24, recipe="early", ranks=ranks) == [0] * ranks
    one, two = (require_newest(tmp_path / str(ranks)) for ranks in (1, 2))
    assert one.resume().keys() == two.resume().keys()  # what no rank reached has no state, as in one process
    assert "exp_avg|encoder.backbone.norm.gain" not in one.resume()
    for name, value in one.weights().items():
        torch.testing.assert_close(value.double(), two.weights()[name].double(), atol=2e-3, rtol=2e-2, msg=name)
    for first, second in zip(log(tmp_path / "1"), log(tmp_path / "2"), strict=True):
        assert first.get("losses", {}) == pytest.approx(second.get("losses", {}), rel=1e-3)


def test_ranks_that_see_different_checkpoints_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network disk that shows one node an older list of files."""
    theirs = 8.0
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: values.add_(theirs))
    Ranks(1, 2).agree(8, "the newest checkpoint at step")
    with pytest.raises(RunError, match=r"rank 1 has the newest checkpoint at step 4, and other ranks another"):
        Ranks(1, 2).agree(4, "the newest checkpoint at step")


# --- 12. foreign files ------------------------------------------------------------------------------------------------


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_foreign_files_in_a_run_change_nothing_and_are_neither_followed_nor_run(
    pretrained: Path, toys: Path, tmp_path: Path
) -> None:
    run, other = shutil.copytree(pretrained, tmp_path / "run"), shutil.copytree(pretrained, tmp_path / "other")
    shutil.rmtree(run / "checkpoints" / "step-00000008")
    shutil.move(other / "checkpoints" / "step-00000008", other / "step-00000099")
    steps = run / "checkpoints"
    (steps / "step-00000099").symlink_to(other / "step-00000099")
    (steps / "step-00000098").symlink_to(tmp_path / "nowhere")
    (steps / "foo").mkdir()
    (steps / "notes.txt").write_text("mine")
    for name in ("notes.txt", "sitecustomize.py", "recipe.py"):
        (run / name).write_text(f"import os; os.mkdir({str(tmp_path / 'mark')!r})")
    for place in (run / "weights.pt", steps / "step-00000004" / "optimizer.pkl", steps / "foo" / "manifest.json"):
        place.write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and is_foreign(path, run)}
    found, refused = newest(run)
    assert (found.step if found else None, refused) == (4, [])
    train(replace(tiny.masked(str(toys), 8)), run, progress=False)
    same(pretrained, run)
    assert {path: path.read_bytes() for path in before} == before
    assert (steps / "step-00000099").is_symlink()
    assert (other / "step-00000099" / "manifest.json").is_file()
    assert not (tmp_path / "mark").exists()


def is_foreign(path: Path, run: Path) -> bool:
    return run not in path.parents or path.suffix in (".txt", ".py", ".pt", ".pkl") or path.parent.name == "foo"


def test_a_file_of_others_in_a_checkpoint_outlives_it(toys: Path, tmp_path: Path) -> None:
    """What is removed is what was written, no more."""
    recipe = tiny.masked(str(toys), 12)
    recipe = replace(recipe, train=replace(recipe.train, keep=1))
    train(replace(recipe, train=replace(recipe.train, steps=4)), tmp_path, progress=False)
    note = tmp_path / "checkpoints" / "step-00000004" / "notes.txt"
    note.write_text("mine")
    train(recipe, tmp_path, progress=False)
    assert note.read_text() == "mine"
    assert os.listdir(note.parent) == ["notes.txt"]
    assert require_newest(tmp_path).step == 12


def test_every_test_that_the_document_names_exists() -> None:
    here = Path(__file__).parent
    named = set(re.findall(r"\btest_\w+\b(?!\.py)", (here.parent / "docs" / "guarantees.md").read_text()))
    there = {name for file in here.glob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())}
    assert len(named) > 30
    assert named <= there, named - there
