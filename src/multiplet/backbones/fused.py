"""Fused scans: the GPU kernels of the package mamba-ssm, used where it can be imported and the tensors are on a GPU.

They compute what `scan` does, in FP32; those of Mamba-2 multiply matrices in TF32, so about three digits agree. Without
the package, and on processors, there are none. No run here has had a GPU: what is tested is what is handed to them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

PACKAGE = "mamba-ssm"
_PLACES = {
    "selective_scan_fn": "mamba_ssm.ops.selective_scan_interface",
    "mamba_chunk_scan_combined": "mamba_ssm.ops.triton.ssd_combined",
}
_CHUNK = 128  # tokens of a chunk of Mamba-2's kernel


def selective(x: Tensor, step: Tensor, rate: Tensor, enter: Tensor, leave: Tensor) -> Tensor | None:
    """`scan.selective_scan`, or None where there is no kernel for these tensors."""
    kernel = _kernel("selective_scan_fn") if _on_gpu(x) else None
    if kernel is None:
        return None
    y: Tensor = kernel(*(v.transpose(1, 2) for v in (x, step)), rate, *(v.transpose(1, 2) for v in (enter, leave)))
    return y.transpose(1, 2)


def heads(x: Tensor, step: Tensor, rate: Tensor, enter: Tensor, leave: Tensor) -> Tensor | None:
    """`scan.head_scan`, or None where there is no kernel for these tensors."""
    kernel = _kernel("mamba_chunk_scan_combined") if _on_gpu(x) else None
    return None if kernel is None else kernel(x, step, rate, enter[:, :, None], leave[:, :, None], _CHUNK)


def announced(device: torch.device) -> str:
    """Who scans on this device: the package with its version, or torch, with the reason where the package fails."""
    if device.type != "cuda" or (found := _version()) is None:
        return "torch"
    names = [name for name in _PLACES if _kernel(name) is None]
    return f"torch, for {PACKAGE} {found} has no {' and no '.join(names)} here" if names else f"{PACKAGE} {found}"


def _on_gpu(x: Tensor) -> bool:
    """The kernels know no FP64."""
    return x.is_cuda and x.numel() > 0 and x.dtype == torch.float32


def _version() -> str | None:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return None


@cache
def _kernel(name: str) -> Callable[..., Tensor] | None:
    """A function of the package; None where it is not installed, or was compiled for another machine."""
    try:
        found: Callable[..., Tensor] = getattr(import_module(_PLACES[name]), name)
    except Exception:  # whatever a package raises that was built for another machine; `announced` tells
        return None
    return found
