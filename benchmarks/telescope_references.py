"""Telescope references: how well hidden sensors are named without training, on the pulses that validation hides.

    python benchmarks/telescope_references.py data/telescope

Uniform: all sensors alike. Unigram: how often each has a pulse that is not auxiliary, in training events. Kernel: from
the visible pulses that are not auxiliary, weighted by exp(-|Δt|/400 ns) + 0.001, spread over the sensor itself and
three to each side of it on its string; 5 %, and what would fall off a string's end, is spread over all sensors.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from multiplet.data.batches import Batches, load, sequential
from multiplet.draws import FIXED
from multiplet.recipes.polarbert import polarbert
from multiplet.representation.telescope import MODULES
from multiplet.representation.tokens import Tokens

STRING = 60  # sensors
SPREAD = {0: 0.30, 1: 0.20, 2: 0.08, 3: 0.045}  # by distance on the string
DECAY, FLOOR = 400.0, 1e-3  # ns
COUNTED = 20_000  # training events of the unigram
CELLS = 5_000_000  # probabilities at a time


def unigram(counts: Tensor, rows: int) -> Tensor:
    """The same probabilities (rows, V) for every pulse; sensors never seen count one."""
    return ((counts + 1) / (counts + 1).sum()).expand(rows, -1)


def kernel(tokens: Tokens, time: Tensor, visible: Tensor, event: Tensor, slot: Tensor) -> Tensor:
    """Probabilities (n, V) of the sensors of hidden pulses, given by event and slot."""
    weight = torch.exp(-(time[event] - time[event, slot][:, None]).abs() / DECAY) + FLOOR
    weight = weight * visible[event]
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-12)
    sensor = tokens.ids["sensor_id"][event]
    found = weight.new_zeros(len(event), MODULES)
    for step in range(-max(SPREAD), max(SPREAD) + 1):
        other = sensor + step
        inside = other.div(STRING, rounding_mode="floor") == sensor // STRING
        found.scatter_add_(1, other.clamp(0, MODULES - 1), weight * SPREAD[abs(step)] * inside)
    return found + (1 - found.sum(1, keepdim=True)) / MODULES


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder of event files of a telescope")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    parser.add_argument("--events", type=int, default=3000)
    given = parser.parse_args()
    recipe = polarbert(str(given.data), tokens="pulses")
    files = recipe.data.open()
    model = recipe.build(files.schema)
    model.represent.fit(files.read("train", np.arange(min(200, files.size("train")))))

    counts = torch.zeros(MODULES)
    work = sequential(files, "train", Batches(512), min(COUNTED, files.size("train")))
    for cloud in (cloud for _, clouds in load(files, "train", work) for cloud in clouds):
        good = cloud.mask & (cloud.points["auxiliary"] == 0)
        counts += torch.bincount(cloud.points["sensor_id"][good].long(), minlength=MODULES)

    tables: dict[str, dict[str, list[Tensor]]] = {name: {"sensor": [], "top_1": []} for name in ("unigram", "kernel")}
    hidden = []
    work = sequential(
        files, given.split, Batches(512, points_at_once=20_000), min(given.events, files.size(given.split))
    )
    for cloud in (cloud for _, clouds in load(files, given.split, work) for cloud in clouds):
        tokens = model.tokens(cloud)
        time = model.represent.features.inverse(tokens.x)["time"]
        hide = model.objective.hidden(tokens, FIXED)
        visible = tokens.mask & ~hide & (tokens.ids["auxiliary"] == 0)
        hidden.append(hide.sum(1))
        places = hide.nonzero()
        answers: dict[str, dict[str, list[Tensor]]] = {name: {"sensor": [], "top_1": []} for name in tables}
        for event, slot in (part.unbind(1) for part in places.split(max(1, CELLS // (MODULES + tokens.x.shape[1])))):
            true = tokens.ids["sensor_id"][event, slot]
            for name, found in (
                ("unigram", unigram(counts, len(event))),
                ("kernel", kernel(tokens, time, visible, event, slot)),
            ):
                answers[name]["sensor"].append(-found.gather(1, true[:, None])[:, 0].log())
                answers[name]["top_1"].append((found.argmax(1) == true).float())
        for name, columns in answers.items():
            for what, values in columns.items():
                flat = torch.cat(values) if values else torch.zeros(0)
                total = torch.zeros(len(cloud)).index_add(0, places[:, 0], flat)
                tables[name][what].append(total / hidden[-1])  # 0/0 is NaN: nothing hidden

    print(f"{sum(map(len, hidden))} events of {given.data}/{given.split}; 68 % bootstrap intervals over events\n")
    print("| reference | cross-entropy (nats) | median | by pulse | perplexity | top-1 | nothing hidden |")
    print("|---" * 7 + "|")
    print(f"| uniform | {np.log(MODULES):.3f} | | | {MODULES} | | |")
    for name, columns in tables.items():
        table = {what: torch.cat(values).numpy() for what, values in columns.items()}
        metrics = model.objective.measure(table | {"hidden": torch.cat(hidden).numpy()}).metrics
        wanted = ("sensor", "sensor, median", "sensor, by pulse", "perplexity", "top-1", "nothing hidden")
        cells = (f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" for e in (metrics[name] for name in wanted))
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
