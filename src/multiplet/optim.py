"""Optimisers: what a recipe says of them, and groups of equal rate and decay read off what the layers declared."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import schedulefree
import torch
from torch import Tensor, nn

from multiplet.dimensions import Role, declared_parameters
from multiplet.errors import RecipeError
from multiplet.parametrisation import Parametrisation


@dataclass(frozen=True)
class AdamW:
    """AdamW with linear warm-up and a half cosine to `final` times the rate at the last step.

    `decay` is the shrink of a weight matrix per step at full rate: independent of the rate, whose schedule it
    follows; with `coupled` it is multiplied by the rate, as in torch. Vectors are never decayed.
    """

    rate: float = 1e-3
    warmup: int = 100
    final: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-12
    decay: float = 1e-4
    coupled: bool = False

    def __post_init__(self) -> None:
        _check(self)

    def build(self, model: nn.Module, param: Parametrisation, steps: int) -> Optimiser:
        """The optimiser of every parameter that asks for a gradient; `steps` is where the cosine ends."""
        groups = _groups(model, param, self)
        return Optimiser(torch.optim.AdamW(groups, betas=self.betas, eps=self.eps), model, self._schedule(steps))

    def _schedule(self, steps: int) -> Schedule:
        return Schedule(self.warmup, steps, self.final)


@dataclass(frozen=True)
class ScheduleFree:
    """Schedule-free AdamW (arXiv 2405.15682): a constant rate after warm-up; the averaged weights are the result."""

    rate: float = 2.5e-3
    warmup: int = 100
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-12
    decay: float = 1e-4
    coupled: bool = False

    def __post_init__(self) -> None:
        _check(self)
        if self.betas[0] == 0:
            raise RecipeError("ScheduleFree.betas[0] is 0: the averaged weights could not be recovered")

    def build(self, model: nn.Module, param: Parametrisation, steps: int) -> Optimiser:
        """The optimiser of every parameter that asks for a gradient."""
        groups = _groups(model, param, self)
        free = schedulefree.AdamWScheduleFree(groups, betas=self.betas, eps=self.eps, warmup_steps=self.warmup)
        return Optimiser(free, model, None)


Optim = AdamW | ScheduleFree


@dataclass(frozen=True)
class Schedule:
    """The factor on the rate at update `step` (0, 1, …): linear warm-up, then half a cosine."""

    warmup: int
    steps: int
    final: float

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = min((step - self.warmup) / max(self.steps - self.warmup, 1), 1.0)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done))


def _check(spec: AdamW | ScheduleFree) -> None:
    if spec.rate <= 0 or spec.warmup < 0 or spec.decay < 0 or not all(0 <= beta < 1 for beta in spec.betas):
        raise RecipeError(f"an optimiser needs rate > 0, warmup and decay >= 0 and betas in [0, 1); given: {spec}")


def require_rate(spec: Optim, param: Parametrisation) -> None:
    """RecipeError where the rate is that of another parametrisation."""
    low, high = param.rates
    if not low <= spec.rate <= high:
        raise RecipeError(
            f"optim.rate is {spec.rate}, where {type(param).__name__} trains with rates from {low} to {high}: "
            f"set optim.rate={'1.0' if spec.rate < low else '0.003'}, or another encoder.param"
        )


def _groups(model: nn.Module, param: Parametrisation, spec: AdamW | ScheduleFree) -> list[dict[str, Any]]:
    """Parameters merged by equal rate and decay; each group keeps its parameters' names."""
    require_rate(spec, param)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    parameters = dict(model.named_parameters())
    for name, declared in declared_parameters(model).items():
        tensor = parameters[name]
        if not tensor.requires_grad:
            continue
        if tensor.dtype != torch.float32:
            raise RecipeError(f"{name} is {tensor.dtype}: parameters and optimiser state stay in float32")
        decays = declared.role is not Role.VECTOR and tensor.dim() >= 2
        rate = spec.rate * param.rate(declared) * declared.factor
        group = groups.setdefault((rate, decays), {"params": [], "names": [], "lr": rate, "weight_decay": 0.0})
        group["params"].append(tensor)
        group["names"].append(name)
        if decays:  # both optimisers shrink by rate · weight_decay
            group["weight_decay"] = spec.decay if spec.coupled else spec.decay / rate
    if not groups:
        raise RecipeError("nothing is left to train: every parameter is frozen")
    return list(groups.values())


class Optimiser:
    """A torch optimiser with its schedule, its two kinds of weights, and its state by parameter name."""

    def __init__(self, inner: torch.optim.Optimizer, model: nn.Module, schedule: Schedule | None) -> None:
        self.inner, self.schedule = inner, schedule
        self._names = {id(tensor): name for name, tensor in model.named_parameters()}
        self._peak = [group["lr"] for group in inner.param_groups]
        self.training_mode()

    def step(self, step: int) -> None:
        """One update; `step` counts updates from 0."""
        if self.schedule is not None:
            for group, peak in zip(self.inner.param_groups, self._peak, strict=True):
                group["lr"] = peak * self.schedule(step)
        self.inner.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.inner.zero_grad(set_to_none=True)

    def training_mode(self) -> None:
        """Parameters are those to take gradients at (y)."""
        if hasattr(self.inner, "train"):
            self.inner.train()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it parameters are those to use (x): for validation, export and features."""
        if hasattr(self.inner, "eval"):
            self.inner.eval()
        try:
            yield
        finally:
            self.training_mode()

    def table(self) -> list[dict[str, Any]]:
        """For the record: of each group the peak rate, the shrink per step at it, and what it holds."""
        return [
            {
                "lr": peak,
                "shrink": peak * group["weight_decay"],
                "tensors": len(group["params"]),
                "numbers": sum(p.numel() for p in group["params"]),
            }
            for group, peak in zip(self.inner.param_groups, self._peak, strict=True)
        ]

    def rates(self) -> list[float]:
        """The rate of each group in the last step."""
        return [float(group.get("scheduled_lr", group["lr"])) for group in self.inner.param_groups]

    def tensors(self) -> dict[str, Tensor]:
        """State tensors as "KEY|PARAMETER"."""
        return {
            f"{key}|{self._names[id(tensor)]}": value
            for tensor, state in self.inner.state.items()
            for key, value in state.items()
            if isinstance(value, Tensor)
        }

    def numbers(self) -> list[dict[str, Any]]:
        """What each group holds beside its parameters."""
        return [{k: v for k, v in group.items() if k not in ("params", "names")} for group in self.inner.param_groups]

    def restore(self, tensors: dict[str, Tensor], numbers: list[dict[str, Any]]) -> None:
        """Set the state saved by `tensors` and `numbers`; RecipeError where the groups differ."""
        if len(numbers) != len(self.inner.param_groups):
            raise RecipeError(f"the checkpoint has {len(numbers)} parameter groups, this optimiser {len(self._peak)}")
        for group, saved in zip(self.inner.param_groups, numbers, strict=True):
            group.update({key: tuple(value) if isinstance(value, list) else value for key, value in saved.items()})
        by_name = {
            name: tensor
            for group in self.inner.param_groups
            for name, tensor in zip(group["names"], group["params"], strict=True)
        }
        for key, value in tensors.items():
            kind, name = key.split("|", 1)
            held = by_name[name]
            self.inner.state[held][kind] = value.clone().to(held.device if value.dim() else "cpu")
