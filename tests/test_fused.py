"""Fused scans: what the kernels of mamba-ssm are handed, and what is made of their answer, on stand-ins for them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor

from multiplet.backbones import fused, scan
from test_mamba import arguments, slow_head_scan, slow_scan, with_gradients

calls: list[str] = []


def selective_scan_fn(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, z: Tensor | None = None,
    delta_bias: Tensor | None = None, delta_softplus: bool = False, return_last_state: bool = False,
) -> Tensor:  # fmt: skip
    """Shapes of mamba-ssm: u and delta (B, D, L), A (D, N), B and C (B, N, L)."""
    calls.append("selective")
    assert D is z is delta_bias is None
    assert not delta_softplus
    assert not return_last_state
    return slow_scan(u.mT, delta.mT, A, B.mT, C.mT).mT


def mamba_chunk_scan_combined(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk_size: int, D: Tensor | None = None
) -> Tensor:
    """Shapes of mamba-ssm: x (B, L, H, P), dt (B, L, H), A (H,), B and C (B, L, groups, N)."""
    calls.append("heads")
    assert chunk_size in (64, 128, 256)
    assert B.shape[2] == C.shape[2] == 1
    assert D is None
    return slow_head_scan(x, dt, A, B[:, :, 0], C[:, :, 0])


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with these two functions, and tensors that pass for those of a GPU."""
    for function, place in (
        (selective_scan_fn, "selective_scan_interface"),
        (mamba_chunk_scan_combined, "triton.ssd_combined"),
    ):
        module = ModuleType(f"mamba_ssm.ops.{place}")
        setattr(module, function.__name__, function)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(fused, "_on_gpu", lambda x: x.numel() > 0)
    monkeypatch.setattr(fused, "version", lambda name: "2.2.4")
    calls.clear()
    fused._kernel.cache_clear()
    yield
    fused._kernel.cache_clear()


@pytest.mark.parametrize("length", [0, 1, 33, 150])
@pytest.mark.parametrize(("ours", "heads"), [(scan.selective_scan, False), (scan.head_scan, True)])
def test_kernels_and_torch_agree(
    ours: Callable, heads: bool, length: int, package: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_kernel = with_gradients(ours, arguments(length, heads)) if length else [ours(*arguments(0, heads))]
    assert calls == (["heads" if heads else "selective"] if length else [])
    monkeypatch.setattr(fused, "_on_gpu", lambda x: False)
    without = with_gradients(ours, arguments(length, heads)) if length else [ours(*arguments(0, heads))]
    assert len(calls) <= 1
    for one, other in zip(with_kernel, without, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)


def test_who_scans_is_said(package: None, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert fused.announced(cpu) == "torch"
    assert fused.announced(gpu) == "mamba-ssm 2.2.4"
    fused._kernel.cache_clear()
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops.triton.ssd_combined", None)  # cannot be imported
    assert fused.announced(gpu) == "torch, for mamba-ssm 2.2.4 has no mamba_chunk_scan_combined here"
    values = arguments(20, True)
    torch.testing.assert_close(scan.head_scan(*values), slow_head_scan(*values))
    assert calls == []  # without the kernel the scan is ours


def test_without_the_package_or_a_gpu_there_is_no_kernel() -> None:
    fused._kernel.cache_clear()
    assert fused.announced(torch.device("cpu")) == "torch"
    assert fused.selective(*arguments(5, False)) is None
    assert fused.heads(*arguments(5, True)) is None
