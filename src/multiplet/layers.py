"""Layers that declare what their parameters are, so that one rule sets spread, multiplier and rate for any width.

Glossary: B events, S slots, D width, H query heads, G key/value heads, hd head dimension.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from multiplet.dimensions import Declared, Width, declare, declare_rows, declare_token, declare_vector
from multiplet.kernels import linear, rms_norm, rotate
from multiplet.parametrisation import Parametrisation


def full_precision(like: Tensor) -> torch.autocast:
    """A context in which matrix products keep FP32 whatever the precision around them."""
    return torch.autocast(like.device.type, enabled=False)


class Linear(nn.Module):
    """y = m·(x Wᵀ) + b; the parametrisation sets spread and multiplier and may drop b. `zero` starts at W = 0."""

    def __init__(
        self,
        fan_in: int,
        fan_out: int,
        param: Parametrisation,
        *,
        bias: bool = False,
        zero: bool = False,
        depth: int | None = None,
        std: float | None = None,
    ) -> None:
        super().__init__()
        weight = declare(fan_in, fan_out, depth, std)
        self.declared: dict[str, Declared] = {"weight": weight, "bias": declare_vector(fan_out, depth)}
        self.multiplier = param.multiplier(weight)
        self.weight = nn.Parameter(torch.zeros(int(fan_out), int(fan_in)))
        self.bias = nn.Parameter(torch.zeros(int(fan_out))) if bias and param.vectors else None
        if not zero:
            nn.init.normal_(self.weight, std=param.spread(weight))

    def forward(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        weight = self.weight if self.multiplier == 1.0 else self.weight * self.multiplier
        return linear(x, weight, self.bias)


class Embedding(nn.Module):
    """A learned vector for each of `codes` ids."""

    def __init__(self, codes: int, width: Width, param: Parametrisation, *, std: float = 1.0) -> None:
        super().__init__()
        self.declared = {"weight": declare_rows(codes, width, std)}
        self.weight = nn.Parameter(torch.empty(codes, int(width)))
        nn.init.normal_(self.weight, std=param.spread(self.declared["weight"]))

    def forward(self, ids: Int[Tensor, " ..."]) -> Float[Tensor, "... D"]:
        return F.embedding(ids.long(), self.weight)


class Vector(nn.Module):
    """One learned vector: a mask token, a register, a class token."""

    def __init__(self, width: Width, param: Parametrisation, *, std: float = 0.02) -> None:
        super().__init__()
        self.declared = {"value": declare_token(width, std)}
        self.value = nn.Parameter(torch.empty(int(width)))
        nn.init.normal_(self.value, std=param.spread(self.declared["value"]))

    def forward(self) -> Float[Tensor, " D"]:
        return self.value


class RMSNorm(nn.Module):
    """x / √(mean x² + eps) · gain, the mean taken in FP32 (arXiv 1910.07467); without gain where not `affine`."""

    def __init__(self, width: Width, *, affine: bool = True, depth: int | None = None, eps: float = 1e-5) -> None:
        super().__init__()
        self.declared = {"gain": declare_vector(width, depth)}
        self.gain = nn.Parameter(torch.ones(int(width))) if affine else None
        self.eps = eps

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        return rms_norm(x.float(), self.gain, self.eps)


class LayerNorm(nn.Module):
    """(x - mean) / √(variance + eps), in FP32; with gain and shift where `affine`."""

    def __init__(self, width: Width | int, *, affine: bool = True, depth: int | None = None, eps: float = 1e-6) -> None:
        super().__init__()
        self.declared = {"gain": declare_vector(width, depth), "shift": declare_vector(width, depth)}
        self.gain = nn.Parameter(torch.ones(int(width))) if affine else None
        self.shift = nn.Parameter(torch.zeros(int(width))) if affine else None
        self.eps = eps

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        return F.layer_norm(x.float(), (x.shape[-1],), self.gain, self.shift, self.eps)


class Residual(nn.Module):
    """skip · h + branch · f(norm(h)): the sum of one branch, number `index` of a stack of `depth` layers."""

    def __init__(self, width: Width, param: Parametrisation, index: int, depth: int, layer_norm: bool = False) -> None:
        super().__init__()
        self.norm = (LayerNorm if layer_norm else RMSNorm)(width, affine=param.vectors, depth=depth)
        self.skip, self.branch = param.residual(index, depth)

    def forward(self, h: Float[Tensor, "B S D"], f: Callable[[Tensor], Tensor]) -> Float[Tensor, "B S D"]:
        out = f(self.norm(h))
        return (h if self.skip == 1.0 else self.skip * h) + (out if self.branch == 1.0 else self.branch * out)


class SwiGLU(nn.Module):
    """W_down(SiLU(W_gate x) ⊙ W_up x), hidden width `expansion` times the width (arXiv 2002.05202); no biases."""

    def __init__(self, width: Width, expansion: float, param: Parametrisation, depth: int) -> None:
        super().__init__()
        hidden = width * expansion
        self.gate = Linear(width, hidden, param, depth=depth)
        self.up = Linear(width, hidden, param, depth=depth)
        self.down = Linear(hidden, width, param, depth=depth)
        self.gain = param.gate_gain

    def forward(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        product = F.silu(self.gate(x)) * self.up(x)
        return self.down(product if self.gain == 1.0 else product * self.gain)


class FeedForward(nn.Module):
    """W_down ReLU(W_up x + b) + b, hidden width `expansion` times the width (arXiv 1706.03762)."""

    def __init__(self, width: Width, expansion: float, param: Parametrisation, depth: int) -> None:
        super().__init__()
        self.up = Linear(width, width * expansion, param, depth=depth, bias=True)
        self.down = Linear(width * expansion, width, param, depth=depth, bias=True)
        self.gain = param.relu_gain

    def forward(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        y = F.relu(self.up(x))
        return self.down(y if self.gain == 1.0 else y * self.gain)


class Attention(nn.Module):
    """Grouped-query attention (arXiv 2305.13245) of `x` to `memory`: 2d² + 2·memory·kv weights, biases on request."""

    def __init__(
        self,
        width: Width,
        memory: Width,
        kv_heads: int,
        group: int,
        head_dim: int,
        param: Parametrisation,
        depth: int,
        bias: bool = False,
    ) -> None:
        super().__init__()
        keys = Width(kv_heads * head_dim, width.ratio)
        inner = keys * group
        self.query = Linear(width, inner, param, depth=depth, zero=param.zero_readout, bias=bias)
        self.key = Linear(memory, keys, param, depth=depth, bias=bias)
        self.value = Linear(memory, keys, param, depth=depth, bias=bias)
        self.out = Linear(inner, width, param, depth=depth, bias=bias)
        self.head_dim, self.scale, self.group = head_dim, param.attention_scale(head_dim), group
        self.power = param.attention_power(head_dim)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        memory: Float[Tensor, "B T M"],
        mask: Bool[Tensor, "B T"],
        turn_x: Rotation | None = None,
        turn_memory: Rotation | None = None,
    ) -> Float[Tensor, "B S D"]:
        """`mask` is True for slots of the memory that are real; the turns rotate queries and keys by position."""
        q, k, v = (self._heads(y) for y in (self.query(x), self.key(memory), self.value(memory)))
        if turn_x is not None and turn_memory is not None:
            q, k = turn_x(q), turn_memory(k)
        if self.group > 1 and q.is_cuda:  # fused kernels with a mask want as many key as query heads
            k, v = (y.repeat_interleave(self.group, dim=1) for y in (k, v))
        shared = k.shape[1] < q.shape[1]
        y = F.scaled_dot_product_attention(
            q, k, v.to(q.dtype), attn_mask=mask[:, None, None, :], scale=self.scale, enable_gqa=shared
        )
        if self.power != 0.0:
            y = y * mask.sum(1).clamp(min=1).pow(self.power).to(y.dtype)[:, None, None, None]
        return self.out(y.transpose(1, 2).flatten(2))

    def _heads(self, y: Float[Tensor, "B S HD"]) -> Float[Tensor, "B H S hd"]:
        return y.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class Rotation:
    """Turns pairs of entries by angles that grow with position (RoPE, arXiv 2104.09864)."""

    def __init__(self, position: Int[Tensor, "B S"], head_dim: int, theta: float) -> None:
        half = head_dim // 2
        frequency = theta ** (-torch.arange(half, device=position.device, dtype=torch.float32) / half)
        angle = position[:, None, :, None].float() * frequency
        cos, sin = angle.cos(), angle.sin()
        self.cos, self.sin = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)

    def __call__(self, x: Float[Tensor, "B H S hd"]) -> Float[Tensor, "B H S hd"]:
        return rotate(x.float(), self.cos, self.sin).to(x.dtype)
