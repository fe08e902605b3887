"""Demo: the whole way on a few thousand simulated jets: pretrain, fine-tune, train from scratch, evaluate, report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.table import Table

from multiplet.data.batches import Batches
from multiplet.evaluation.displays import jet_displays
from multiplet.evaluation.evaluate import evaluate
from multiplet.evaluation.report import report
from multiplet.evaluation.table import metrics_table
from multiplet.progress import show
from multiplet.recipe import Recipe
from multiplet.recipes.maskdiff import jet_classes, maskdiff
from multiplet.simulation.blocks import simulate
from multiplet.simulation.jets import Jets
from multiplet.training import train


def demo(out: Path, events: int = 6000, workers: int = 2, labels: int = 1000) -> tuple[Path, Table]:
    """Run it in the folder `out`; gives the report's path and the table of results. What is there is used again."""
    data = out / "jets"
    bar = show("simulate jets")
    simulate(Jets(), data, events, seed=1, workers=workers, progress=lambda done, total: bar.update(done, total, ""))
    bar.close()
    pretrained = out / "pretrained"
    runs = {
        pretrained: _small(maskdiff(str(data), width=64, steps=600)),
        out / "fine-tuned": jet_classes(str(pretrained), str(data), labels, steps=200),
        out / "from-scratch": _small(jet_classes("", str(data), labels, steps=200, width=64)),
    }
    metrics = {}
    for path, recipe in runs.items():
        train(recipe, path, name=path.name, command=f"multiplet demo --out {out}")
        metrics[path.name] = evaluate(path, command=f"multiplet evaluate {path}")
    page = report(list(runs), out / "report.html", figures=jet_displays(out / "fine-tuned"))
    tasks = {name: value for name, value in metrics.items() if name != pretrained.name}
    return page, metrics_table(tasks)


def _small(recipe: Recipe) -> Recipe:
    """For two cores: batches of 128."""
    return replace(recipe, train=replace(recipe.train, batches=Batches(128)))
