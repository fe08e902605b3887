"""The command line. It imports torch only inside a verb, so that help comes at once."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from multiplet.errors import STOPPED, MultipletError, printable, refused

if TYPE_CHECKING:
    from multiplet.data.splits import Fractions

app = typer.Typer(
    help="Foundation models for nuclear and particle physics: one encoder, pretrained without labels, for every task.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
simulators = typer.Typer(help="Make events with an embedded generator, offline.", no_args_is_help=True)
app.add_typer(simulators, name="simulate")

_KNOWN = "A Python file with classes of your own in the recipe."


def main() -> None:
    """Run the command line; bad input and what the disk refuses become one clear line, not a traceback."""
    try:
        app()
    except MultipletError as error:
        _fail(str(error))
    except OSError as error:
        _fail(refused(error))


def _fail(text: str) -> NoReturn:
    text = printable(f"multiplet: {text}")
    Console(stderr=True).print(text, style="red", markup=False, highlight=False, soft_wrap=True)
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
    format: Annotated[
        str, typer.Option(help="events, or root: files in JetClass's layout, one class each, without splits.")
    ] = "events",
) -> None:
    """JetClass-like jets: Pythia 8, FastJet and a fast CMS-like response (needs the extra `simulate`; GPL tools)."""
    from multiplet.simulation.blocks import simulate
    from multiplet.simulation.jet_files import simulate_root
    from multiplet.simulation.jets import LABELS, Jets

    if format not in ("events", "root"):
        raise typer.BadParameter(f"{format!r} is neither events nor root")
    jets = Jets(_names(processes) or LABELS, not physical)
    _simulate("jets", simulate_root if format == "root" else simulate, jets, out, events, seed, workers, "jets")


@simulators.command("tpc")
def simulate_tpc(
    out: Annotated[Path, typer.Option(help="Folder for the event files.")],
    events: Annotated[int, typer.Option(help="Events in all, over all processes and splits.")],
    seed: Annotated[int, typer.Option(help="Same seed, same events, whatever the workers.")] = 1,
    processes: Annotated[str, typer.Option(help="Comma-separated: minimum_bias, hard; both where empty.")] = "",
    workers: Annotated[int, typer.Option(help="Processes at work.")] = 1,
) -> None:
    """sPHENIX-like TPC events: Pythia 8, a fast drift chamber, no Geant4 (needs the extra `simulate`; GPL tools)."""
    from multiplet.simulation.blocks import simulate
    from multiplet.simulation.tpc import PROCESSES, Tpc

    _simulate("tpc", simulate, Tpc(_names(processes) or PROCESSES), out, events, seed, workers)


@simulators.command("telescope")
def simulate_telescope(
    out: Annotated[Path, typer.Option(help="Folder for the event files.")],
    events: Annotated[int, typer.Option(help="Events that trigger, over all splits.")],
    seed: Annotated[int, typer.Option(help="Same seed, same events, whatever the workers.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes at work.")] = 1,
    geometry: Annotated[
        Path | None, typer.Option(help="CSV file with your own array: sensor_id, x, y, z in metres.")
    ] = None,
    ice: Annotated[
        Path | None, typer.Option(help="CSV file with your own ice: depth, scattering, absorption in metres.")
    ] = None,
    gamma: Annotated[float, typer.Option(help="Of the spectrum E^-gamma, from 100 GeV to 1 PeV.")] = 1.9,
    interactions: Annotated[
        str, typer.Option(help="Comma-separated: track, cascade, neutral_current; all where empty.")
    ] = "",
) -> None:
    """IceCube-like neutrino events: parametrised light and readout of 5160 optical modules, NumPy alone."""
    from multiplet.data.formats.telescope_layout import INTERACTIONS
    from multiplet.simulation.blocks import simulate
    from multiplet.simulation.telescope import Telescope
    from multiplet.simulation.telescope_array import ideal_ice, ideal_modules, read_ice, read_modules

    modules = read_modules(geometry) if geometry else ideal_modules()
    wanted = _names(interactions) or INTERACTIONS
    telescope = Telescope(gamma, modules, read_ice(ice) if ice else ideal_ice(), wanted)
    _simulate("telescope", simulate, telescope, out, events, seed, workers)


def _simulate(
    name: str, make: Callable[..., bool], generator: Any, out: Path, events: int, seed: int, workers: int,
    things: str = "events",
) -> None:  # fmt: skip
    """Make events with progress, and say whether they were there already."""
    from multiplet.progress import show

    with closing(show(f"simulate {name}")) as bar:
        made = make(generator, out, events, seed, workers, progress=lambda n, of: bar.update(n, of, ""))
    _say(f"{events} {things} in {out}" if made else f"{out} already holds these {events} {things}")


def _names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


@app.command()
def convert(
    format: Annotated[str, typer.Argument(help="The published format of the files, or table for your own.")],
    sources: Annotated[
        list[Path], typer.Argument(help="Files to read; for table: MAPPING.yaml, then files or LABEL:'pattern'.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the event files.")],
    fractions: Annotated[
        str, typer.Option(help="Of training, validation and test; published: splits as files or folders are called.")
    ] = "0.8,0.1,0.1",
) -> None:
    """Turn files of a published format, or your own, into event files; stopped, it goes on when called again."""
    from multiplet.data.convert import convert as run
    from multiplet.data.convert import doubts
    from multiplet.data.formats import Format, find
    from multiplet.data.formats.table import table as mapped
    from multiplet.progress import show

    wanted = _fractions(fractions)
    reader: Format
    if format == "table":
        mapping, *patterns = sources
        reader, sources = mapped(mapping, [str(pattern) for pattern in patterns])
        for note in reader.mapping.notes:
            _say(f"{mapping}: {note}")
    else:
        reader = find(format)
    with closing(show("convert")) as bar:
        made = run(reader, sources, out, wanted, progress=lambda n, of, e: bar.update(n, of, f"{e} events"))
    _say_cuts(made.cuts)
    verb = "in" if made.new else "were already in"
    splits = ", ".join(f"{name} {count}" for name, count in made.events.items())
    _say(f"{sum(made.events.values())} events {verb} {out}: {splits}")
    for doubt in doubts(out):
        _say(f"note: {doubt}")


def _fractions(text: str) -> Fractions:
    """Fractions of the three splits, or the word that stands for those of the files."""
    from multiplet.data.splits import AS_PUBLISHED

    if text == AS_PUBLISHED:
        return AS_PUBLISHED
    try:
        train, validation, test = (float(fraction) for fraction in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} are not three numbers such as 0.8,0.1,0.1, and not {AS_PUBLISHED!r} either"
        ) from None
    return train, validation, test


@app.command()
def inspect(
    files: Annotated[list[Path], typer.Argument(help="ROOT, Parquet, HDF5, npz or event files.")],
    tree: Annotated[str | None, typer.Option(help="The tree, group or array to look at.")] = None,
    draft: Annotated[Path | None, typer.Option(help="Write a mapping for the first file, to be filled in.")] = None,
    events: Annotated[int, typer.Option(help="Entries to look at.")] = 10_000,
    all: Annotated[bool, typer.Option("--all", help="Show every column.")] = False,
) -> None:
    """What is in files from a colleague: columns, units, labels; whether damage would be noticed."""
    from multiplet.data.drafting import draft as write
    from multiplet.data.inspection import inspect as run
    from multiplet.data.inspection_text import inspection_text

    found = run(files, tree, events)
    for part in inspection_text(found, all):
        Console().print(part)
    if draft is not None:
        write(found.files[0][0], draft)
        _say(f"{draft} is a draft: read it, fill in the labels, then: multiplet convert table {draft} FILES --out DIR")


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
        raise typer.Exit(STOPPED)
    if os.environ.get("RANK", "0") == "0":  # under torchrun one rank speaks
        _say(f"{finished.run}: {finished.step} steps done")


@app.command(context_settings={"ignore_unknown_options": True})
def study(
    name: Annotated[str, typer.Argument(help="A study's name, or path.py:function that gives recipes by name.")],
    out: Annotated[Path, typer.Argument(help="The folder of its runs; what is done there is not done again.")],
    changes: Annotated[
        list[str] | None, typer.Argument(help="argument=value of the study, or field.path=value of all its recipes.")
    ] = None,
    only: Annotated[str, typer.Option(help="Cells to do, as a pattern of their names; all that are done count.")] = "*",
) -> None:
    """Train, evaluate and compare many recipes: `multiplet study tpc_controls runs/controls run=runs/fm4npp`."""
    from multiplet.campaign import study as run
    from multiplet.recipes.find import make_study

    _say(run(make_study(name, out, changes or []), out, only, _command()) or "no cell is done")
    _say(out / "study.html")


@app.command(context_settings={"ignore_unknown_options": True})
def submit(
    scheduler: Annotated[str, typer.Argument(help="slurm or condor.")],
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or path.py:function.")],
    out: Annotated[Path, typer.Argument(help="The run folder.")],
    changes: Annotated[
        list[str] | None, typer.Argument(help="argument=value of the recipe, or field.path=value.")
    ] = None,
    nodes: Annotated[int, typer.Option(help="Machines.")] = 1,
    gpus: Annotated[int, typer.Option(help="GPUs on each, with a process each; 0: on the processor.")] = 1,
    time: Annotated[str, typer.Option(help="Time limit; the run saves before it and is started again.")] = "04:00:00",
    cpus: Annotated[int, typer.Option(help="Processor cores for each process.")] = 4,
    memory: Annotated[str, typer.Option(help="Memory of each machine, as 64G; the site's default where empty.")] = "",
    partition: Annotated[str, typer.Option(help="SLURM's partition.")] = "",
    account: Annotated[str, typer.Option(help="SLURM's account, HTCondor's accounting group.")] = "",
    seeds: Annotated[str, typer.Option(help="Comma-separated: a training each, in OUT/seed-N.")] = "",
    write: Annotated[Path, typer.Option(help="Folder for the script.")] = Path("jobs"),
) -> None:
    """Write a script for a batch system that trains a recipe and goes on after time limits; it hands nothing in."""
    from multiplet.submission import Resources
    from multiplet.submission import submit as run

    try:
        wanted = [int(seed) for seed in seeds.split(",")] if seeds else []
    except ValueError:
        raise typer.BadParameter(f"{seeds!r} are not whole numbers such as 0,1,2") from None
    asked = Resources(nodes, gpus, time, cpus, memory, partition, account)
    script = run(scheduler, recipe, out, changes or [], asked, wanted, write, _command())
    for line in (*(f"note: {note}" for note in script.notes), *map(str, script.files), f"hand in: {script.command}"):
        _say(line)


@app.command()
def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    data: Annotated[str, typer.Option(help="Another folder of event files than the run was trained on.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    sample: Annotated[
        int, typer.Option(help="Events whose hidden points a masked objective draws back; 0: none.", min=0)
    ] = 1000,
    known: Annotated[Path | None, typer.Option(help=_KNOWN)] = None,
) -> None:
    """Predict a split and measure it, with intervals: predictions.parquet and metrics.json in each run folder."""
    from multiplet.data.events import SPLITS
    from multiplet.evaluation.evaluate import evaluate as run
    from multiplet.evaluation.table import metrics_table
    from multiplet.progress import show
    from multiplet.recipes.find import find_classes
    from multiplet.spec import did_you_mean

    classes = find_classes(known)
    chosen = next((one for one in SPLITS if one == split), None)
    if chosen is None:
        raise typer.BadParameter(f"{split!r} is no split: {did_you_mean(split, SPLITS)}")
    for path in runs:
        bar = show(f"evaluate {path}")
        metrics = run(
            path, split=chosen, data=data or None, command=_command(), device=device, sample=sample,
            known=classes, show=bar,
        )  # fmt: skip
        bar.close()
        Console().print(metrics_table({path.name: metrics}))


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    files: Annotated[list[str], typer.Argument(help="Files, or folders of event files.")],
    out: Annotated[Path, typer.Option(help="The file to write: .parquet or .root.")],
    format: Annotated[str, typer.Option(help="The format of the files, as for convert.")] = "events",
    mapping: Annotated[Path | None, typer.Option(help="What is in files of your own, instead of a format.")] = None,
    columns: Annotated[str, typer.Option(help="Comma-separated columns to keep; all of the events where empty.")] = "",
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="The encoder's mean output (emb_000 …) instead of predictions.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over a file that is there.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    known: Annotated[Path | None, typer.Option(help=_KNOWN)] = None,
) -> None:
    """Apply a run to files of your own, with or without labels: a row an event with its place, columns and scores."""
    from multiplet.evaluation.prediction import predict as run_on
    from multiplet.progress import show
    from multiplet.recipes.find import find_classes

    keep = list(_names(columns)) or None
    with closing(show("predict")) as bar:
        about = run_on(
            run, files, out, format=format, mapping=mapping, columns=keep, embeddings=embeddings,
            overwrite=overwrite, device=device, known=find_classes(known), show=bar,
        )  # fmt: skip
    _say_cuts(about["cuts"])
    _say(f"{about['events']} events in {out}, from {run} step {about['step']}")


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="One run, or several side by side.")],
    out: Annotated[Path | None, typer.Option(help="The page; report.html in the first run where not given.")] = None,
    known: Annotated[Path | None, typer.Option(help=_KNOWN)] = None,
) -> None:
    """One self-contained page: metrics, curves, confusion, event displays, how to reproduce."""
    from multiplet.evaluation.summary import report as run
    from multiplet.recipes.find import find_classes

    _say(str(run(runs, out, find_classes(known))))


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


def _say_cuts(cuts: dict[str, int]) -> None:
    """The cut flow as a table, where there are cuts."""
    from rich.markup import escape
    from rich.table import Table

    if len(cuts) > 1:
        table, read = Table("selection", "events left", "of all"), max(cuts["read"], 1)
        for name, left in cuts.items():
            table.add_row(escape(name), str(left), f"{left / read:.2%}")
        Console().print(table)


def _say(text: Any) -> None:
    Console().print(printable(str(text)), highlight=False, markup=False, soft_wrap=True)
