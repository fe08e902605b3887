"""A process that trains in children of its own, which die when told to: at a call of a function, or after a while.

It is told by lines of JSON, a `Task` each, and answers each with the list of its children's exit codes. Children are
forked, so that each costs no more than its training.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Task:
    """A training of one or more ranks, and how rank 0 dies: not at all where nothing is said."""

    out: Path | str
    data: Path | str
    steps: int
    recipe: str = "masked"
    ranks: int = 1
    at: str = ""  # module:function, of which the call number `call` …
    call: int = 1
    when: str = "before"  # … is not made, is made ("after"), or is made "half": its file is cut in two
    after: float | None = None  # seconds
    largest: int | None = None  # bytes that a file may have, as on a full disk
    order: Path | str = ""  # where to write which events each update of each rank reads


class Mortals:
    """The process, from the outside."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )

    def train(self, **task: Any) -> list[int]:
        """Exit codes of the ranks; below 0 the signal that ended one. What they said is in OUT.said."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asdict(Task(**task)), default=str) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        """The process ends when there is nothing more to read."""
        self.process.communicate(timeout=60)


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def prepare(task: Task) -> None:
    """Put the death where it is to happen."""
    path, _, name = task.at.partition(":")
    holder = importlib.import_module(path)
    *inner, name = name.split(".")
    for part in inner:
        holder = getattr(holder, part)
    real, calls = getattr(holder, name), 0

    @functools.wraps(real)
    def mortal(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < task.call:
            return real(*arguments, **options)
        if task.when != "before":
            real(*arguments, **options)
        if task.when == "half":
            written = next(a for a in (*arguments, getattr(arguments[0], "path", None)) if isinstance(a, Path))
            os.truncate(written, written.stat().st_size - 20)
        return die()

    setattr(holder, name, mortal)


def note(task: Task, rank: int) -> None:
    """Write down the events of each update."""
    from multiplet.training import _Loop

    real = _Loop._update

    def noting(self: Any, work: Any, clouds: Any) -> Any:
        fields = real(self, work, clouds)
        events = [int(event) for part in work.parts for event in part]
        with open(task.order, "a") as file:
            file.write(json.dumps([work.step, rank, events]) + "\n")
        return fields

    _Loop._update = noting


def child(task: Task, rank: int, port: int) -> None:
    """Train as one rank, and be gone."""
    said = os.open(f"{task.out}.said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    if task.ranks > 1:
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": task.ranks, "LOCAL_WORLD_SIZE": task.ranks}
        os.environ |= {name: str(number) for name, number in (numbers | {"MASTER_PORT": port}).items()}
        os.environ["MASTER_ADDR"] = "127.0.0.1"
    import tiny
    from multiplet.errors import MultipletError
    from multiplet.training import train

    if task.order:
        note(task, rank)
    if task.at and rank == 0:
        prepare(task)
    if task.largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (task.largest, task.largest))
    try:
        train(getattr(tiny, task.recipe)(task.data, task.steps), task.out, progress=False)
    except MultipletError as error:
        os.write(1, f"{type(error).__name__}: {error}\n".encode())
        os._exit(2)
    os._exit(0)


def attempt(task: Task) -> list[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(task.ranks):
        if not (number := os.fork()):
            try:
                child(task, rank, port)
            finally:
                import traceback

                traceback.print_exc()
                os._exit(1)
        children.append(number)
    if task.after is not None:
        time.sleep(task.after)
        os.kill(children[0], signal.SIGKILL)  # if it is done it is still there to be waited for
    codes = [os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])]
    for number in children[1:]:
        if codes[0]:
            os.kill(number, signal.SIGKILL)  # as torchrun does with the ranks that are left
        codes.append(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]))
    return codes


if __name__ == "__main__":
    import torch
    import torch._dynamo  # what an optimiser imports when it is made, slowly: here once for all children

    import multiplet.training  # noqa: F401

    torch.set_num_threads(1)
    os.fsync = lambda _: None  # a killed process loses nothing that it gave to the system
    for line in sys.stdin:
        sys.stdout.write(json.dumps(attempt(Task(**json.loads(line)))) + "\n")
        sys.stdout.flush()
