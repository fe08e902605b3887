"""Preflight: what would leave several processes waiting for one another for ever, found before they start."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Any, Protocol, runtime_checkable

import torch

from multiplet.errors import RecipeError, RunError
from multiplet.spec import differences

PATIENCE = 600.0  # seconds for the last process to come: environments on network disks are slow to start from
_GPU = ", GPU "
_FAREWELL = 10.0  # seconds for the others to read why it goes no further, from the process that tells them


@dataclass(frozen=True)
class Place:
    """Which of how many processes this is, and which on its machine."""

    rank: int = 0
    count: int = 1
    local: int = 0


@runtime_checkable
class Store(Protocol):
    """What all processes read and write: a store of torch.distributed."""

    def set(self, key: str, value: str) -> Any: ...
    def get(self, key: str) -> bytes: ...
    def add(self, key: str, amount: int) -> int: ...
    def check(self, keys: list[str]) -> bool: ...
    def wait(self, keys: list[str], timeout: timedelta) -> Any: ...


def find_place(environment: Mapping[str, str]) -> Place:
    """The place that torchrun or a batch script gave this process; RecipeError where what they say is not whole."""
    if environment.get("WORLD_SIZE", "1") == "1":
        tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
        if tasks.isdecimal() and int(tasks) > 1:
            raise RecipeError(
                f"srun started {tasks} tasks that do not know of one another: use one task a node and `torchrun "
                "--nproc-per-node …` in it, or the script that `multiplet submit slurm` writes"
            )
        if environment.get("RANK", "0") != "0":
            raise RecipeError(f"RANK is {environment['RANK']} but WORLD_SIZE is not set: {_WHO}")
        return Place()
    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]:
        raise RecipeError(f"WORLD_SIZE is {environment['WORLD_SIZE']} but {', '.join(missing)} not set: {_WHO}")
    numbers = {name: environment.get(name, "0") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")}
    if wrong := [f"{name}={text}" for name, text in numbers.items() if not (text.isascii() and text.isdecimal())]:
        raise RecipeError(f"{', '.join(wrong)} in the environment: whole numbers are needed; {_WHO}")
    rank, count, local, _ = map(int, numbers.values())
    if rank >= count:
        raise RecipeError(f"RANK is {rank} of WORLD_SIZE {count}: ranks count from 0; {_WHO}")
    return Place(rank, count, local)


_WHO = "torchrun sets these, and so do the scripts of `multiplet submit`; unset them all to train in one process"


def facts(device: torch.device, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same on all ranks."""
    return {
        "multiplet": version("multiplet"),
        "torch": torch.__version__,
        "device": device.type,
        "recipe": dict(recipe),
    }


def machine(device: torch.device) -> str:
    """The host, and on a GPU the name that no other GPU has: two ranks must not share it."""
    if device.type != "cuda":
        return socket.gethostname()
    properties = torch.cuda.get_device_properties(device)
    return f"{socket.gethostname()}{_GPU}{getattr(properties, 'uuid', device.index)}"


def compare(store: Store, place: Place, mine: Mapping[str, Any], where: str, patience: float = PATIENCE) -> None:
    """Raise RunError on every rank where one did not come, says something else than the first, or shares a GPU."""
    keys = [f"said/{rank}" for rank in range(place.count)]
    if place.rank == 0:
        store.set("facts", json.dumps(mine))
    _await(store, ["facts"], ["rank 0"], patience)
    lines = differences(json.loads(store.get("facts")), json.loads(json.dumps(mine)))
    store.set(keys[place.rank], json.dumps([where, "; ".join(lines[:5])]))
    _await(store, keys, [f"rank {rank}" for rank in range(place.count)], patience)
    said = [json.loads(store.get(key)) for key in keys]
    faults = [f"rank {rank} ({host}) differs from rank 0: {text}" for rank, (host, text) in enumerate(said) if text]
    faults += _shared([host for host, _ in said])
    if not faults:
        return
    if store.add("read", 1) and place.rank == 0:  # the store may end with this process
        end = time.monotonic() + _FAREWELL
        while store.add("read", 0) < place.count and time.monotonic() < end:
            time.sleep(0.01)
    raise RunError("; ".join(faults[:3]) + ": start all ranks with the same command in the same environment")


def _shared(hosts: Sequence[str]) -> list[str]:
    first = {host: rank for rank, host in reversed(list(enumerate(hosts)))}
    gpus = [(rank, host) for rank, host in enumerate(hosts) if _GPU in host]
    return [f"ranks {first[gpu]} and {rank} share {gpu}" for rank, gpu in gpus if first[gpu] != rank]


def _await(store: Store, keys: list[str], names: Sequence[str], patience: float) -> None:
    try:
        store.wait(keys, timedelta(seconds=patience))
    except RuntimeError as error:  # of torch: too late, or the process that holds the store is gone
        late = _late(store, keys, names)
        raise RunError(f"waited {patience:g} s for {late}: see its own message, or what holds its machine") from error


def _late(store: Store, keys: list[str], names: Sequence[str]) -> str:
    try:
        return ", ".join(name for key, name in zip(keys, names, strict=True) if not store.check([key])) or "the others"
    except RuntimeError:
        return "rank 0, which is gone"
