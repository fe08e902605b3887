"""What layers declare of their parameters: which dimensions grow with the model.

A layer declares its two dimensions; one that grows is a `Width`, which remembers its ratio m to the base model. What
kind of parameter it is follows from that (µP, arXiv 2203.03466, tables 3 and 8):

    input   finite → width      hidden  width → width      output  width → finite
    vector  biases and gains    fixed   no dimension grows
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from torch import nn

from multiplet.errors import RecipeError


class Width(int):
    """A dimension that grows with the model; `ratio` is m, its size over its size in the base model."""

    ratio: float

    def __new__(cls, size: int, ratio: float = 1.0) -> Width:
        self = super().__new__(cls, size)
        self.ratio = ratio
        return self

    def __mul__(self, factor: float) -> Width:
        return Width(round(int(self) * factor), self.ratio)

    __rmul__ = __mul__

    def __reduce__(self) -> tuple[Any, ...]:
        return Width, (int(self), self.ratio)


class Role(StrEnum):
    """What kind of parameter this is: which of its dimensions grow with the model."""

    INPUT = "input"
    HIDDEN = "hidden"
    OUTPUT = "output"
    VECTOR = "vector"
    FIXED = "fixed"


@dataclass(frozen=True)
class Declared:
    """What a layer says of one parameter when it is made; kept on the module, so copies and wrappers keep it."""

    role: Role
    fan_in: int  # how many products make one output; 0 for biases and gains
    ratio: float  # m of the dimension that grows; 1 where none does
    depth: int | None = None  # layers of the stack it belongs to; None outside a stack
    std: float | None = None  # initial spread at the base width; None: 1/√(fan_in there)
    row: int | None = None  # of learned vectors that are looked up one at a time: their size
    factor: float = 1.0  # of the rate, where something that was carried is to move more slowly


def declare(fan_in: int, fan_out: int, depth: int | None = None, std: float | None = None) -> Declared:
    """A weight matrix from `fan_in` to `fan_out`; either is a Width if it grows with the model."""
    grows_in, grows_out = isinstance(fan_in, Width), isinstance(fan_out, Width)
    role = {(0, 0): Role.FIXED, (0, 1): Role.INPUT, (1, 0): Role.OUTPUT, (1, 1): Role.HIDDEN}[grows_in, grows_out]
    ratio = fan_in.ratio if isinstance(fan_in, Width) else fan_out.ratio if isinstance(fan_out, Width) else 1.0
    return Declared(role, int(fan_in), ratio, depth, std)


def declare_rows(codes: int, width: Width, std: float) -> Declared:
    """A table of `codes` learned vectors."""
    return replace(declare(codes, width, std=std), row=int(width))


def declare_token(width: Width, std: float) -> Declared:
    """One learned vector that stands for something: a mask token, an event slot."""
    return Declared(Role.VECTOR, 1, width.ratio, None, std, int(width))


def declare_vector(size: int, depth: int | None = None) -> Declared:
    """A bias or a gain with `size` entries."""
    grows = isinstance(size, Width)
    return Declared(Role.VECTOR if grows else Role.FIXED, 0, size.ratio if isinstance(size, Width) else 1.0, depth, 0.0)


def declared_parameters(model: nn.Module) -> dict[str, Declared]:
    """Name → what its layer declared; RecipeError naming every parameter that no layer declared."""
    table, missing = {}, []
    for path, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            full = f"{path}.{name}" if path else name
            declared = getattr(module, "declared", {}).get(name)
            if declared is None:
                missing.append(full)
            else:
                table[full] = declared
    if missing:
        raise RecipeError(
            f"no layer declares the role of {missing}: use the layers of multiplet.layers, or set `declared`"
        )
    return table
