"""Preflight: what would make ranks wait for ever is one clear error on each of them, soon."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import tiny
from multiplet import preflight
from multiplet.distributed import pick_device, ranks
from multiplet.errors import RecipeError, RunError
from multiplet.preflight import Place, compare, facts, find_place
from multiplet.spec import to_dict

WHOLE = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def test_where_a_process_stands_is_read_from_the_environment() -> None:
    assert find_place({}) == Place()
    assert find_place({"WORLD_SIZE": "1", "RANK": "0", "SLURM_STEP_NUM_TASKS": "1"}) == Place()
    assert find_place(WHOLE) == Place(1, 4, 1)
    assert find_place({**WHOLE, "SLURM_STEP_NUM_TASKS": "4"}) == Place(1, 4, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RANK": None}, "RANK not set"),
        ({"MASTER_ADDR": None, "MASTER_PORT": ""}, "MASTER_ADDR, MASTER_PORT not set"),
        ({"WORLD_SIZE": None}, "WORLD_SIZE is not set"),
        ({"RANK": "4"}, "ranks count from 0"),
        ({"RANK": "-1"}, "RANK=-1"),
        ({"LOCAL_RANK": "one"}, "LOCAL_RANK=one"),
        ({"WORLD_SIZE": "4.0"}, "WORLD_SIZE=4.0"),
        ({"WORLD_SIZE": None, "RANK": None, "SLURM_STEP_NUM_TASKS": "8"}, "srun started 8 tasks"),
    ],
)
def test_an_environment_that_is_not_whole_is_refused(change: dict[str, str | None], message: str) -> None:
    given = {name: text for name, text in {**WHOLE, **change}.items() if text is not None}
    with pytest.raises(RecipeError, match=message):
        find_place(given)


def said(places: list[dict], patience: float = 5.0, count: int = 0) -> list[str]:
    """What `compare` tells each rank, all at once; empty where it lets it go on. Each says facts and machine."""
    store, messages = dist.HashStore(), ["did not end"] * len(places)

    def one(rank: int, facts: dict, where: str) -> None:
        try:
            compare(store, Place(rank, count or len(places), rank), facts, where, patience)
            messages[rank] = ""
        except RunError as error:
            messages[rank] = str(error)

    threads = [threading.Thread(target=one, args=(rank, *place)) for rank, place in enumerate(places)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return messages


RECIPE = to_dict(tiny.labels("data"))
ALIKE = facts(torch.device("cpu"), RECIPE)


def test_ranks_that_agree_go_on() -> None:
    assert said([(ALIKE, "node1"), (ALIKE, "node1"), (ALIKE, "node2")]) == [""] * 3
    assert said([(ALIKE, f"node1, GPU {rank}") for rank in range(4)]) == [""] * 4


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({**ALIKE, "torch": "2.0"}, "rank 2 (n2) differs from rank 0: torch: "),
        ({**ALIKE, "device": "cuda"}, "device: 'cpu' → 'cuda'"),
        (facts(torch.device("cpu"), to_dict(tiny.labels("data", 21))), "recipe.train.steps: 20 → 21"),
    ],
)
def test_every_rank_hears_that_one_differs(other: dict, message: str) -> None:
    heard = said([(ALIKE, "n0"), (ALIKE, "n1"), (other, "n2"), (ALIKE, "n3")])
    assert len(set(heard)) == 1
    assert message in heard[0]
    assert heard[0].count("differs") == 1


def test_two_ranks_on_one_gpu_are_refused() -> None:
    heard = said([(ALIKE, "n0, GPU a"), (ALIKE, "n1, GPU a"), (ALIKE, "n0, GPU a")])
    assert heard == [heard[0]] * 3
    assert heard[0].startswith("ranks 0 and 2 share n0, GPU a")


def test_a_rank_that_does_not_come_is_named_in_time() -> None:
    begun = time.monotonic()
    heard = said([(ALIKE, "n0"), (ALIKE, "n1")], patience=0.3, count=4)
    assert time.monotonic() - begun < 60
    assert all("waited 0.3 s for rank 2, rank 3" in line for line in heard)


def test_more_ranks_than_events_in_a_batch_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in WHOLE.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(RecipeError, match="4 ranks would share batches of 3"), ranks("cpu", most=3):
        pass


@pytest.mark.parametrize(("seen", "local", "index"), [(4, 3, 3), (1, 3, 0), (1, 0, 0)])
def test_the_gpu_of_a_rank(seen: int, local: int, index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    assert pick_device("auto", local) == torch.device("cuda", index)


def test_more_ranks_on_a_machine_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(RecipeError, match="sees 2 GPUs"):
        pick_device("auto", 2)


def test_a_port_that_is_taken_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for name, text in {**WHOLE, "RANK": "0", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, text)
        with pytest.raises(RunError, match=f"localhost:{port}.*port must be free"), ranks("cpu"):
            pass


def launch(rank: int, port: int, *arguments: str) -> subprocess.Popen:
    environment = {**os.environ, **WHOLE, "OMP_NUM_THREADS": "1", "RANK": str(rank), "WORLD_SIZE": "2"}
    environment["MASTER_PORT"] = str(port)
    command = [sys.executable, "-m", "multiplet", "train", *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


@pytest.mark.slow
def test_two_commands_that_say_different_things_both_end_with_the_reason(toys: Path, tmp_path: Path) -> None:
    given = [f"{Path(__file__).parent / 'tiny.py'}:labels", str(tmp_path / "run"), f"data={toys}"]
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    processes = [launch(0, port, *given, "steps=3"), launch(1, port, *given, "steps=4")]
    errors = [process.communicate(timeout=preflight.PATIENCE / 10)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2], errors
    for error in errors:
        assert "differs from rank 0: recipe.train.steps: 3 → 4" in error
    assert not (tmp_path / "run").exists()
