"""The command line: quick help, errors in one line, and every verb on toy events."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tiny
from multiplet import cli
from multiplet.errors import MultipletError
from multiplet.training import train

HERE = Path(__file__).parent


def run(*arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "multiplet", *arguments], env=environment, capture_output=True, text=True
    )


def test_help_does_not_import_torch_and_is_quick() -> None:
    program = "import sys, multiplet.cli; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
    best = min(timed("--help") for _ in range(3))
    assert best < 0.5 if not os.environ.get("CI") else best < 2.0


def timed(*arguments: str) -> float:
    begun = time.perf_counter()
    assert run(*arguments).returncode == 0
    return time.perf_counter() - begun


def test_every_verb_has_help() -> None:
    verbs = ("simulate", "inspect", "convert", "train", "submit", "evaluate", "predict", "report", "doctor", "demo")
    for verb in verbs:
        result = CliRunner().invoke(cli.app, [verb, "--help"])
        assert result.exit_code == 0, verb
        assert "Usage" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "maskdif", "out"], "did you mean 'maskdiff'?"),
        (["train", "maskdiff", "out", "wdth=64"], "did you mean 'width'?"),
        (["train", "maskdiff", "out", "optim.rat=1"], "did you mean 'rate'?"),
        (["train", "maskdiff", "out", "width"], "not of the form key=value"),
        (["train", "maskdiff", "out", "data=nowhere"], "holds no event files"),
        (["train", "nowhere.py:mine", "out"], "not a Python file"),
        (["evaluate", "nowhere"], "not a run folder"),
        (["report", "nowhere"], "nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MultipletError) as caught:
        CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_from_events_to_a_report_on_the_command_line(toys: Path, tmp_path: Path) -> None:
    recipes = HERE / "tiny.py"
    pretrained, tuned = tmp_path / "pretrained", tmp_path / "tuned"
    carried = 'adapt={"is": "FineTune", "run": "' + str(pretrained) + '"}'
    for arguments in (
        ["train", f"{recipes}:masked", str(pretrained), f"data={toys}", "steps=6", "--quiet"],
        [
            "train",
            f"{recipes}:labels",
            str(tuned),
            f"data={toys}",
            "steps=6",
            carried,
        ],
        ["evaluate", str(pretrained), str(tuned)],
        ["report", str(pretrained), str(tuned), "--out", str(tmp_path / "page.html")],
    ):
        result = run(*arguments)
        assert result.returncode == 0, result.stderr
    assert "from scratch" in (pretrained / "log.jsonl").read_text()
    assert "loaded" in (tuned / "log.jsonl").read_text()
    page = (tmp_path / "page.html").read_text()
    assert "accuracy" in page
    assert "multiplet train" in page
    sums = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tuned, capture_output=True, text=True)
    assert sums.returncode == 0, sums.stdout


def test_an_error_on_the_command_line_has_no_traceback(tmp_path: Path) -> None:
    result = run("train", "maskdif", str(tmp_path / "out"))
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("multiplet: ")


def test_doctor_tells_what_is_here() -> None:
    result = CliRunner().invoke(cli.app, ["doctor"])
    assert result.exit_code == 0
    assert "torch" in result.output


def test_verbs_are_functions_too(toys: Path, tmp_path: Path) -> None:
    import multiplet

    finished = multiplet.train(tiny.labels(str(toys), 2), tmp_path, progress=False)
    assert multiplet.evaluate(finished.run)["events"] == 60
    assert train is multiplet.train
    assert set(multiplet.__all__) >= {"simulate", "train", "evaluate", "report", "demo", "doctor", "convert"}
    for name in multiplet.__all__:
        assert getattr(multiplet, name) is not None
