"""Checkpoints: folders step-00000100 of safetensors and JSON that are complete or do not count.

Each is written aside, flushed, given its manifest of hashes last, and renamed; the newest valid one wins.
`weights.safetensors` holds the weights to use (for schedule-free training the average x); `resume.safetensors` holds
what training goes on with: the parameters as they are (y) and the optimiser's state.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from multiplet.errors import CorruptError, RunError
from multiplet.files import flush, read_json, sha256, write_json

FORMAT = 1
_FILES = ("weights.safetensors", "resume.safetensors", "state.json")


@dataclass(frozen=True)
class Checkpoint:
    """One valid checkpoint, its hashes checked."""

    path: Path

    @property
    def step(self) -> int:
        """Updates done."""
        return int(self.path.name.removeprefix("step-"))

    def state(self) -> dict[str, Any]:
        """Everything that is not a tensor."""
        return read_json(self.path / "state.json")

    def weights(self) -> dict[str, Tensor]:
        """The weights to use; RunError where the file holds those of training mode."""
        return _load(self.path / "weights.safetensors", "x")

    def resume(self) -> dict[str, Tensor]:
        """Parameters as training left them ("parameter|NAME") and optimiser state ("STATE|NAME")."""
        return _load(self.path / "resume.safetensors", "y")


def write_checkpoint(
    run: Path, step: int, weights: dict[str, Tensor], resume: dict[str, Tensor], state: dict[str, Any], keep: int = 2
) -> Path:
    """Write one checkpoint and remove all but the newest `keep`; gives its folder."""
    folder = run / "checkpoints" / f"step-{step:08d}"
    aside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name, tensors, kind in (("weights", weights, "x"), ("resume", resume, "y")):
        file = aside / f"{name}.safetensors"
        held = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        save_file(held, file, metadata={"weights_are": kind})
        flush(file)
    write_json(aside / "state.json", state)
    hashes = {name: sha256(aside / name) for name in _FILES}
    write_json(aside / "manifest.json", {"format": FORMAT, "step": step, "sha256": hashes})
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(aside, folder)
    flush(folder.parent)
    _prune(folder.parent, keep)
    return folder


def newest(run: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest valid checkpoint of a run, if any, and why newer ones were passed over."""
    refused = []
    for path in sorted((run / "checkpoints").glob("step-*"), reverse=True):
        if fault := _fault(path):
            refused.append(fault)
        else:
            return Checkpoint(path), refused
    return None, refused


def require_newest(run: Path) -> Checkpoint:
    """The newest valid checkpoint; RunError where there is none."""
    found, refused = newest(run)
    if found is None:
        why = "; ".join(refused) or f"{run / 'checkpoints'} holds none"
        raise RunError(f"{run} has no checkpoint to load ({why}): train it first, or correct the path")
    return found


def _fault(path: Path) -> str:
    """Why a folder is no valid checkpoint; empty where it is one."""
    try:
        manifest = read_json(path / "manifest.json")
        if manifest["format"] != FORMAT:
            return f"{path} has format {manifest['format']}, this version reads {FORMAT}"
        wrong = [name for name in _FILES if sha256(path / name) != manifest["sha256"][name]]
    except (OSError, KeyError, TypeError, CorruptError) as error:
        return f"{path} is incomplete ({error})"
    return f"{path}: {wrong} are not what was written" if wrong else ""


def _prune(folder: Path, keep: int) -> None:
    complete = sorted(folder.glob("step-*"))
    for old in complete[: max(len(complete) - keep, 0)]:
        # Losing the manifest first, so that a kill in between leaves a folder that does not count.
        with contextlib.suppress(FileNotFoundError):
            (old / "manifest.json").unlink()
        shutil.rmtree(old, ignore_errors=True)


def _load(path: Path, kind: str) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            are = (file.metadata() or {}).get("weights_are")
        if are != kind:
            raise RunError(f"{path} holds weights of kind {are!r} where {kind!r} (x: to use, y: to train on) is needed")
        return load_file(path)
    except SafetensorError as error:
        raise CorruptError(f"{path} is damaged ({error})") from error
