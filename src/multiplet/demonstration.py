"""Demo: the whole way on a few thousand simulated jets: pretrain, fine-tune, train from scratch, evaluate, report."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from multiplet.campaign import complete
from multiplet.evaluation.summary import report
from multiplet.evaluation.table import metrics_table
from multiplet.progress import show
from multiplet.recipes.maskdiff import jet_classes, maskdiff
from multiplet.simulation.blocks import simulate
from multiplet.simulation.jets import Jets

WIDTH = 64  # a quarter of a million parameters: enough to see how things go, small enough for a laptop
SHOWN = ("accuracy", "auc", "rejection Hbb at 50.0%", "rejection Tbqq at 50.0%", "rejection Hqql at 99.0%",
         "rejection Tbl at 99.5%")  # fmt: skip


def demo(
    out: Path, events: int = 6000, workers: int = 2, labels: int = 500, steps: int = 2500, tuning: int = 80
) -> tuple[Path, Table]:
    """Run it in the folder `out`; gives the report's path and the table of results. What is there is used again.

    `steps` of pretraining on all training jets without their labels; `tuning` steps on the first `labels` of them.
    """
    data, command = out / "jets", f"multiplet demo --out {out} --events {events}"
    bar = show("simulate jets")
    simulate(Jets(), data, events, seed=1, workers=workers, progress=lambda done, total: bar.update(done, total, ""))
    bar.close()
    first, tuned, scratch = (out / name for name in ("pretrained", "fine-tuned", "from-scratch"))
    recipe = maskdiff(str(data), width=WIDTH, steps=steps, batch=128)
    metrics = [complete(first, recipe, command)]
    metrics.append(complete(tuned, jet_classes(str(first), str(data), labels, steps=tuning), command))
    metrics.append(complete(scratch, jet_classes("", str(data), labels, steps=tuning, width=WIDTH), command))
    page = report([first, tuned, scratch], out / "report.html")
    return page, metrics_table({tuned.name: metrics[1], scratch.name: metrics[2]}, SHOWN)
