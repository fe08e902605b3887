"""How the golden run folders here were made: `PYTHONPATH=tests python tests/golden/make.py FOLDER`.

For a folder of a new format (run-2, beside run-1), never to write an old one again: those are what users have on disk.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch

import tiny
from multiplet.backbones.transformer import Transformer
from multiplet.data.batches import Batches
from multiplet.encoder import Encode
from multiplet.evaluation.evaluate import evaluate
from multiplet.files import write_json
from multiplet.objectives.decoder import CrossDecoder
from multiplet.objectives.diffusion import Diffusion
from multiplet.objectives.masked import Masked
from multiplet.optim import ScheduleFree
from multiplet.parametrisation import MuP
from multiplet.recipe import Recipe, Train
from multiplet.training import train
from multiplet.transfer import FineTune
from toys import write_toys

STEPS, LONGER = 6, 10
_TRAIN = Train(STEPS, Batches(16), log_every=1, validate_every=3, validation_events=8, save_every=3, keep=1)


def recipes() -> dict[str, Recipe]:
    """A pretraining and a task on it, both without a schedule, so that they can be given more steps."""
    encode = Encode(Transformer(8, 1, head_dim=4), MuP(base_width=8, base_depth=1))
    both = {"encoder": encode, "optim": ScheduleFree(rate=3e-3, warmup=2), "train": _TRAIN}
    represent = replace(tiny.REPRESENT, fit_events=24)
    target = Diffusion(width=8, depth=1, repeats=1, fixed_repeats=2, reference=False)
    masked = Masked(decoder=CrossDecoder(1, head_dim=4), target=target)
    return {
        "pretrained": replace(tiny.masked("data"), represent=represent, objective=masked, **both),
        "tuned": replace(tiny.labels("data"), represent=represent, adapt=FineTune("pretrained"), **both),
    }


def losses(run: Path) -> dict[str, dict[str, float]]:
    """Training losses by step, as the log has them."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {str(line["step"]): line["losses"] for line in lines if line["kind"] == "train"}


def make(folder: Path) -> None:
    """Two runs of STEPS steps with their events and predictions; longer.json: the losses on the way to LONGER."""
    write_toys(folder / "data", train=24, validation=8, test=12, least=3, most=8)
    os.chdir(folder)  # so that recipes hold relative paths
    longer = {}
    for name, recipe in recipes().items():
        train(recipe, name, name=name, progress=False)
        evaluate(name)
        shutil.copytree(name, f"{name}-longer")
        train(replace(recipe, train=replace(recipe.train, steps=LONGER)), f"{name}-longer", name=name, progress=False)
        longer[name] = losses(Path(f"{name}-longer"))
        shutil.rmtree(f"{name}-longer")
    write_json(Path("longer.json"), longer)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if Path(sys.argv[1]).exists():
        sys.exit(f"{sys.argv[1]} exists: a golden folder is never written again")
    make(Path(sys.argv[1]))
