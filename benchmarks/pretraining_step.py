"""Where the time of a pretraining step goes, in ms of processor time, and how fast it could be on this core.

One thread. Each set of features and width runs in a process of its own, in turn with the sources of another version
where `--beside` names them, several times; every batch is run twice and the second time counts. Medians are quoted.
Gflop/s are those of `pretraining_flops`, which counts no bystander, no padding, and the noise head as published.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from torch import nn

from multiplet.data.batches import Plan
from multiplet.draws import Draws
from multiplet.flops import pretraining_flops
from multiplet.objectives.masked import MaskedNet
from multiplet.recipes import maskdiff

BATCH = 256
HERE = str(Path(__file__).parents[1] / "src")


class Clock:
    """Processor time by part, in seconds; what runs within a part of a part counts in both."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Counts the time within it."""
        begun = process_time()
        yield
        self.spent[name] += process_time() - begun

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time counted."""

        def timed(*given: Any, **named: Any) -> Any:
            with self.part(name):
                return function(*given, **named)

        return timed


def measure(data: str, features: str, width: int, steps: int) -> dict[str, float]:
    """Seconds a step by part, events/s, Gflop/s, and the shares of padding."""
    torch.set_num_threads(1)
    recipe = maskdiff(data, width=width, depth=4, batch=BATCH, features=features)
    dataset = recipe.data.open()
    model = recipe.build(dataset.schema)
    model.represent.fit(dataset.read("train", np.arange(1000)))
    clock = Clock()
    optimiser = recipe.optim.build(model, recipe.encoder.param, 1000)
    works = list(Plan(dataset.lengths("train"), recipe.train.batches, 0).work(0, steps))
    _watch(model, clock)
    operations = events = slots = seen = wanted = asked = 0
    for number, work in enumerate(work for work in works for _ in range(2)):
        if number % 2 == 0:
            held = dict(clock.spent)
        with clock.part("step"):
            with clock.part("reading"):
                cloud = dataset.read("train", work.parts[0])
            draws = Draws(0, work.step)
            with clock.part("tokens"):
                tokens = model.tokens(cloud, draws)
            optimiser.zero_grad()
            with clock.part("forward"):
                losses = model(tokens, draws)
                loss = torch.stack([value.mean() for value in losses.values()]).sum()
            with clock.part("backward"):
                loss.backward()
            with clock.part("clipping, optimiser"):
                nn.utils.clip_grad_norm_(list(model.parameters()), 1.0)
                optimiser.step(work.step)
        if number % 2 == 0:  # of the first time nothing counts: oneDNN makes its kernels then
            clock.spent.clear()
            clock.spent.update(held)
            continue
        count = pretraining_flops(model, tokens.mask.sum(1))
        masks = model.objective.draw(tokens, draws)
        operations, events = operations + count.training, events + len(tokens)
        slots, seen = slots + masks.visible_mask.numel(), seen + int(masks.visible_mask.sum())
        asked, wanted = asked + masks.predicted_mask.numel(), wanted + int(masks.predicted_mask.sum())
    spent = clock.spent
    named = ("masks", "noise and times", "encoder", "decoder", "noise head", "reference head")
    spent["other forward"] = spent.pop("forward") - sum(spent[name] for name in named)
    return {name: value / steps * 1e3 for name, value in spent.items()} | {
        "events/s": events / spent["step"],
        "Gflop/s": operations / spent["step"] / 1e9,
        "padding, encoder": 1 - seen / slots,
        "padding, predicted": 1 - wanted / asked,
    }


def _watch(model: nn.Module, clock: Clock) -> None:
    objective = model.objective
    parts = {"encoder": model.encoder, "decoder": objective.decoder, "noise head": objective.target.head}
    for name, module in (parts | {"reference head": objective.target.reference}).items():
        module.forward = clock.around(name, module.forward)
    MaskedNet.draw = clock.around("masks", MaskedNet.draw)
    type(objective.target)._draw = clock.around("noise and times", type(objective.target)._draw)


def peak(width: int) -> dict[str, float]:
    """Gflop/s of plain FP32 products: a large square one, and those of the model with 6,400 rows."""
    torch.set_num_threads(1)
    shapes = {"square": (2048, 2048, 2048), "d × d": (6400, width, width), "d × 4d": (6400, width, 4 * width)}
    found = {}
    for name, (rows, inner, columns) in shapes.items():
        x, weight = torch.randn(rows, inner), torch.randn(columns, inner)
        ways = {"": torch.nn.functional.linear}
        if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
            ways[", oneDNN"] = lambda x, weight: torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
        for way, product in ways.items():
            product(x, weight)
            times = []
            for _ in range(5):
                begun = process_time()
                for _ in range(4):
                    product(x, weight)
                times.append((process_time() - begun) / 4)
            found[name + way] = 2 * rows * inner * columns / float(np.median(times)) / 1e9
    return found


def apart(source: str, *given: Any) -> dict[str, float]:
    """`measure` in a fresh process, with the sources in this folder."""
    environment = os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--alone", json.dumps(given)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default="data/jets")
    parser.add_argument("--beside", help="folder src of another version, to be compared with")
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--features", nargs="+", default=["relative", "all"])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(measure(*json.loads(given.alone))))
        return
    sources = {"this": HERE} | ({"beside": given.beside} if given.beside else {})
    cases = [(width, features) for width in given.widths for features in given.features]
    results: dict[tuple[int, str, str], list[dict[str, float]]] = defaultdict(list)
    for _ in range(given.rounds):
        for width, features in cases:
            for name, source in sources.items():
                results[width, features, name].append(apart(source, given.data, features, width, given.steps))
    columns = list(results)
    print("| | " + " | ".join(f"{width} {features}, {name}" for width, features, name in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for row in results[columns[0]][0]:
        values = [float(np.median([one[row] for one in results[column]])) for column in columns]
        text = [f"{value:.1%}" if row.startswith("padding") else f"{value:,.1f}" for value in values]
        print(f"| {row} | " + " | ".join(text) + " |")
    for width in given.widths:
        print(f"Gflop/s of plain products, d = {width}: " + ", ".join(f"{k} {v:.0f}" for k, v in peak(width).items()))


if __name__ == "__main__":
    main()
