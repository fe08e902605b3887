"""Messages: what a user is told who does something wrong, on the command line and in one line, beside what is expected.

tests/messages/expected.txt holds every message; read it from top to bottom. After a change of messages that is wanted,
MULTIPLET_WRITE_MESSAGES=1 pytest tests/test_messages.py writes it again; read the difference before it is kept.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import resource
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import awkward
import numpy as np
import pytest
import torch
import uproot

from multiplet import cli
from multiplet.data.arrow import read_events, write_events
from multiplet.data.columns import Columns
from multiplet.files import held
from toys import write_toys

HERE = Path(__file__).parent
EXPECTED = HERE / "messages" / "expected.txt"
REWRITE = "MULTIPLET_WRITE_MESSAGES"

MAPPING = """
tree: Events
points:
  four_vector: {pt: p_pt, eta: p_eta, phi: p_phi, mass: p_mass}
event:
  columns: {met: met}
label: {a: kind == 0, b: kind == 1}
"""

Prepare = Callable[[], Any]
During = Callable[[], AbstractContextManager[Any]]


def call(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the command line in this process; an exception that escapes is a failure."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["multiplet", *arguments])
        patch.setenv("COLUMNS", "150")
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return code, out.getvalue(), err.getvalue()


def points(scale: float = 1.0, **changes: Any) -> dict[str, Any]:
    """Branches of forty jets of five particles."""
    rng = np.random.default_rng(5)
    counts = np.full(40, 5)
    flat = {
        "p_pt": rng.uniform(20, 200, 200) * scale,
        "p_eta": rng.normal(0, 0.3, 200),
        "p_phi": rng.normal(0, 0.3, 200),
        "p_mass": np.full(200, 0.13957 * scale),
    }
    lists = {name: awkward.unflatten(values.astype(np.float32), counts) for name, values in flat.items()}
    return {**lists, "met": rng.uniform(0, 90, 40), "kind": np.arange(40, dtype=np.int32) % 2, **changes}


def write_root(path: str, tree: str = "Events", **branches: Any) -> None:
    with uproot.recreate(path) as file:
        file.mktree(tree, branches)


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a new user has it: files, a mapping, event files, recipes, and a run that was trained."""
    folder = tmp_path_factory.mktemp("furnished")
    with contextlib.chdir(folder):
        write_root("mine.root", **points())
        Path("mapping.yaml").write_text(MAPPING)
        write_toys(Path("events"), 100, 20, 20)
        shutil.copy(HERE / "tiny.py", "recipes.py")
        code, _, err = call("train", "recipes.py:labels", "run", "data=events", "steps=2", "--quiet")
        assert code == 0, err
    return folder


@pytest.fixture
def place(furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, to be in."""
    folder = tmp_path / "here"
    shutil.copytree(furnished, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


def said(old: str, new: str) -> Prepare:
    """The mapping with a part of its text changed."""

    def write() -> None:
        assert old in MAPPING
        Path("mapping.yaml").write_text(MAPPING.replace(old, new))

    return write


def branches(**changes: Any) -> Prepare:
    return lambda: write_root("mine.root", **points(**changes))


def nan_in(name: str) -> Prepare:
    def write() -> None:
        held = points()
        flat = awkward.to_numpy(awkward.flatten(held[name])).copy()
        flat[33] = np.nan
        write_root("mine.root", **(held | {name: awkward.unflatten(flat, 5)}))

    return write


def cut(path: str, size: int = 200) -> Prepare:
    return lambda: os.truncate(path, os.path.getsize(path) - size)


def edited(path: str, change: Callable[[Any], Any]) -> Prepare:
    """A JSON file, changed."""

    def write() -> None:
        value = json.loads(Path(path).read_text())
        change(value)
        Path(path).write_text(json.dumps(value))

    return write


def events_changed(change: Callable[[Columns], Columns]) -> Prepare:
    """All event files, changed."""

    def write() -> None:
        for path in Path("events").glob("*/*.arrow"):
            write_events(path, change(read_events(path)), {"source": "toys"})

    return write


def without(name: str) -> Callable[[Columns], Columns]:
    return lambda columns: Columns(
        tuple(c for c in columns.schema if c.name != name),
        columns.offsets,
        {key: value for key, value in columns.values.items() if key != name},
    )


def holding(name: str, value: float) -> Callable[[Columns], Columns]:
    """One value of one point (the third of the first event) replaced."""

    def change(columns: Columns) -> Columns:
        values = {key: held.copy() for key, held in columns.values.items()}
        values[name][2] = value
        return Columns(columns.schema, columns.offsets, values)

    return change


@contextlib.contextmanager
def full(size: int) -> Iterator[None]:
    """No file may grow beyond this many bytes: writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def no_gpu() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield


@contextlib.contextmanager
def without_h5py() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "h5py", None)
        yield


def damage(path: str) -> None:
    content = bytearray(Path(path).read_bytes())
    content[len(content) // 2] ^= 1
    Path(path).write_bytes(content)


def emptied(folder: str) -> Prepare:
    """A folder without files."""

    def make() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        Path(folder).mkdir()

    return make


TABLE = ("convert", "table", "mapping.yaml")
TRAIN = ("train", "recipes.py:labels", "new", "data=events", "steps=2", "--quiet")


def case(
    title: str,
    *arguments: str,
    first: Prepare | None = None,
    during: During = contextlib.nullcontext,
) -> Any:
    return pytest.param(arguments, first, during, id=title)


CASES = [
    # reading files
    case("a tree that is not there", *TABLE, "mine.root", "--out", "new", first=said("tree: Events", "tree: Event")),
    case("a branch that is not there", *TABLE, "mine.root", "--out", "new", first=said("p_pt", "p_ptt")),
    case("a column that a selection needs", *TABLE, "mine.root", "--out", "new",
         first=said("label:", "select: [jet_pt > 10]\nlabel:")),
    case("a label that no condition gives", *TABLE, "mine.root", "--out", "new",
         first=branches(kind=np.arange(40, dtype=np.int32) % 3)),
    case("a value that is not finite", *TABLE, "mine.root", "--out", "new", first=nan_in("p_eta")),
    case("a truncated ROOT file", *TABLE, "mine.root", "--out", "new", first=cut("mine.root")),
    case("a pattern that matches nothing", *TABLE, "data/*.root", "--out", "new"),
    case("a file that is a folder", *TABLE, "events", "--out", "new"),
    case("a file that is no data", *TABLE, "recipes.py", "--out", "new"),
    case("a mapping that is not there", "convert", "table", "mappping.yaml", "mine.root", "--out", "new"),
    case("a data file for a mapping", "convert", "table", "mine.root", "--out", "new"),
    case("a mapping with a misspelt key", *TABLE, "mine.root", "--out", "new", first=said("points:", "point:")),
    case("a mapping that is no YAML", *TABLE, "mine.root", "--out", "new", first=said("{pt:", "{{pt:")),
    case("an expression that runs something", *TABLE, "mine.root", "--out", "new",
         first=said("met: met", "met: \"__import__('os').getpid()\"")),
    case("a unit that is not known", *TABLE, "mine.root", "--out", "new",
         first=said("mass: p_mass", "mass: p_mass, unit: eV")),
    case("a format that is not known", "convert", "jetclas", "mine.root", "--out", "new"),
    case("a file of another format", "convert", "jetclass", "mine.root", "--out", "new"),
    case("a ROOT file for an HDF5 format", "convert", "top", "mine.root", "--out", "new"),
    case("fractions that are no numbers", *TABLE, "mine.root", "--out", "new", "--fractions", "0.8,0.2"),
    case("published splits that no file is called by", *TABLE, "mine.root", "--out", "new", "--fractions", "published"),
    case("fractions out of range", *TABLE, "mine.root", "--out", "new", "--fractions", "0.8,0.3,-0.1"),
    case("no event is kept", *TABLE, "mine.root", "--out", "new", first=said("label:", "select: [met > 1e6]\nlabel:")),
    case("a folder that holds something else", *TABLE, "mine.root", "--out", "events"),
    case("a file where the output folder should be", *TABLE, "mine.root", "--out", "mine.root"),
    case("a folder that nobody may write in, convert", *TABLE, "mine.root", "--out", "/proc/new"),
    case("a full disk, convert", *TABLE, "mine.root", "--out", "new", during=lambda: full(4000)),
    case("inspect of nothing", "inspect", "nowhere.root"),
    case("inspect of a folder", "inspect", "events"),
    case("inspect of no data", "inspect", "recipes.py"),
    case("inspect of a tree that is not there", "inspect", "mine.root", "--tree", "events"),
    case("inspect of no entries", "inspect", "mine.root", "--events", "0"),
    case("a draft over a file", "inspect", "mine.root", "--draft", "mapping.yaml"),
    case("a missing extra", "convert", "top", "mine.root", "--out", "new", during=without_h5py),
    case("a class that is not simulated", "simulate", "jets", "--out", "new", "--events", "10", "--processes", "Higgs"),
    case("a negative number of workers, simulate", "simulate", "jets", "--out", "new", "--events", "10",
         "--workers", "-1"),
    # training
    case("a recipe that is not known", "train", "maskdif", "new", "data=events"),
    case("a recipe file without that recipe", "train", "recipes.py:label", "new", "data=events"),
    case("an argument that the recipe needs", "train", "recipes.py:labels", "new"),
    case("an argument that is not known", *TRAIN, "step=3"),
    case("a field that is not known", *TRAIN, "train.worker=3"),
    case("a field with a wrong value", *TRAIN, "optim.rate=fast"),
    case("a negative number of workers", *TRAIN, "train.workers=-1"),
    case("an option that is not known", "train", "recipes.py:labels", "new", "data=events", "--quite"),
    case("no data where the path says", "train", "recipes.py:labels", "new", "data=event"),
    case("an empty data folder", "train", "recipes.py:labels", "new", "data=empty", first=emptied("empty")),
    case("a ROOT file as data", "train", "recipes.py:labels", "new", "data=mine.root"),
    case("events without a label", *TRAIN, first=events_changed(without("label"))),
    case("events without a column that a feature needs", *TRAIN, first=events_changed(without("d0"))),
    case("a feature that is not finite", *TRAIN, first=events_changed(holding("d0", np.nan))),
    case("no event to train on", *TRAIN, first=emptied("events/train")),
    case("a GPU that is not there", *TRAIN, "train.device=cuda", during=no_gpu),
    case("a device that is not known", *TRAIN, "train.device=gpu"),
    case("a run of another recipe in the folder", "train", "recipes.py:labels", "run", "data=events", "steps=3"),
    case("a run that another process trains", "train", "recipes.py:labels", "run", "data=events", "steps=2",
         during=lambda: held(Path("run"))),
    case("a file where the run folder should be", "train", "recipes.py:labels", "mine.root", "data=events", "steps=2"),
    case("a folder that nobody may write in, train", "train", "recipes.py:labels", "/proc/new", "data=events",
         "steps=2"),
    case("a full disk, train", *TRAIN, during=lambda: full(20_000)),
    case("a batch system that is not known", "submit", "slrum", "maskdiff", "new"),
    case("a time that is no time", "submit", "slurm", "maskdiff", "new", "--time", "4h"),
    case("a script where nobody may write", "submit", "slurm", "maskdiff", "new", "--write", "/proc/jobs"),
    case("an encoder from a run that is not there", *TRAIN, 'adapt={"is": "FineTune", "run": "runs/first"}'),
    # applying
    case("a run that is not there", "evaluate", "runs/first"),
    case("a file for a run", "evaluate", "mine.root"),
    case("a data folder for a run", "evaluate", "events"),
    case("a run without a checkpoint", "evaluate", "run", first=lambda: shutil.rmtree("run/checkpoints")),
    case("a checkpoint that is damaged", "evaluate", "run",
         first=cut("run/checkpoints/step-00000002/weights.safetensors")),
    case("a run of an unknown version", "evaluate", "run",
         first=edited("run/recipe.json", lambda v: v.update(format=9))),
    case("a run of an old development version", "evaluate", "run",
         first=edited("run/recipe.json", lambda v: v["recipe"]["train"].update(microbatch=3))),
    case("a split that is not known", "evaluate", "run", "--split", "tset"),
    case("a split that is not there", "evaluate", "run", first=lambda: shutil.rmtree("events/test")),
    case("data that is gone", "evaluate", "run", first=lambda: shutil.rmtree("events")),
    case("evaluation of events without labels", "evaluate", "run", first=events_changed(without("label"))),
    case("an event file that was damaged", "evaluate", "run", first=lambda: damage("events/test/00000.arrow")),
    case("an event file without its checksums", "evaluate", "run",
         first=lambda: Path("events/test/00000.arrow.sums").unlink()),
    case("a full disk, evaluate", "evaluate", "run", during=lambda: full(1000)),
    case("predict over a file", "predict", "run", "events/test", "--out", "mine.root"),
    case("predict to a file of another kind", "predict", "run", "events/test", "--out", "scores.csv"),
    case("predict a ROOT file without saying how", "predict", "run", "mine.root", "--out", "scores.parquet"),
    case("predict files with other columns", "predict", "run", "mine.root", "--mapping", "mapping.yaml",
         "--out", "scores.parquet"),
    case("predict and keep a column that is not there", "predict", "run", "events/test", "--columns", "jet_ptt",
         "--out", "scores.parquet"),
    case("predict an empty folder", "predict", "run", "empty", "--out", "scores.parquet", first=emptied("empty")),
    case("predict to a folder that is not there", "predict", "run", "events/test", "--out", "/proc/new/scores.parquet"),
    case("a full disk, predict", "predict", "run", "events/test", "--out", "scores.parquet", during=lambda: full(500)),
    case("report of nothing", "report", "nowhere"),
    case("report of a damaged log", "report", "run", first=lambda: Path("run/log.jsonl").write_text("{]\n")),
    case("a report where a folder is", "report", "run", "--out", "events"),
    case("a report where nobody may write", "report", "run", "--out", "/proc/page.html"),
    case("a full disk, report", "report", "run", during=lambda: full(500)),
]  # fmt: skip


@pytest.fixture(scope="session")
def expected() -> Iterator[dict[str, str]]:
    """Messages by title; those of this session are written where the variable says so."""
    text = EXPECTED.read_text(encoding="utf-8") if EXPECTED.exists() else ""
    said = dict(part.split("\n", 1) for part in text.split("# ")[1:])
    yield said
    if os.environ.get(REWRITE):
        EXPECTED.parent.mkdir(exist_ok=True)
        titles = [str(one.id) for one in CASES if one.id in said]
        EXPECTED.write_text("".join(f"# {title}\n{said[title]}" for title in titles), encoding="utf-8")


def plain(text: str, place: Path) -> str:
    """A message without what differs from machine to machine: paths, sizes, processes, what libraries say."""
    text = text.replace(f"{place}/", "")
    for pattern, instead in (
        (r"process \d+ on \S+(?=:)", "process 1234 on host"),
        (r"\d+ bytes where its header says \d+", "12 bytes where its header says 34"),
        (r"bytes \d+ to \d+", "bytes 12 to 34"),
        (r"multiplet \d[\w.]*( wrote it and this is )\d[\w.]*", r"multiplet 0.1\g<1>0.2"),
        (r"(it says: ).*(?=\); install)", r"\g<1>…"),
        (r"(cannot be read|could not be written|damaged in line 1) \(.*?\)(?=:)", r"\g<1> (…)"),
        (r"(?<=it is no YAML: )while.*", "…"),
    ):
        text = re.sub(pattern, instead, text)
    return text


@pytest.mark.parametrize("arguments, first, during", CASES)
def test_what_is_said(
    arguments: tuple[str, ...],
    first: Prepare | None,
    during: During,
    place: Path,
    expected: dict[str, str],
    request: pytest.FixtureRequest,
) -> None:
    if first:
        first()
    before = held_in(place)
    with during():
        code, _, err = call(*arguments)
    lines = [line for line in err.splitlines() if re.match(r"multiplet: |Error: | |allowed ", line)]
    title = request.node.callspec.id
    found = "\n".join([f"$ multiplet {shlex.join(arguments)}", *(plain(line, place) for line in lines), "", ""])
    if os.environ.get(REWRITE):
        expected[title] = found
    assert (code, found) == (2, expected.get(title))
    assert "Traceback" not in err
    assert lines[0] == err.splitlines()[-len(lines)]  # nothing comes after it
    assert held_in(place) == before  # nothing is left behind but in the folder for what was asked for, nothing is lost


def held_in(place: Path) -> list[Path]:
    paths = (path.relative_to(place) for path in sorted(place.rglob("*")))
    return [path for path in paths if path.parts[0] != "new" and path.name != ".lock"]


def test_every_message_that_is_expected_has_a_case(expected: dict[str, str]) -> None:
    assert {one.id for one in CASES} >= set(expected)
    assert len({one.id for one in CASES}) == len(CASES) >= 80


def test_momenta_in_mev_are_noticed(place: Path) -> None:
    for scale, unit, wanted in ((1.0, "GeV", False), (1000.0, "GeV", True), (1000.0, "MeV", False)):
        write_root("mine.root", **points(scale))
        said("mass: p_mass", f"mass: p_mass, unit: {unit}")()
        shutil.rmtree("new", ignore_errors=True)
        code, out, _ = call(*TABLE, "mine.root", "--out", "new")
        assert (code, "if it was in MeV, say so" in out) == (0, wanted)


def test_a_report_of_a_run_that_was_not_evaluated_says_how_to(place: Path) -> None:
    assert call("report", "run")[0] == 0
    assert "multiplet evaluate run" in Path("run/report.html").read_text()
