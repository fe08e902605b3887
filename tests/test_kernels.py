"""Operations whose gradients are written out, beside PyTorch's own on the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from multiplet import kernels
from multiplet.heads import NoiseHead
from multiplet.layers import Rotation
from multiplet.parametrisation import Standard

Operation = Callable[..., Tensor]
MEASURED = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN on any CPU and for products of any size."""
    if not MEASURED:
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(kernels, "_LEAST", 1)
    monkeypatch.setattr(kernels, "_mkl_is_slow", lambda: True)


def same(ours: Operation, theirs: Operation, *given: Tensor, atol: float = 1e-5) -> None:
    """Values and the gradients of everything that is given."""
    found = []
    for operation in (ours, theirs):
        leaves = [one.clone().requires_grad_() for one in given]
        out = operation(*leaves)
        weights = torch.linspace(-1, 1, out.numel()).view(out.shape)
        gradients = torch.autograd.grad((out * weights).sum(), leaves)
        found.append((out.detach(), *gradients))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=atol, rtol=1e-5)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(("wide", "narrow"), [(24, 7), (7, 24), (16, 16)])
@pytest.mark.parametrize("bias", [True, False])
def test_products_and_their_gradients_are_those_of_torch(wide: int, narrow: int, bias: bool) -> None:
    given = [torch.randn(5, 3, wide), torch.randn(narrow, wide), *([torch.randn(narrow)] if bias else [])]
    same(kernels.linear, F.linear, *given)
    same(lambda x, *rest: kernels.linear(x.transpose(0, 1), *rest), lambda x, *rest: F.linear(x.transpose(0, 1), *rest),
         *given)  # fmt: skip


@pytest.mark.usefixtures("always")
def test_a_product_takes_the_way_of_onednn_unless_that_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = torch.randn(4, 8), torch.randn(3, 8, requires_grad=True)
    assert "_Linear" in type(kernels.linear(x, weight).grad_fn).__name__
    assert "_Linear" not in type(kernels.linear(x.double(), weight.double()).grad_fn).__name__
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert "_Linear" not in type(kernels.linear(x, weight).grad_fn).__name__


@pytest.mark.usefixtures("always")
def test_frozen_weights_and_inputs_get_no_gradient() -> None:
    x, weight = torch.randn(4, 8, requires_grad=True), torch.randn(3, 8)
    kernels.linear(x, weight).sum().backward()
    torch.testing.assert_close(x.grad, weight.sum(0).expand(4, 8))
    assert weight.grad is None


@pytest.mark.usefixtures("always")
def test_onednn_is_given_no_expanded_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = torch.randn(4, 8, requires_grad=True), torch.randn(3, 8, requires_grad=True)
    made, product, strides = kernels.linear(x, weight), kernels._product, []
    monkeypatch.setattr(
        kernels, "_product", lambda *given: strides.extend(g.stride() for g in given) or product(*given)
    )
    made.sum().backward()
    assert len(strides) == 4
    assert all(min(stride) > 0 for stride in strides)


def test_small_products_stay_with_torch() -> None:
    made = kernels.linear(torch.randn(4, 8), torch.randn(3, 8, requires_grad=True))
    assert "_Linear" not in type(made.grad_fn).__name__


@pytest.mark.parametrize("width", [1, 6, 33])
def test_root_mean_square_norm_is_that_of_torch(width: int) -> None:
    given = torch.randn(4, 5, width) * 3, torch.rand(width) + 0.5
    same(lambda x, gain: kernels.rms_norm(x, gain, 1e-5), lambda x, gain: F.rms_norm(x, (width,), gain, 1e-5), *given)
    same(lambda x: kernels.rms_norm(x, None, 0.1), lambda x: F.rms_norm(x, (width,), None, 0.1), given[0])


def test_the_norm_of_nothing_is_zero_and_its_gradient_finite() -> None:
    x = torch.zeros(3, 4, requires_grad=True)
    normed = kernels.rms_norm(x, torch.ones(4), 1e-5)
    normed.sum().backward()
    assert (normed == 0).all()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.full((3, 4), 1e-5**-0.5))


def test_a_rotation_turns_pairs_by_angles_written_out() -> None:
    position, half = torch.tensor([[0, 3], [7, 1]]), 4
    angle = (position[..., None] * 100.0 ** (-torch.arange(half) / half))[:, None]

    def turned(x: Tensor) -> Tensor:
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)

    same(Rotation(position, 2 * half, 100.0), turned, torch.randn(2, 3, 2, 2 * half))


def test_a_noise_head_gives_the_same_however_much_its_copies_share() -> None:
    head = NoiseHead(3, 5, 8, 2, Standard(), steps=10)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    noisy, t, z = torch.randn(4, 2, 3, 3), torch.randint(10, (4, 2, 3)), torch.randn(4, 2, 1, 5)
    parts = [head(noisy[n : n + 1], t[n : n + 1], z[n : n + 1].expand(1, 2, 3, 5)) for n in range(4)]  # 6 of 10 times
    shared = head(noisy, t, z)  # 24 of 10 times: looked up
    torch.testing.assert_close(shared, torch.cat(parts), atol=1e-6, rtol=1e-5)
    gradients = [torch.autograd.grad(out.square().sum(), list(head.parameters())) for out in (shared, torch.cat(parts))]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
