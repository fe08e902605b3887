"""Submission: a training as a script for SLURM or HTCondor, to be read, edited and handed in by the user.

The script starts one process a GPU, has the run save when its time is almost up, and puts it back into the queue.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from multiplet.errors import STOPPED, RecipeError, RunError
from multiplet.files import write_atomically
from multiplet.recipe import Recipe
from multiplet.recipes.find import make_recipe
from multiplet.spec import did_you_mean

SCHEDULERS = ("slurm", "condor")
_NOTICE = 120  # seconds before the time limit at which the run is told to save
_TIME = re.compile(r"(\d{1,3}-)?\d{1,3}:[0-5]\d:[0-5]\d", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:@+-]*")  # of partitions and accounts
_MEMORY = re.compile(r"[1-9][0-9]*[KMGT]?")


@dataclass(frozen=True)
class Resources:
    """What is asked of the batch system: `cpus` a process, `memory` a node (64G), `time` as [days-]HH:MM:SS."""

    nodes: int = 1
    gpus: int = 1  # a node, a process each; 0: one process a node, on the processor
    time: str = "04:00:00"
    cpus: int = 4
    memory: str = ""
    partition: str = ""
    account: str = ""

    def __post_init__(self) -> None:
        least = (("nodes", self.nodes, 1), ("gpus", self.gpus, 0), ("cpus", self.cpus, 1))
        faults = [f"{name} is {given}; it is at least {bound}" for name, given, bound in least if given < bound]
        if not _TIME.fullmatch(self.time) or self.seconds <= 2 * _NOTICE:
            faults.append(f"time is {self.time!r}; it is written as 04:00:00 or 2-00:00:00 and must exceed 00:04:00")
        if self.memory and not _MEMORY.fullmatch(self.memory):
            faults.append(f"memory is {self.memory!r}; it is written as 64G")
        names = (("partition", self.partition), ("account", self.account))
        faults += [f"{key} is {name!r}, which is no name" for key, name in names if name and not _NAME.fullmatch(name)]
        if faults:
            raise RecipeError("; ".join(faults))

    @property
    def seconds(self) -> int:
        """The time limit."""
        days, clock = self.time.split("-") if "-" in self.time else ("0", self.time)
        hours, minutes, seconds = map(int, clock.split(":"))
        return ((int(days) * 24 + hours) * 60 + minutes) * 60 + seconds

    @property
    def processes(self) -> int:
        """On each node."""
        return max(self.gpus, 1)


@dataclass(frozen=True)
class Script:
    """Files that were written, the command that hands them in, and what could not be checked from here."""

    files: tuple[Path, ...]
    command: str
    notes: tuple[str, ...]


def submit(
    scheduler: str,
    recipe: str,
    out: Path,
    changes: Sequence[str] = (),
    resources: Resources | None = None,
    seeds: Sequence[int] = (),
    folder: Path = Path("jobs"),
    command: str = "",
) -> Script:
    """Write the script of a training into `folder`; nothing is handed in.

    With `seeds` it is an array of trainings, one a seed, in OUT/seed-N. Raises RecipeError for whatever could only
    fail in the queue: an unknown recipe or argument, more processes than events in a batch, text that no script can
    hold; and RunError rather than write over a script that was edited.
    """
    asked = resources or Resources()
    if scheduler not in SCHEDULERS:
        raise RecipeError(f"{scheduler!r} is no batch system ({did_you_mean(scheduler, SCHEDULERS)})")
    here, folder = Path.cwd(), folder.absolute()
    for text in (recipe, str(out), *changes, str(folder), str(here), command, sys.executable):
        if not text.isprintable():
            raise RecipeError(f"{text!r} holds a character that cannot be printed: a script cannot hold it")
    if seeds and (len(set(seeds)) < len(seeds) or min(seeds) < 0):
        raise RecipeError(f"seeds are {list(seeds)}: whole numbers from 0 on, each once")
    notes = _check(make_recipe(recipe, [*changes, *(f"seed={seed}" for seed in seeds[:1])]), asked)
    name = re.sub(r"[^A-Za-z0-9._-]", "-", out.name).lstrip("-.") or "multiplet"
    job = _Job(name, here, _train(recipe, out, changes, bool(seeds)), asked, tuple(seeds))
    shell, description = folder / f"{name}.sh", folder / f"{name}.sub"
    texts = {shell: job.slurm()} if scheduler == "slurm" else {shell: job.shell(), description: job.condor(shell)}
    hand_in = shlex.join(["sbatch", str(shell)] if scheduler == "slurm" else ["condor_submit", str(description)])
    head = f"# Written by: {command}\n# Hand it in with: {hand_in}\n" if command else ""
    for path, text in texts.items():
        first, _, rest = text.partition("\n")
        _write(path, f"{first}\n{head}{rest}", executable=path == shell)
    return Script(tuple(texts), hand_in, tuple(notes))


def _check(recipe: Recipe, asked: Resources) -> list[str]:
    """Notes on what cannot be known here; RecipeError for what cannot run."""
    total = asked.nodes * asked.processes
    if total > (size := recipe.train.batches.size):
        raise RecipeError(f"{total} processes would share batches of {size} events: ask for less, or larger batches")
    if asked.gpus and recipe.train.device == "cpu":
        raise RecipeError("train.device is cpu: give --gpus 0, or leave the device out")
    missing = [path for path in recipe.data.paths if not Path(path).is_dir()]
    return [f"there is no folder {path} here: make sure that the nodes see it" for path in missing]


def _train(recipe: str, out: Path, changes: Sequence[str], seeds: bool) -> str:
    """The arguments of python, quoted for a shell; the seed is that of the task in an array."""
    folder = shlex.quote(str(out)) + ('/seed-"$seed"' if seeds else "")
    parts = ["-m multiplet train", shlex.quote(recipe), folder, *map(shlex.quote, changes)]
    return " ".join([*parts, 'seed="$seed"'] if seeds else parts)


@dataclass(frozen=True)
class _Job:
    name: str
    here: Path
    train: str
    asked: Resources
    seeds: tuple[int, ...]

    def slurm(self) -> str:
        """The script for sbatch."""
        asked = self.asked
        options = {
            "job-name": self.name, "partition": asked.partition, "account": asked.account, "nodes": asked.nodes,
            "ntasks-per-node": asked.processes, "cpus-per-task": asked.cpus, "gpus-per-node": asked.gpus,
            "mem": asked.memory, "time": asked.time, "array": ",".join(map(str, self.seeds)),
            "output": "%x-%A_%a.log" if self.seeds else "%x-%j.log", "open-mode": "append",
            "signal": f"B:USR1@{_NOTICE}",
        }  # fmt: skip
        lines = ["#!/bin/bash", *(f"#SBATCH --{key}={value}" for key, value in options.items() if value)]
        lines += ["#SBATCH --requeue", "", *self._start("$SLURM_ARRAY_TASK_ID")]
        many = asked.nodes * asked.processes > 1
        step = f"{_MEET if many else ''}srun --cpus-per-task={asked.cpus}{_EACH if many else ''}"
        return "\n".join([*lines, f'{step} \\\n    "$python" {self.train} &', _REQUEUE])

    def condor(self, shell: Path) -> str:
        """The description for condor_submit."""
        asked = self.asked
        if unfit := [text for text in (str(self.here), str(shell)) if "$" in text or '"' in text]:
            raise RecipeError(f'{unfit[0]!r}: a submit description takes no $ or " in a path')
        if asked.nodes > 1 or asked.partition:
            raise RecipeError("HTCondor gives a job one machine and has no partitions: leave out --nodes, --partition")
        log = f"{self.name}-$(Cluster)" + ("-$(seed)" if self.seeds else "")
        values = {
            "universe": "vanilla", "executable": shell, "arguments": "$(seed)" if self.seeds else "",
            "initialdir": self.here, "output": f"{log}.out", "error": f"{log}.err", "log": f"{log}.log",
            "request_cpus": asked.cpus * asked.processes, "request_gpus": asked.gpus, "request_memory": asked.memory,
            "accounting_group": asked.account, "should_transfer_files": "NO",
            "job_max_vacate_time": _NOTICE, "on_exit_remove": f"ExitCode =!= {STOPPED}", "+MaxRuntime": asked.seconds,
        }  # fmt: skip
        notes = {
            "should_transfer_files": "Run folder and events lie on a disk that this machine and the nodes share.",
            "job_max_vacate_time": "Told to go (SIGTERM), the run saves; that takes some time.",
            "on_exit_remove": f"The run leaves with {STOPPED} when it saved and has more to do: then it starts again.",
            "+MaxRuntime": "The time limit in seconds, by its name at CERN; see your site's pages for others.",
        }
        said = {key: f"# {note}\n" for key, note in notes.items()}
        lines = ["# HTCondor", *(f"{said.get(key, '')}{key} = {value}" for key, value in values.items() if value)]
        queue = f"queue seed in ({', '.join(map(str, self.seeds))})" if self.seeds else "queue"
        return "\n".join([*lines, queue]) + "\n"

    def shell(self) -> str:
        """What HTCondor starts."""
        lines = ["#!/bin/bash", *self._start("$1")]
        lines += [f"# {_NOTICE} s before the time limit the run is told to save; it then leaves with {STOPPED}."]
        run = f"timeout --foreground --preserve-status --signal=USR1 {self.asked.seconds - _NOTICE} \\\n"
        run += f'    "$python" {self.train}'
        if self.asked.processes == 1:
            return "\n".join([*lines, f"exec {run}"]) + "\n"
        meet = "MASTER_ADDR=127.0.0.1 MASTER_PORT=$((15000 + $$ % 10000))"
        lines += [f"export WORLD_SIZE={self.asked.processes} {meet}", _RANKS.replace("RUN", run)]
        return "\n".join(lines)

    def _start(self, seed: str) -> list[str]:
        python = f"python={shlex.quote(sys.executable)}  # of an environment that the nodes see"
        lines = [f"cd {shlex.quote(str(self.here))} || exit 2", python, f"export OMP_NUM_THREADS={self.asked.cpus}"]
        return [*lines, f"seed={seed}"] if self.seeds else lines


_MEET = """\
# The processes find one another through the first node.
export MASTER_ADDR MASTER_PORT WORLD_SIZE=$SLURM_NTASKS
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((15000 + SLURM_JOB_ID % 10000))
# Where one of them fails, the others are ended a minute later.
"""
_EACH = """ --kill-on-bad-exit=0 --wait=60 \\
    bash -c 'RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID exec "$@"' rank"""
_REQUEUE = f"""\
step=$!

# Some time before its limit SLURM signals this script alone. The run saves and leaves with {STOPPED}; then the job goes
# back into the queue and goes on from there. A job that is cancelled gets no such signal, and stays away.
time_is_up() {{
    trap '' USR1
    kill -USR1 "$step"
    wait "$step"
    code=$?
    job=$SLURM_JOB_ID
    [ -z "$SLURM_ARRAY_JOB_ID" ] || job=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
    [ "$code" -ne {STOPPED} ] || scontrol requeue "$job"
    exit "$code"
}}
trap time_is_up USR1
wait "$step"
"""
_RANKS = """\
ranks=()
for ((rank = 0; rank < WORLD_SIZE; rank++)); do
    RANK=$rank LOCAL_RANK=$rank RUN &
    ranks+=($!)
done

# Ends when all have, with the largest of their exit codes; SIGTERM is passed on.
finish() {
    code=0
    for process in "${ranks[@]}"; do
        wait "$process" || code=$(($? > code ? $? : code))
    done
    exit "$code"
}
trap 'trap "" TERM; kill -TERM "${ranks[@]}"; finish' TERM
finish
"""


def _write(path: Path, text: str, executable: bool) -> None:
    if path.is_file() and path.read_text() != text:
        raise RunError(f"{path} is there and says something else: remove it, or write elsewhere with --write")
    write_atomically(path, text.encode())
    path.chmod(0o755 if executable else 0o644)
