"""How initial values, forward multipliers and learning rates depend on width and depth: standard, µP or u-µP.

A layer declares its two dimensions; one that grows with the model is a `Width`, which remembers its ratio m to the
base model. What kind of parameter it is follows from that (µP, arXiv 2203.03466, tables 3 and 8):

    input   finite → width      hidden  width → width      output  width → finite
    vector  biases and gains    fixed   no dimension grows
"""

from __future__ import annotations

import math
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


@dataclass(frozen=True)
class Standard:
    """Every width its own model: spread 1/√fan_in, one rate for all. The optimum moves with width."""

    def width(self, size: int) -> Width:
        """A growing dimension."""
        return Width(size)

    def spread(self, declared: Declared) -> float:
        """Initial standard deviation of a weight."""
        return 1 / math.sqrt(declared.fan_in) if declared.std is None else declared.std

    def multiplier(self, declared: Declared) -> float:
        """What the layer's output is multiplied by."""
        return 1.0

    def rate(self, declared: Declared) -> float:
        """What Adam's learning rate is multiplied by."""
        return 1.0

    def residual(self, index: int, depth: int) -> tuple[float, float]:
        """Weights of skip and branch in the sum; `index` counts the branches of a stack of `depth` layers."""
        return 1.0, 1.0

    def attention_scale(self, head_dim: int) -> float:
        """What query · key is multiplied by."""
        return 1 / math.sqrt(head_dim)

    def attention_power(self, head_dim: int) -> float:
        """The output of attention is multiplied by the number of keys to this power."""
        return 0.0

    @property
    def gate_gain(self) -> float:
        """What a gated unit's product is multiplied by."""
        return 1.0

    @property
    def relu_gain(self) -> float:
        """What the output of a rectifier is multiplied by."""
        return 1.0

    @property
    def vectors(self) -> bool:
        """Whether layers have biases and gains."""
        return True

    @property
    def zero_readout(self) -> bool:
        """Whether queries and readouts start at zero, which removes the transient that falls with width."""
        return False

    @property
    def rates(self) -> tuple[float, float]:
        """Rates outside of this range are a mistake, such as that of another parametrisation."""
        return 0.0, 0.5


@dataclass(frozen=True)
class MuP(Standard):
    """µP in base-width form for Adam: equal to Standard at the base width and depth, and one tuned rate for all others.

    Depth as in CompleteP (arXiv 2505.01618): branches × (L/L_base)^-a and block rates × (L/L_base)^(a-1).
    """

    base_width: int = 128
    base_depth: int = 4
    depth_power: float = 1.0

    def __post_init__(self) -> None:
        if self.base_width < 1 or self.base_depth < 1 or not 0 <= self.depth_power <= 1:
            raise RecipeError("MuP needs base_width and base_depth of at least 1 and depth_power in [0, 1]")

    def width(self, size: int) -> Width:
        """A growing dimension, with m its ratio to the base width."""
        return Width(size, size / self.base_width)

    def spread(self, declared: Declared) -> float:
        """Hidden weights spread as the base's /√m; output weights as the base's, their 1/m is a multiplier."""
        base = 1 / math.sqrt(declared.fan_in / self._growth_in(declared)) if declared.std is None else declared.std
        return base / math.sqrt(declared.ratio) if declared.role is Role.HIDDEN else base

    @staticmethod
    def _growth_in(declared: Declared) -> float:
        return declared.ratio if declared.role in (Role.HIDDEN, Role.OUTPUT) else 1.0

    def multiplier(self, declared: Declared) -> float:
        """1/m for readouts ("table 8" form)."""
        return 1 / declared.ratio if declared.role is Role.OUTPUT else 1.0

    def rate(self, declared: Declared) -> float:
        """1/m for hidden weights; the depth factor for all inside a stack."""
        width = 1 / declared.ratio if declared.role is Role.HIDDEN else 1.0
        deep = (declared.depth / self.base_depth) ** (self.depth_power - 1) if declared.depth else 1.0
        return width * deep

    def residual(self, index: int, depth: int) -> tuple[float, float]:
        """Branches are scaled by (L/L_base)^-a."""
        return 1.0, (depth / self.base_depth) ** -self.depth_power

    @property
    def zero_readout(self) -> bool:
        """True."""
        return True


@dataclass(frozen=True)
class UnitMuP(Standard):
    """u-µP (arXiv 2407.17465) for Adam: weights N(0, 1), outputs of order one in every layer, rates around 1.

    There is no base model, and there are no biases and gains, which at such a rate would move by 1 a step.
    `residual_gain`: the spread of what a stack's branches add over that of what enters it, for attention and for the
    other branches each; `attention_ratio`: the spread of what attention adds over that of the others. Multipliers of
    gradients, which Adam divides out, are left away.

    Attention is scaled for tokens that are independent; where they are alike, it gives up to √keys instead of 1.
    """

    residual_gain: float = 1.0
    attention_ratio: float = 1.0

    def __post_init__(self) -> None:
        if self.residual_gain <= 0 or self.attention_ratio <= 0:
            raise RecipeError("UnitMuP needs residual_gain and attention_ratio above 0")

    def spread(self, declared: Declared) -> float:
        """1, whatever a layer asks for."""
        return 1.0

    def multiplier(self, declared: Declared) -> float:
        """1/√fan_in, and 1/fan_in for readouts."""
        return 1 / declared.fan_in if declared.role is Role.OUTPUT else 1 / math.sqrt(declared.fan_in)

    def rate(self, declared: Declared) -> float:
        """1/√fan_in, 1/√width for learned vectors, 1 for readouts; in a stack of L layers times 1/√L."""
        if declared.row is not None:
            rate = 1 / math.sqrt(declared.row)
        elif declared.fan_in == 0:  # of layers that are not unit-scaled, such as an adapter's norms
            rate = 0.01
        else:
            rate = 1.0 if declared.role is Role.OUTPUT else 1 / math.sqrt(declared.fan_in)
        return rate / math.sqrt(declared.depth or 1)

    def residual(self, index: int, depth: int) -> tuple[float, float]:
        """(1, τ)/√(1 + τ²), so that all branches of a kind add as much; even ones are attention (appendix G)."""
        other = self.residual_gain * math.sqrt(2 / (1 + self.attention_ratio**2))
        attention = self.attention_ratio * other
        before = depth + (index + 1) // 2 * attention**2 + index // 2 * other**2
        tau = (other if index % 2 else attention) / math.sqrt(before)
        return 1 / math.sqrt(1 + tau**2), tau / math.sqrt(1 + tau**2)

    def attention_scale(self, head_dim: int) -> float:
        """1/head_dim."""
        return 1 / head_dim

    def attention_power(self, head_dim: int) -> float:
        """Between 1/2, which suits a mean of independent values, and 0, which suits a choice of one."""
        return 0.5 * (1 - 1 / (1 + 4 * head_dim))

    @property
    def gate_gain(self) -> float:
        """Half way between 2, which suits a SiLU that is x/2, and √2, which suits one that is a rectifier."""
        return 2**0.75

    @property
    def relu_gain(self) -> float:
        """√2."""
        return math.sqrt(2)

    @property
    def vectors(self) -> bool:
        """False."""
        return False

    @property
    def rates(self) -> tuple[float, float]:
        """About 1."""
        return 0.01, 16.0


Parametrisation = Standard | MuP | UnitMuP


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
