"""Ranks: one process, or several under torchrun or a batch system. The only file that imports torch.distributed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from multiplet.errors import RecipeError, RunError
from multiplet.preflight import PATIENCE, Place, compare, facts, find_place, machine


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

    def share(self, module: nn.Module) -> None:
        """Give all ranks the first one's parameters and buffers."""
        if self.count > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, 0)

    def agree(self, value: int, what: str) -> None:
        """Make sure that all ranks hold the same number; RunError on those that do not hold the mean."""
        mean = float(self.sum(torch.tensor(float(value), dtype=torch.double, device=self.device))) / self.count
        if mean != value:
            raise RunError(
                f"rank {self.rank} has {what} {value}, and other ranks another: they see different files; wait until "
                "the file system shows all of them the same, and start again"
            )

    def precision(self, bf16: bool) -> AbstractContextManager[Any]:
        """BF16 for matrix products on a GPU where it is wanted, FP32 on a CPU."""
        return torch.autocast("cuda", torch.bfloat16) if bf16 and self.device.type == "cuda" else nullcontext()

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.count > 1:
            dist.barrier()

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Make each gradient its sum over ranks; what no rank has a gradient of has none, as in one process.

        What a loss reaches may differ between ranks: one of them may have an event without points, or none.
        """
        if self.count == 1:
            return
        reached = self.sum(torch.tensor([float(p.grad is not None) for p in parameters], device=self.device))
        moved = [p for p, ranks in zip(parameters, reached.tolist(), strict=True) if ranks]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in moved]
        for piece in _pieces(gradients, _NUMBERS):
            total = self.sum(torch.cat([gradient.flatten() for gradient in piece]))
            for gradient, part in zip(piece, total.split([g.numel() for g in piece]), strict=True):
                gradient.copy_(part.view_as(gradient))
        for p, gradient in zip(moved, gradients, strict=True):
            p.grad = gradient


_NUMBERS = 1 << 23  # sent at a time: enough for a network to be busy, little beside a model that needs one


def _pieces(tensors: Sequence[Tensor], most: int) -> Iterator[list[Tensor]]:
    """Tensors in a row, as many at a time as have `most` numbers together, or one that has more."""
    piece: list[Tensor] = []
    for tensor in tensors:
        if piece and sum(t.numel() for t in piece) + tensor.numel() > most:
            yield piece
            piece = []
        piece.append(tensor)
    if piece:
        yield piece


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """ "auto", "cpu" or "cuda" as a device; RecipeError where a GPU is asked for and torch sees none."""
    if name not in ("auto", "cpu", "cuda"):
        raise RecipeError(f"device {name!r} is not known: use auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise RecipeError(
            "device cuda was asked for, but torch sees no GPU: ask for device auto or cpu, or check the driver"
        )
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if local_rank >= count > 1:
        raise RecipeError(
            f"LOCAL_RANK is {local_rank}, but this process sees {count} GPUs: start at most {count} on each machine"
        )
    return torch.device("cuda", local_rank if count > 1 else 0)  # a batch system may show each process a GPU of its own


@contextmanager
def ranks(device: str = "auto", most: int | None = None, recipe: Mapping[str, Any] | None = None) -> Iterator[Ranks]:
    """The ranks that torchrun or a batch script started, or this process alone.

    `most` is how many of them have work, `recipe` what they must agree on (a result of `to_dict`). Raises RecipeError
    or RunError, on all ranks, for what would leave some of them waiting for others.
    """
    place = find_place(os.environ)
    if most is not None and place.count > most:
        raise RecipeError(f"{place.count} ranks would share batches of {most} events: use fewer, or larger batches")
    here = pick_device(device, place.local)
    if place.count == 1:
        yield Ranks(device=here)
        return
    if here.type == "cuda":
        torch.cuda.set_device(here)
    store = dist.PrefixStore("preflight", _meet(place))
    compare(store, place, facts(here, recipe or {}), machine(here))
    backend = "nccl" if here.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.PrefixStore("ranks", store), rank=place.rank, world_size=place.count)
    try:
        yield Ranks(place.rank, place.count, here)
    finally:
        dist.destroy_process_group()


def _meet(place: Place) -> dist.Store:
    """The store at MASTER_ADDR and MASTER_PORT that all ranks read and write."""
    try:
        return next(dist.rendezvous("env://", timeout=timedelta(seconds=PATIENCE)))[0]
    except RuntimeError as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise RunError(
            f"rank {place.rank} of {place.count} did not meet the others at {where} ({str(error).splitlines()[0]}): "
            "see what they say; the port must be free on the first machine, and open to the others"
        ) from error
