"""Checkpoints: complete or not counted, whatever kills the process or flips a bit, and the newest valid one wins."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from multiplet import checkpoint, files
from multiplet.checkpoint import Checkpoint, newest, require_newest, write_checkpoint
from multiplet.errors import CorruptError, RunError

FILES = ("manifest.json", "resume.safetensors", "state.json", "weights.safetensors")


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk would be all that these tests do."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def content(step: int) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Weights, what to resume with, and state, of all kinds of tensor that training keeps."""
    generator = torch.Generator().manual_seed(step)
    matrix = torch.randn(3, 4, generator=generator)
    weights = {"a": matrix.t(), "b": torch.zeros(0), "fitted": torch.tensor(True)}
    resume = {"parameter|a": matrix + 1, "exp_avg|a": matrix.bfloat16(), "step|a": torch.tensor(float(step))}
    return weights, resume, {"step": step, "optimiser": {"rate": 0.1}, "name": "µ"}


def write(run: Path, step: int, keep: int = 2) -> Path:
    weights, resume, state = content(step)
    return write_checkpoint(run, step, weights, resume, state, keep)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return {name: (t.dtype, t.tolist()) for name, t in one.items()} == {
        name: (t.dtype, t.tolist()) for name, t in other.items()
    }


def holds(found: Checkpoint | None, step: int) -> bool:
    """Whether a checkpoint is that of a step, to the last bit."""
    weights, resume, state = content(step)
    return (
        found is not None
        and found.step == step
        and equal(found.weights(), weights)
        and equal(found.resume(), resume)
        and found.state() == state
    )


def steps(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_what_is_written_is_read_back_to_the_last_bit(tmp_path: Path) -> None:
    folder = write(tmp_path, 100)
    assert folder == tmp_path / "checkpoints" / "step-00000100"
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert holds(require_newest(tmp_path), 100)
    assert newest(tmp_path) == (Checkpoint(folder), [])


def test_files_are_readable_by_whom_the_umask_lets(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    folder = write(tmp_path, 1)
    assert {(folder / name).stat().st_mode for name in FILES} == {(tmp_path / "other").stat().st_mode}


def test_the_newest_step_wins_by_number(tmp_path: Path) -> None:
    for step in (99_999_999, 5, 100_000_000):
        write(tmp_path, step, keep=5)
    assert require_newest(tmp_path).step == 100_000_000


def test_a_run_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    assert newest(tmp_path) == (None, [])
    with pytest.raises(RunError, match=r"has no checkpoint to load .*holds none.*: train it first"):
        require_newest(tmp_path)


# --- pruning ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 1, 2, 3, 10])
def test_only_the_newest_are_kept(tmp_path: Path, keep: int) -> None:
    for step in range(1, 6):
        write(tmp_path, step, keep)
    assert steps(tmp_path) == [f"step-{step:08d}" for step in range(1, 6)][-max(keep, 1) :]


def test_a_damaged_later_checkpoint_does_not_push_out_the_one_just_written(tmp_path: Path) -> None:
    write(tmp_path, 100)
    (write(tmp_path, 300) / "state.json").write_bytes(b"{}")
    assert newest(tmp_path)[0] == Checkpoint(tmp_path / "checkpoints" / "step-00000100")
    write(tmp_path, 200, keep=1)
    assert steps(tmp_path) == ["step-00000200", "step-00000300"]
    assert holds(require_newest(tmp_path), 200)
    write(tmp_path, 300, keep=1)
    assert (steps(tmp_path), holds(require_newest(tmp_path), 300)) == (["step-00000300"], True)


def test_a_folder_that_cannot_be_removed_does_not_stop_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1, keep=1)
    real = os.unlink

    def busy(path: Any, **options: Any) -> None:
        if str(path).endswith("weights.safetensors"):
            raise OSError("busy")
        real(path, **options)

    monkeypatch.setattr(os, "unlink", busy)
    write(tmp_path, 2, keep=1)
    monkeypatch.undo()
    assert steps(tmp_path) == ["step-00000001", "step-00000002"]
    shutil.rmtree(tmp_path / "checkpoints" / "step-00000002")
    assert newest(tmp_path)[0] is None  # what is left of the first one does not count
    write(tmp_path, 3, keep=1)
    assert steps(tmp_path) == ["step-00000003"]


# --- damage -----------------------------------------------------------------------------------------------------------


def refused(run: Path) -> str:
    """Why step 2 was passed over for step 1, which is whole."""
    found, reasons = newest(run)
    assert holds(found, 1)
    assert len(reasons) == 1
    assert "step-00000002" in reasons[0]
    return reasons[0]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write(tmp_path, 1)
    write(tmp_path, 2)
    return tmp_path


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_bit_is_seen(run: Path, name: str) -> None:
    """250 flips in each file, its ends among them: all are seen, none is harmless."""
    path = run / "checkpoints" / "step-00000002" / name
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in (0, len(whole) - 1, *rng.integers(0, len(whole), 248).tolist()):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        refused(run)
    path.write_bytes(whole)
    assert holds(newest(run)[0], 2)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_or_missing_file_is_seen(run: Path, name: str) -> None:
    path = run / "checkpoints" / "step-00000002" / name
    whole = path.read_bytes()
    for size in {*np.linspace(0, len(whole) - 2, 200).astype(int).tolist()}:
        path.write_bytes(whole[:size])
        refused(run)
    path.unlink()
    assert name in refused(run)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 0}, "has format 0: it was damaged"),
        ({"format": "2"}, "has format '2': it was damaged"),
        ({"format": True}, "has format True: it was damaged"),
        ({"step": 3}, "was written as that of step 3"),
        ({"sha256": []}, "is incomplete or damaged"),
        ({"sha256": {}}, "is incomplete or damaged ('weights.safetensors')"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(run: Path, change: dict[str, Any], reason: str) -> None:
    path = run / "checkpoints" / "step-00000002" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert reason in refused(run)


def test_a_checkpoint_of_a_newer_version_is_not_passed_over(run: Path) -> None:
    path = run / "checkpoints" / "step-00000002" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": checkpoint.FORMAT + 1}))
    before = [file.read_bytes() for file in sorted(path.parent.iterdir())]
    with pytest.raises(RunError, match=r"step-00000002 has format 2 .* reads up to 1: a newer version wrote it"):
        newest(run)
    assert [file.read_bytes() for file in sorted(path.parent.iterdir())] == before


def test_all_reasons_are_given_where_none_is_valid(run: Path) -> None:
    for step in (1, 2):
        (run / "checkpoints" / f"step-{step:08d}" / "weights.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match=r"step-00000002: weights\.safetensors changed after writing; .*step-00000001"):
        require_newest(run)


def test_what_is_not_called_as_a_checkpoint_is_none(run: Path) -> None:
    folder = run / "checkpoints"
    for name in ("step-00000009 (copy)", "step-00000009.bak", "step-9", ".step-00000009.tmp", "step-best"):
        shutil.copytree(folder / "step-00000002", folder / name)
    (folder / "step-00000010").touch()
    found, reasons = newest(run)
    assert holds(found, 2)
    assert len(reasons) == 1
    assert "step-00000010 is incomplete" in reasons[0]


# --- x and y ----------------------------------------------------------------------------------------------------------


def test_weights_to_use_and_weights_to_train_on_cannot_be_confused(run: Path) -> None:
    found = require_newest(run)
    one, other = found.path / "weights.safetensors", found.path / "resume.safetensors"
    whole = one.read_bytes(), other.read_bytes()
    one.write_bytes(whole[1])
    other.write_bytes(whole[0])
    with pytest.raises(RunError, match=r"weights\.safetensors holds weights of kind 'y' where 'x'"):
        found.weights()
    with pytest.raises(RunError, match=r"resume\.safetensors holds weights of kind 'x' where 'y'"):
        found.resume()
    assert "resume.safetensors changed" in refused(run)


def test_weights_that_do_not_say_which_they_are_are_refused(run: Path) -> None:
    found = require_newest(run)
    with safe_open(found.path / "weights.safetensors", "pt") as file:
        assert file.metadata() == {"weights_are": "x"}
    checkpoint.save_file({"a": torch.zeros(1)}, found.path / "weights.safetensors")
    with pytest.raises(RunError, match="of kind None where 'x'"):
        found.weights()


def test_damage_after_the_check_is_named(run: Path) -> None:
    found = require_newest(run)
    (found.path / "weights.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(CorruptError, match=r"weights\.safetensors is damaged") as caught:
        found.weights()
    assert isinstance(caught.value.__cause__, SafetensorError)


# --- a kill at every step of the write --------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


STEPS: tuple[tuple[Any, str], ...] = (
    (checkpoint, "save_file"),
    (checkpoint, "flush"),
    (checkpoint, "write_json"),
    (checkpoint, "sha256"),
    (files, "flush"),
    (os, "mkdir"),
    (os, "replace"),
    (os, "rename"),
    (os, "unlink"),
    (os, "rmdir"),
    (shutil, "rmtree"),
)


class Mortal:
    """Lets calls of the steps of a write pass, and dies at the n-th: before doing it, after it, or half-way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, last: int, when: str) -> None:
        self.calls, self.last, self.when = 0, last, when
        for module, name in STEPS:
            monkeypatch.setattr(module, name, self.wrap(name, getattr(module, name)))

    def wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls < self.last:
                return real(*arguments, **options)
            if self.calls == self.last and self.when != "before":
                real(*arguments, **options)
                if self.when == "half" and name == "save_file":
                    os.truncate(arguments[1], 50)
            raise Killed

        return call


def killed(run: Path, step: int, last: int, when: str) -> bool:
    """Write a step and die at the n-th call; False where the write was over before it."""
    with pytest.MonkeyPatch.context() as patch:
        Mortal(patch, last, when)
        try:
            write(run, step)
        except Killed:
            return True
    return False


@pytest.mark.parametrize("when", ["before", "half"])
def test_a_kill_at_any_step_of_the_write_leaves_a_valid_checkpoint(tmp_path: Path, when: str) -> None:
    for step in (1, 2):
        write(tmp_path / "run", step)
    left = tmp_path / "run" / "checkpoints" / ".step-00000002.tmp"
    left.mkdir()
    (left / "weights.safetensors").write_bytes(b"left by an earlier kill")
    for last in range(1, 100):
        run = shutil.copytree(tmp_path / "run", tmp_path / str(last))
        if not killed(run, 3, last, when):
            break
        found, _ = newest(run)
        assert holds(found, 3) or holds(found, 2)
        write(run, 3)  # the process that comes after
        assert steps(run) == ["step-00000002", "step-00000003"]
        assert holds(newest(run)[0], 3)
    assert 20 < last < 99
    assert (steps(run), holds(newest(run)[0], 3)) == (["step-00000002", "step-00000003"], True)


def test_a_kill_at_any_step_of_the_very_first_write_leaves_none_or_a_valid_one(tmp_path: Path) -> None:
    for last in range(1, 100):
        run = tmp_path / str(last)
        if not killed(run, 1, last, "before"):
            break
        found, _ = newest(run)
        assert found is None or holds(found, 1)
    assert 10 < last < 99


def test_a_kill_while_a_step_is_written_again_leaves_an_older_one(tmp_path: Path) -> None:
    for last in range(1, 100):
        run = tmp_path / str(last)
        write(run, 1)
        write(run, 2)
        if not killed(run, 2, last, "before"):
            break
        found, _ = newest(run)
        assert holds(found, 1) or holds(found, 2)
    assert 10 < last < 99
