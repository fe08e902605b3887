"""Batch scripts: checked before they are written, safe against what is in arguments, and run here with stand-ins."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from multiplet import cli
from multiplet.errors import STOPPED, RecipeError, RunError
from multiplet.recipe import open_run
from multiplet.submission import Resources, Script, submit

TINY = Path(__file__).parent / "tiny.py"
# Each of its tasks gets what SLURM gives; signals are passed on; it leaves with the largest exit code.
SRUN = r"""#!/bin/bash
echo "$@" >> srun.txt
while [[ $1 == --* ]]; do shift; done
pids=()
for ((n = 0; n < SLURM_NTASKS; n++)); do SLURM_PROCID=$n SLURM_LOCALID=$n "$@" & pids+=($!); done
trap 'kill -USR1 "${pids[@]}"' USR1
code=0
for pid in "${pids[@]}" "${pids[@]}"; do wait "$pid"; last=$?; ((last > code && last != 138)) && code=$last; done
exit $code
"""
SCONTROL = r"""#!/bin/bash
if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> scontrol.txt; fi
"""
# In place of python: says what it was called with, then ends as the test wishes.
PYTHON = r"""#!/bin/bash
for word in "$@"; do printf '%s\0' "$word"; done > called.${RANK:-alone}
echo "$RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR $MASTER_PORT" > ranks.${RANK:-alone}
trap 'sleep 0.3; exit 85' USR1 TERM
touch ready.${RANK:-alone}
if [ "$WISH" = wait ]; then for n in {1..200}; do sleep 0.05; done; fi
exit "${WISH/wait/9}"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a space and a quote in its name, and stand-ins for the batch system beside it."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("python", PYTHON)):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    folder = tmp_path / "user's work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    return folder


def start(script: Script, wish: str, tasks: int = 1, **more: str) -> subprocess.Popen:
    """The script as the batch system starts it, from another folder; what it says goes to output.txt."""
    given = {"SLURM_NTASKS": str(tasks), "SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "n[1-2]", "WISH": wish, **more}
    shell = next(file for file in script.files if file.suffix == ".sh")
    arguments = ["bash", str(shell), *([more["SEED"]] if "SEED" in more else [])]
    with Path("output.txt").open("a") as output:
        return subprocess.Popen(arguments, cwd="/", env={**os.environ, **given}, stdout=output, stderr=output)


def until(holds: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait for something, and fail where it does not come."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to this"
        time.sleep(0.02)


def ready(tasks: int) -> bool:
    return len(list(Path().glob("ready.*"))) == tasks


def directives(script: Script) -> list[str]:
    return [line for line in script.files[0].read_text().splitlines() if line.startswith("#SBATCH")]


@pytest.mark.parametrize("tasks", [1, 2])
def test_time_up_leads_to_a_save_and_back_into_the_queue(tasks: int, here: Path) -> None:
    process = start(submit("slurm", "maskdiff", Path("run"), (), Resources(gpus=tasks)), "wait", tasks)
    until(lambda: ready(tasks))
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == STOPPED
    assert Path("scontrol.txt").read_text() == "requeue 4711\n"


@pytest.mark.parametrize(("wish", "tasks"), [("0", 1), ("0", 2), ("2", 1), ("85", 2)])
def test_an_end_without_that_signal_leaves_the_queue(wish: str, tasks: int, here: Path) -> None:
    """85 without it: the job was cancelled, or told to save by hand."""
    process = start(submit("slurm", "maskdiff", Path("run"), (), Resources(gpus=tasks)), wish, tasks)
    assert process.wait(30) == int(wish)
    assert not Path("scontrol.txt").exists()


def test_an_error_after_that_signal_leaves_the_queue(here: Path) -> None:
    (here.parent / "bin" / "python").write_text(PYTHON.replace("exit 85", "exit 2"))
    process = start(submit("slurm", "maskdiff", Path("run")), "wait")
    until(lambda: ready(1))
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 2
    assert not Path("scontrol.txt").exists()


def test_processes_are_told_apart_and_where_to_meet(here: Path) -> None:
    script = submit("slurm", "maskdiff", Path("run"), (), Resources(gpus=3))
    assert start(script, "0", 3).wait(30) == 0
    said = [Path(f"ranks.{rank}").read_text().split() for rank in range(3)]
    assert said == [[str(rank), str(rank), "3", "127.0.0.1", str(15000 + 4711)] for rank in range(3)]


def test_an_array_trains_a_seed_each_and_requeues_only_its_own_task(here: Path) -> None:
    script = submit("slurm", "maskdiff", Path("runs/a"), ["steps=3"], seeds=[4, 7])
    assert "#SBATCH --array=4,7" in directives(script)
    task = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_JOB_ID": "4711"}  # the last task has the array's own number
    process = start(script, "wait", **task)
    until(lambda: ready(1))
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == STOPPED
    assert Path("scontrol.txt").read_text() == "requeue 4711_7\n"
    words = Path("called.alone").read_text().split("\0")[:-1]
    assert words == ["-m", "multiplet", "train", "maskdiff", "runs/a/seed-7", "steps=3", "seed=7"]


NASTY = ["data=$(touch owned)`touch owned`", "data=a b'c\"d;touch owned", "data=~/*?[a]\\ #!", "data=$HOME && exit 0"]


@pytest.mark.parametrize("scheduler", ["slurm", "condor"])
@pytest.mark.parametrize("text", NASTY)
def test_arguments_arrive_as_they_were_given(scheduler: str, text: str, here: Path) -> None:
    out = Path("runs/$(touch owned) 'x'")
    script = submit(scheduler, "maskdiff", out, [text], seeds=[1], command=shlex.join(["multiplet", text]))
    more = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_JOB_ID": "1", "SEED": "1"}
    assert start(script, "0", **more).wait(30) == 0
    words = Path("called.alone").read_text().split("\0")[:-1]
    assert words == ["-m", "multiplet", "train", "maskdiff", f"{out}/seed-1", text, "seed=1"]
    assert not list(here.rglob("owned"))


@pytest.mark.parametrize("scheduler", ["slurm", "condor"])
@pytest.mark.parametrize("tasks", [1, 2])
def test_scripts_parse_and_are_written_once(scheduler: str, tasks: int, here: Path) -> None:
    script = submit(scheduler, "maskdiff", Path("run"), (), Resources(gpus=tasks))
    for file in script.files:
        if file.suffix == ".sh":
            assert subprocess.run(["bash", "-n", str(file)]).returncode == 0
            assert os.access(file, os.X_OK)
    assert submit(scheduler, "maskdiff", Path("run"), (), Resources(gpus=tasks)) == script
    script.files[-1].write_text(script.files[-1].read_text() + "# edited\n")
    with pytest.raises(RunError, match="says something else"):
        submit(scheduler, "maskdiff", Path("run"), (), Resources(gpus=tasks))
    assert script.files[-1].read_text().endswith("# edited\n")


def test_resources_reach_slurm_and_are_all_there_is(here: Path) -> None:
    asked = Resources(2, 4, "1-12:00:00", 8, "64G", "gpu,long", "phys-01")
    script = submit("slurm", "maskdiff", Path("runs/m's"), (), asked, command="multiplet submit")
    assert directives(script) == [
        "#SBATCH --job-name=m-s", "#SBATCH --partition=gpu,long", "#SBATCH --account=phys-01", "#SBATCH --nodes=2",
        "#SBATCH --ntasks-per-node=4", "#SBATCH --cpus-per-task=8", "#SBATCH --gpus-per-node=4", "#SBATCH --mem=64G",
        "#SBATCH --time=1-12:00:00", "#SBATCH --output=%x-%j.log", "#SBATCH --open-mode=append",
        "#SBATCH --signal=B:USR1@120", "#SBATCH --requeue",
    ]  # fmt: skip
    lines = script.files[0].read_text().splitlines()
    assert all(line.startswith("#") for line in lines[: lines.index("#SBATCH --requeue")]), "SLURM reads no further"
    assert script.command == f"sbatch {shlex.quote(str(here / 'jobs' / 'm-s.sh'))}"


def test_the_description_for_condor(here: Path) -> None:
    asked = Resources(1, 2, "04:00:00", 3, "32G", "", "group_phys")
    script = submit("condor", "maskdiff", Path("runs/c"), (), asked, seeds=[0, 5])
    text = script.files[1].read_text()
    values = dict(re.findall(r"^(\S+) = (.*)$", text, re.MULTILINE))
    assert values["executable"] == str(here / "jobs" / "c.sh")
    assert values["initialdir"] == str(here)
    assert (values["request_cpus"], values["request_gpus"], values["request_memory"]) == ("6", "2", "32G")
    assert (values["accounting_group"], values["+MaxRuntime"]) == ("group_phys", "14400")
    assert values["on_exit_remove"] == "ExitCode =!= 85"
    assert text.endswith("queue seed in (0, 5)\n")
    assert "request_gpus" not in submit("condor", "maskdiff", Path("d"), (), Resources(gpus=0)).files[1].read_text()


@pytest.mark.parametrize("tasks", [1, 2])
def test_condor_telling_a_job_to_go_leads_to_a_save(tasks: int, here: Path) -> None:
    process = start(submit("condor", "maskdiff", Path("run"), (), Resources(gpus=tasks)), "wait")
    until(lambda: ready(tasks))
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == STOPPED


@pytest.mark.parametrize(("tasks", "wish", "code"), [(1, "0", 0), (2, "0", 0), (1, "7", 7), (2, "7", 7)])
def test_condor_sees_how_a_run_ended(tasks: int, wish: str, code: int, here: Path) -> None:
    assert start(submit("condor", "maskdiff", Path("run"), (), Resources(gpus=tasks)), wish).wait(30) == code


@pytest.mark.parametrize("tasks", [1, 2])
def test_under_condor_the_run_saves_before_its_time_is_up(tasks: int, here: Path) -> None:
    script = submit("condor", "maskdiff", Path("run"), (), Resources(gpus=tasks, time="01:00:00"))
    text = script.files[0].read_text()
    assert text.count("--signal=USR1 3480 ") == 1
    script.files[0].write_text(text.replace(" 3480 ", " 0.4 "))
    assert start(script, "wait").wait(30) == STOPPED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": "maskdif"}, "did you mean 'maskdiff'"),
        ({"changes": ["wdth=3"]}, "did you mean 'width'"),
        ({"changes": ["steps=many"]}, "steps"),
        ({"changes": ["seed=1"], "seeds": [1]}, "given 2 times"),
        ({"seeds": [1, 1]}, "each once"),
        ({"seeds": [-1]}, "from 0 on"),
        ({"changes": ["data=a\n#SBATCH --account=other"]}, "cannot be printed"),
        ({"changes": ["data=a\rb"]}, "cannot be printed"),
        ({"out": Path("run\n#SBATCH --account=other")}, "cannot be printed"),
        ({"folder": Path("jobs\nqueue 9")}, "cannot be printed"),
        ({"command": "multiplet\nrm"}, "cannot be printed"),
        ({"scheduler": "slurn"}, "did you mean 'slurm'"),
        ({"resources": Resources(gpus=300), "changes": ["train.batches.size=256"]}, "300 processes"),
        ({"changes": ["train.device=cpu"]}, "--gpus 0"),
        ({"scheduler": "condor", "resources": Resources(nodes=2)}, "one machine"),
        ({"scheduler": "condor", "resources": Resources(partition="gpu")}, "no partitions"),
        ({"scheduler": "condor", "folder": Path("$(cost)")}, "takes no"),
    ],
)
def test_what_could_only_fail_in_the_queue_is_refused(change: dict, message: str, here: Path) -> None:
    given = {"scheduler": "slurm", "recipe": "maskdiff", "out": Path("run"), **change}
    with pytest.raises(RecipeError, match=re.escape(message)):
        submit(**given)
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"nodes": 0}, {"gpus": -1}, {"cpus": 0}, {"time": "4h"}, {"time": "00:03:00"}, {"time": "04:00:00\n"},
        {"time": "04:61:00"}, {"memory": "64 G"}, {"memory": "64G\n#SBATCH"}, {"partition": "gpu --exclusive"},
        {"partition": "gpu\n"}, {"account": "-x"}, {"account": "a;b"}, {"account": "a\n#SBATCH --time=1"},
    ],
)  # fmt: skip
def test_resources_that_a_script_cannot_ask_for_are_refused(change: dict) -> None:
    with pytest.raises(RecipeError, match=next(iter(change))):
        Resources(**change)


def test_the_verb_says_what_to_do_and_what_it_could_not_check(here: Path) -> None:
    arguments = ["submit", "slurm", "maskdiff", "runs/a", "data=far", "steps=5", "--gpus", "2", "--seeds", "0,1"]
    result = CliRunner().invoke(cli.app, [*arguments, "--write", "s"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "no folder far here" in result.output
    assert "hand in: sbatch" in result.output
    assert "#SBATCH --array=0,1" in Path("s/a.sh").read_text()
    with pytest.raises(RecipeError, match="--gpu"):  # an option that is not known is no change of a recipe
        CliRunner().invoke(cli.app, [*arguments[:5], "--gpu", "2"], catch_exceptions=False)
    assert CliRunner().invoke(cli.app, [*arguments[:-1], "one"]).exit_code == 2


@pytest.mark.slow
def test_a_training_of_two_processes_goes_on_after_its_time_was_up(
    toys: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the true python
    monkeypatch.chdir(here)
    monkeypatch.setenv("PATH", f"{here.parent / 'bin'}:{os.environ['PATH']}")
    given = [f"data={toys}", "steps=60", "train.device=cpu"]
    with pytest.raises(RecipeError, match="--gpus 0"):
        submit("slurm", f"{TINY}:masked", Path("run"), given, Resources(gpus=2, cpus=1))
    script = submit("slurm", f"{TINY}:masked", Path("run"), given[:2], Resources(gpus=2, cpus=1))
    log = Path("run/log.jsonl")
    process = start(script, "", 2)
    until(lambda: log.is_file() and '"kind": "train"' in log.read_text())
    process.send_signal(signal.SIGUSR1)
    assert process.wait(120) == STOPPED, Path("output.txt").read_text()
    assert Path("scontrol.txt").read_text() == "requeue 4711\n"
    stopped = int(max(Path("run/checkpoints").iterdir()).name.removeprefix("step-"))
    assert 0 < stopped < 60
    assert start(script, "", 2).wait(120) == 0, Path("output.txt").read_text()  # as the queue starts it again
    assert f"resumed at step {stopped}" in Path("output.txt").read_text()
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines() if '"kind": "train"' in line]
    assert steps == list(range(1, 61))
    assert open_run("run").model() is not None
    assert Path("scontrol.txt").read_text() == "requeue 4711\n"
