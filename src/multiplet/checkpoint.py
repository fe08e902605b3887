"""Checkpoints: folders step-00000100 of safetensors and JSON that are complete or do not count.

Each is written aside, flushed, given its manifest of hashes last, and renamed; the newest valid one wins.
`weights.safetensors` holds the weights to use (for schedule-free training the average x); `resume.safetensors` holds
what training goes on with: the parameters as they are (y) and the optimiser's state.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
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
        return _step(self.path)

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
    run: Path,
    step: int,
    weights: Mapping[str, Tensor],
    resume: Mapping[str, Tensor],
    state: Mapping[str, Any],
    keep: int = 2,
) -> Path:
    """Write one checkpoint and remove all but the newest `keep` up to this step; gives its folder.

    RunError where it cannot be written, as on a full disk; older ones are left alone then.
    """
    folder = run / "checkpoints" / f"step-{step:08d}"
    aside = folder.with_name(f".{folder.name}.tmp")
    for left in folder.parent.glob(".step-*.tmp"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        _write_tensors(aside / "weights.safetensors", weights, "x")
        _write_tensors(aside / "resume.safetensors", resume, "y")
        write_json(aside / "state.json", dict(state))
        hashes = {name: sha256(aside / name) for name in _FILES}
        write_json(aside / "manifest.json", {"format": FORMAT, "step": step, "sha256": hashes})
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(aside, folder)
        flush(folder.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)  # on a full disk its bytes are wanted
        size = sum(tensor.numel() * tensor.element_size() for tensor in [*weights.values(), *resume.values()])
        raise RunError(
            f"{folder} could not be written ({error}): free space (a checkpoint takes {size / 1e6:.1f} MB), and give "
            f"the same command again; it goes on from {_left(run)}"
        ) from error
    for old in [path for path in _folders(run) if _step(path) <= step][max(keep, 1) :]:
        _remove(old)  # what is left of it, after a kill or on a network disk, does not count
    return folder


def _left(run: Path) -> str:
    found, _ = newest(run)
    return f"step {found.step}" if found else "the start: there is no older checkpoint"


def _remove(folder: Path) -> None:
    """Remove a checkpoint; files of others in its folder stay."""
    for name in ("manifest.json", *_FILES):  # without its manifest it does not count any more
        with suppress(OSError):
            (folder / name).unlink()
    with suppress(OSError):
        folder.rmdir()


def newest(run: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest valid checkpoint of a run, if any, and why newer ones were passed over.

    RunError where a newer version of multiplet wrote one: to go on before it would be to lose it.
    """
    refused = []
    for path in _folders(run):
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


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _folders(run: Path) -> list[Path]:
    """The folders that are called as checkpoints are, the newest first; a link is none, wherever it leads."""
    paths = (run / "checkpoints").glob("step-*")
    named = (path for path in paths if re.fullmatch(r"step-\d{8,}", path.name) and not path.is_symlink())
    return sorted(named, key=_step, reverse=True)


def _fault(path: Path) -> str:
    """Why a folder is no valid checkpoint; empty where it is one. RunError for one of a newer version."""
    try:
        manifest = read_json(path / "manifest.json")
        number = manifest["format"]
        if type(number) is int and number > FORMAT:
            raise RunError(
                f"{path} has format {number} and this version of multiplet reads up to {FORMAT}: a newer version wrote "
                "it; install that one, or choose another folder"
            )
        if type(number) is not int or number < 1:
            return f"{path} has format {number!r}: it was damaged or written by hand"
        wrong = [name for name in _FILES if sha256(path / name) != manifest["sha256"][name]]
        if manifest["step"] != _step(path):
            return f"{path} was written as that of step {manifest['step']}"
    except (OSError, KeyError, TypeError, CorruptError) as error:
        return f"{path} is incomplete or damaged ({error})"
    return f"{path}: {', '.join(wrong)} changed after writing" if wrong else ""


def _write_tensors(path: Path, tensors: Mapping[str, Tensor], kind: str) -> None:
    """One safetensors file that says which weights it holds, flushed, with the mode that other files get."""
    path.touch()
    mode = path.stat().st_mode  # safetensors itself makes files that only their owner reads
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(held, path, metadata={"weights_are": kind})
    path.chmod(mode)
    flush(path)


def _load(path: Path, kind: str) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            are = (file.metadata() or {}).get("weights_are")
        if are != kind:
            raise RunError(f"{path} holds weights of kind {are!r} where {kind!r} (x: to use, y: to train on) is needed")
        return load_file(path)
    except SafetensorError as error:
        raise CorruptError(f"{path} is damaged ({error})") from error
