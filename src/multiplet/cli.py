"""The command line. It imports torch only inside a verb, so that help comes at once."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from multiplet.errors import MultipletError

app = typer.Typer(
    help="Foundation models for nuclear and particle physics: one encoder, pretrained without labels, for every task.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
simulators = typer.Typer(help="Make events with an embedded generator, offline.", no_args_is_help=True)
app.add_typer(simulators, name="simulate")

_STOPPED = 85  # exit code of a run that saved and left on a signal: HTCondor's for a self-checkpointing job


def main() -> None:
    """Run the command line; bad input becomes one clear line, not a traceback."""
    try:
        app()
    except MultipletError as error:
        Console(stderr=True).print(f"multiplet: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)


@simulators.command("jets")
def simulate_jets(
    out: Annotated[Path, typer.Option(help="Folder for the event files.")],
    events: Annotated[int, typer.Option(help="Accepted jets in all, over all classes and splits.")],
    seed: Annotated[int, typer.Option(help="Same seed, same jets, whatever the workers.")] = 1,
    processes: Annotated[str, typer.Option(help="Comma-separated classes; all ten where empty.")] = "",
    workers: Annotated[int, typer.Option(help="Processes at work.")] = 1,
    physical: Annotated[
        bool, typer.Option(help="A realistic tracker instead of the published sample's response.")
    ] = False,
) -> None:
    """JetClass-like jets: Pythia 8, FastJet and a fast CMS-like response (needs the extra `simulate`; GPL tools)."""
    from multiplet.progress import show
    from multiplet.simulation.blocks import simulate
    from multiplet.simulation.jets import LABELS, Jets

    wanted = tuple(name.strip() for name in processes.split(",") if name.strip()) or LABELS
    bar = show("simulate jets")
    made = simulate(
        Jets(wanted, not physical), out, events, seed, workers, progress=lambda n, of: bar.update(n, of, "")
    )
    bar.close()
    _say(f"{events} jets in {out}" if made else f"{out} already holds these {events} jets")


@app.command()
def convert(
    format: Annotated[str, typer.Argument(help="The published format of the files.")],
    sources: Annotated[list[Path], typer.Argument(help="Files to read.")],
    out: Annotated[Path, typer.Option(help="Folder for the event files.")],
    fractions: Annotated[str, typer.Option(help="Shares of training, validation and test.")] = "0.8,0.1,0.1",
) -> None:
    """Turn files of a published format into event files."""
    from multiplet.data.convert import convert as run
    from multiplet.data.formats import find

    try:
        train, validation, test = (float(share) for share in fractions.split(","))
    except ValueError:
        raise typer.BadParameter(f"{fractions!r} are not three numbers such as 0.8,0.1,0.1") from None
    counts = run(find(format), sources, out, (train, validation, test))
    _say(f"{sum(counts.values())} events in {out}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))


@app.command(context_settings={"ignore_unknown_options": True})
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or path.py:function.")],
    out: Annotated[Path, typer.Argument(help="The run folder; an unfinished run there goes on.")],
    changes: Annotated[
        list[str] | None, typer.Argument(help="argument=value of the recipe, or field.path=value.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train a recipe: `multiplet train maskdiff runs/pretrained data=data/jets steps=2000 train.workers=2`."""
    from multiplet.recipes.find import make_recipe
    from multiplet.training import train as run

    made = make_recipe(recipe, changes or [])
    name = recipe.rpartition(":")[2]
    finished = run(made, out, name=name, command=_command(), progress=not quiet)
    if finished.stopped_by:
        raise typer.Exit(_STOPPED)
    if os.environ.get("RANK", "0") == "0":  # under torchrun one rank speaks
        _say(f"{finished.run}: {finished.step} steps done")


@app.command()
def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    data: Annotated[str, typer.Option(help="Another folder of event files than the run was trained on.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Predict a split and measure it, with intervals: predictions.parquet and metrics.json in each run folder."""
    from multiplet.data.events import SPLITS
    from multiplet.evaluation.evaluate import evaluate as run
    from multiplet.evaluation.table import metrics_table
    from multiplet.progress import show
    from multiplet.spec import did_you_mean

    chosen = next((known for known in SPLITS if known == split), None)
    if chosen is None:
        raise typer.BadParameter(f"{split!r} is no split: {did_you_mean(split, SPLITS)}")
    for path in runs:
        bar = show(f"evaluate {path}")
        metrics = run(path, split=chosen, data=data or None, command=_command(), device=device, show=bar)
        bar.close()
        Console().print(metrics_table({path.name: metrics}))


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="One run, or several side by side.")],
    out: Annotated[Path | None, typer.Option(help="The page; report.html in the first run where not given.")] = None,
) -> None:
    """One self-contained page: metrics, curves, confusion, event displays, how to reproduce."""
    from multiplet.evaluation.summary import report as run

    _say(str(run(runs, out)))


@app.command()
def doctor() -> None:
    """What this machine has: versions, devices, extras, and what is missing for which verb."""
    from multiplet.diagnosis import doctor as run

    Console().print(run())


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where data and runs go; what is there already is used again.")] = Path(
        "demo"
    ),
    events: Annotated[int, typer.Option(help="Jets to simulate.")] = 6000,
    workers: Annotated[int, typer.Option(help="Processes that simulate.")] = 2,
) -> None:
    """From nothing to a report: simulate, pretrain without labels, fine-tune and train from scratch on few labels."""
    from multiplet.demonstration import demo as run

    page, table = run(out, events, workers)
    Console().print(table)
    _say(str(page))


def _command() -> str:
    return shlex.join(["multiplet", *sys.argv[1:]])


def _say(text: Any) -> None:
    Console().print(text, highlight=False, markup=False, soft_wrap=True)
