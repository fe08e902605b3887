"""Ranks: one process or several under torchrun. The only file that imports torch.distributed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from multiplet.errors import RecipeError


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is; alone, every operation is a no-op."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks, the same on all of them."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.count > 1:
            dist.barrier()

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over ranks in its backward pass."""
        return DistributedDataParallel(module) if self.count > 1 else module

    def accumulate(self, module: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Around a backward pass that is not the last of an update: keep its gradients local."""
        return module.no_sync() if isinstance(module, DistributedDataParallel) and not last else nullcontext()


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """ "auto", "cpu" or "cuda" as a device; RecipeError where a GPU is asked for and torch sees none."""
    if name not in ("auto", "cpu", "cuda"):
        raise RecipeError(f"device {name!r} is not known: use auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise RecipeError(
            "device cuda was asked for, but torch sees no GPU: use train.device=auto, or check the driver"
        )
    return torch.device("cuda", local_rank) if name != "cpu" and torch.cuda.is_available() else torch.device("cpu")


@contextmanager
def ranks(device: str = "auto") -> Iterator[Ranks]:
    """The ranks torchrun started, or this process alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        raise RecipeError(
            f"srun started {os.environ['SLURM_STEP_NUM_TASKS']} tasks that do not know of one another: use one task "
            "a node and `torchrun --nproc-per-node …` in it"
        )
    place = pick_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if count == 1:
        yield Ranks(device=place)
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), count, place)
    finally:
        dist.destroy_process_group()
