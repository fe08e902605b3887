"""How initial values, forward multipliers and learning rates depend on width and depth: standard, µP or u-µP.

They follow from what layers declare (`dimensions`): from what kind of parameter it is and how much it has grown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from multiplet.dimensions import Declared, Role, Width
from multiplet.errors import RecipeError


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
