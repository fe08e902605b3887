"""What torch does slowly on CPUs, done again: equal but for rounding, with gradients that are written out.

Products with weight matrices are most of a training step. torch multiplies FP32 matrices with Intel's MKL, which on
AMD's CPUs runs kernels for AVX2 even where there is AVX-512. oneDNN, which torch ships too and otherwise uses for BF16,
asks the CPU what it can do: twice as fast.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

_LEAST = 1 << 22  # multiplications below which a call of oneDNN costs more than it saves


def linear(x: Float[Tensor, "... i"], weight: Float[Tensor, "o i"], bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b, (..., o)."""
    large = x.dtype == weight.dtype == torch.float32 and x.numel() * len(weight) >= _LEAST
    if large and _written_out(x) and torch.backends.mkldnn.enabled and _mkl_is_slow():
        return _Linear.apply(x, weight, bias)
    return F.linear(x, weight, bias)


def rms_norm(x: Float[Tensor, "... D"], gain: Tensor | None, eps: float) -> Float[Tensor, "... D"]:
    """x / √(mean x² + eps) · gain of FP32 numbers; on CPUs torch makes a dozen passes of it and its gradient."""
    if not _written_out(x):
        return F.rms_norm(x, (x.shape[-1],), gain, eps)
    normed = _RMSNorm.apply(x, eps)
    return normed if gain is None else normed * gain


def rotate(x: Float[Tensor, "B H S hd"], cos: Float[Tensor, "B 1 S hd"], sin: Float[Tensor, "B 1 S hd"]) -> Tensor:
    """x · cos + (the halves of x exchanged) · sin; what cos and sin were made of gets no gradient."""
    return _Rotate.apply(x, cos, sin)


def _written_out(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()


@cache
def _mkl_is_slow() -> bool:
    """Whether MKL leaves half of this CPU idle, and there is oneDNN to do better.

    oneDNN and torch each keep 1,024 kernels, one for every shape, up to 1.5 GB: fewer here, unless the user says.
    """
    wide = torch.backends.mkl.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if not (wide and "AMD" in capabilities.get("cpu_name", "") and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):  # both are read at the first product
        os.environ.setdefault(name, "256")
    return True


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()  # of one that a sum has expanded, oneDNN's products take 300 times as long
        wanted = ctx.needs_input_grad
        of_x = _product(gradient, weight.t()) if wanted[0] else None
        left, right = gradient.flatten(0, -2), x.flatten(0, -2)
        of_weight = None
        if wanted[1]:  # the left factor is copied to be transposed: let it be the narrow one
            narrow = left.shape[1] <= right.shape[1]
            of_weight = _product(left.t(), right.t()) if narrow else _product(right.t(), left.t()).t()
        return of_x, of_weight, left.sum(0) if wanted[2] else None


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        scale = square.div_(x.shape[-1]).add_(eps).rsqrt_()
        normed = x * scale
        ctx.save_for_backward(normed, scale)
        return normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        normed, scale = ctx.saved_tensors
        along = (gradient * normed).mean(-1, keepdim=True)
        return torch.addcmul(gradient, normed, along, value=-1).mul_(scale), None


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return (x * cos).addcmul_(x.roll(x.shape[-1] // 2, -1), sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        half = gradient.shape[-1] // 2
        return (gradient * cos).addcmul_(gradient.roll(half, -1), sin.roll(half, -1)), None, None
