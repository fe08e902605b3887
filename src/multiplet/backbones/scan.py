"""Linear recurrences over the tokens of an event, exact, without a Python step a token, with memory that grows with N.

For Mamba-1 (arXiv 2312.00752, eq. 2) and Mamba-2 (arXiv 2405.21060, section 6), at every token t

    h ← exp(Δ A) h + Δ x ⊗ B        y = C · h        h = 0 before the first token

Glossary: B events, L tokens, D channels or H heads of P channels, N numbers of state, Δ the step, A < 0 the rate of
decay. Decays are only ever taken over a stretch forward in time, so no exponential exceeds 1, however long the event.
Everything is in the precision of the arguments, which must be FP32 or FP64, with autocast switched off.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from multiplet.backbones import fused

LOG2E = math.log2(math.e)  # exp2 is vectorised where exp may go through a slower library: four times on one CPU here
RUN = 16  # tokens that one stretch takes one after the other, in step with the other stretches
STRETCHES = 16  # stretches side by side, at least, where an event is long enough
CHUNK = 32  # tokens of a chunk of `head_scan`
ROOM = {"cpu": 2**17, "cuda": 2**22}  # numbers worked on side by side: a core's cache; not tuned on a GPU


def selective_scan(
    x: Float[Tensor, "B L D"],
    step: Float[Tensor, "B L D"],
    rate: Float[Tensor, "D N"],
    enter: Float[Tensor, "B L N"],
    leave: Float[Tensor, "B L N"],
) -> Float[Tensor, "B L D"]:
    """y for a rate A of its own for each channel and state; `enter` is B, `leave` is C, `step` is Δ >= 0.

    An event is cut into segments, a segment into stretches of `RUN` tokens. All stretches of a segment go through their
    tokens in step: once from zero, to learn where each ends, and once from where the one before it ended. On a GPU a
    fused kernel does it where there is one.
    """
    if (y := fused.selective(x, step, rate, enter, leave)) is not None:
        return y
    length = x.shape[1]
    if x.numel() == 0:
        return x * step
    x, step, enter, leave = (_to_multiple(values, RUN) for values in (x, step, enter, leave))
    (events, channels, tokens), rate = _blocks(x, rate.shape[1]), rate.t().contiguous()
    rows = []
    for x_row, step_row, b_row, c_row in zip(*(v.split(events) for v in (x, step, enter, leave)), strict=True):
        columns = []
        for x_part, step_part, a in zip(
            x_row.split(channels, 2), step_row.split(channels, 2), rate.split(channels, 1), strict=True
        ):
            state, outputs = x.new_zeros(len(x_row), *a.shape), []
            for pieces in zip(*(v.split(tokens, 1) for v in (x_part, step_part, b_row, c_row)), strict=True):
                y, state = _Segment.apply(*pieces, a, state)
                outputs.append(y)
            columns.append(_join(outputs, 1))
        rows.append(_join(columns, 2))
    return _join(rows, 0)[:, :length]


def head_scan(
    x: Float[Tensor, "B L H P"],
    step: Float[Tensor, "B L H"],
    rate: Float[Tensor, " H"],
    enter: Float[Tensor, "B L N"],
    leave: Float[Tensor, "B L N"],
) -> Float[Tensor, "B L H P"]:
    """y for one rate A a head, as matrix products: attention with decay within chunks, a state from chunk to chunk."""
    if (y := fused.heads(x, step, rate, enter, leave)) is not None:
        return y
    length = x.shape[1]
    if x.numel() == 0:
        return x * step[..., None]
    x, step, enter, leave = (_to_multiple(values, CHUNK) for values in (x, step, enter, leave))
    tokens = CHUNK * max(_room(x) // (x[:, 0].numel() * CHUNK), 1)
    state, outputs = x.new_zeros(len(x), enter.shape[2], x[0, 0].numel()), []
    for x_part, step_part, b, c in zip(*(v.split(tokens, 1) for v in (x, step, enter, leave)), strict=True):
        y, state = _chunks(x_part, step_part, rate, b, c, state)
        outputs.append(y)
    return _join(outputs, 1)[:, :length]


def _chunks(
    x: Float[Tensor, "B T H P"],
    step: Float[Tensor, "B T H"],
    rate: Float[Tensor, " H"],
    enter: Float[Tensor, "B T N"],
    leave: Float[Tensor, "B T N"],
    state: Float[Tensor, "B N HP"],
) -> tuple[Float[Tensor, "B T H P"], Float[Tensor, "B N HP"]]:
    """A whole number of chunks of `head_scan`: their outputs, and the state after them.

    Logarithms of decays are differences of running sums, which are FP64: in FP32 the difference of two large ones
    would lose the small decay between neighbours.
    """
    heads, size = x.shape[2:]
    b, c = (values.unflatten(1, (-1, CHUNK)) for values in (enter, leave))  # (B, chunks, CHUNK, N)
    u = (x * step[..., None]).unflatten(1, (-1, CHUNK))
    gone = (step * (rate * LOG2E)).unflatten(1, (-1, CHUNK)).double().cumsum(2)  # (B, chunks, CHUNK, H)
    by_head = gone.transpose(2, 3)
    later = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=x.device).triu(1)
    between = (by_head[..., :, None] - by_head[..., None, :]).to(x.dtype).masked_fill(later, -torch.inf).exp2()
    scores = (c @ b.transpose(2, 3))[:, :, None] * between
    within = (scores @ u.transpose(2, 3)).transpose(2, 3)

    rest = (gone[:, :, -1:] - gone).to(x.dtype).exp2()
    added = b.transpose(2, 3) @ (u * rest[..., None]).flatten(3)  # (B, chunks, N, H P)
    kept = gone[:, :, -1:].to(x.dtype).exp2().repeat_interleave(size, -1)
    states = []
    for keep, add in zip(kept.unbind(1), added.unbind(1), strict=True):
        states.append(state)
        state = torch.addcmul(add, keep, state)
    before = (c @ torch.stack(states, 1)).unflatten(-1, (heads, size)) * gone.to(x.dtype).exp2()[..., None]
    return (within + before).flatten(1, 2), state


class _Segment(torch.autograd.Function):
    """One segment of `selective_scan`: (E, T, D) tokens and a state (E, N, D) → (E, T, D) and the state after them.

    Kept for the backward pass are the arguments and the state at the start of every stretch; the states within are
    computed again. With g = ∂loss/∂h: g ← exp(Δ A) g + C ∂y, from the last token to the first, in the same two passes.
    Inside, arrays are (RUN, R, N, D): place in the stretch; stretch and event; state; channel.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, step: Tensor, enter: Tensor, leave: Tensor, rate: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        delta, b, c = _side_by_side(step)[:, :, None], _side_by_side(enter)[..., None], _side_by_side(leave)[:, :, None]
        u = delta * _side_by_side(x)[:, :, None]
        rate2, decay = rate * LOG2E, x.new_empty(b.shape[1], *rate.shape)
        starts = state.new_empty(x.shape[1] // RUN + 1, *state.shape)
        starts[0], h = state, torch.zeros_like(decay)
        if len(starts) > 2:
            for d, u_t, b_t in zip(delta, u, b, strict=True):
                h.mul_(torch.mul(d, rate2, out=decay).exp2_()).addcmul_(u_t, b_t)
            across = torch.mul(delta.sum(0), rate2, out=decay).exp2_().view_as(starts[1:])
            for n, (keep, end) in enumerate(zip(across, h.view_as(across), strict=True)):
                torch.addcmul(end, keep, starts[n], out=starts[n + 1])
        h = starts[:-1].reshape(decay.shape).clone()
        y = torch.empty_like(u)
        for d, u_t, b_t, c_t, y_t in zip(delta, u, b, c, y, strict=True):
            h.mul_(torch.mul(d, rate2, out=decay).exp2_()).addcmul_(u_t, b_t)
            torch.bmm(c_t, h, out=y_t)
        ctx.save_for_backward(x, step, enter, leave, rate, starts[:-1])
        return _in_a_row(y[:, :, 0], len(x)), h[-len(x) :].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_end: Tensor) -> tuple[Tensor, ...]:
        x, step, enter, leave, rate, starts = ctx.saved_tensors
        xs, delta = _side_by_side(x)[:, :, None], _side_by_side(step)[:, :, None]
        b, c = _side_by_side(enter)[..., None], _side_by_side(leave)[..., None]
        gy, u, rate2 = _side_by_side(grad_y)[:, :, None], delta * xs, rate * LOG2E
        decay = x.new_empty(RUN, b.shape[1], *rate.shape)
        h = x.new_empty(RUN + 1, *decay.shape[1:])
        h[0] = starts.reshape(decay.shape[1:])
        for n, (d, u_t, b_t, a) in enumerate(zip(delta, u, b, decay, strict=True)):
            torch.mul(d, rate2, out=a).exp2_()
            torch.mul(a, h[n], out=h[n + 1]).addcmul_(u_t, b_t)

        after = torch.empty_like(starts)  # what comes back into a stretch from those after it
        after[-1], g, product = grad_end, torch.zeros_like(h[0]), torch.empty_like(h[0])
        if len(starts) > 1:
            for n in reversed(range(RUN)):
                g.addcmul_(gy[n], c[n]).mul_(decay[n])
            across = torch.mul(delta.sum(0), rate2, out=product).exp2_().view_as(starts)
            for n in reversed(range(1, len(starts))):
                torch.addcmul(g.view_as(starts)[n], across[n], after[n], out=after[n - 1])
        g.copy_(after.view_as(g))
        grad_u, grad_step, grad_b, grad_c = (torch.empty_like(v) for v in (u, delta[:, :, 0], b, c))
        grad_rate = torch.zeros_like(g)
        for n in reversed(range(RUN)):
            g.addcmul_(gy[n], c[n])
            torch.bmm(h[n + 1], gy[n].transpose(1, 2), out=grad_c[n])
            torch.bmm(g, u[n].transpose(1, 2), out=grad_b[n])
            torch.bmm(b[n].transpose(1, 2), g, out=grad_u[n])
            torch.mul(g.mul_(decay[n]), h[n], out=product)
            grad_rate.addcmul_(product, delta[n])
            torch.sum(product.mul_(rate), 1, out=grad_step[n])
        grads = (grad_u * delta)[:, :, 0], grad_step + (grad_u * xs)[:, :, 0], grad_b[..., 0], grad_c[..., 0]
        return *(_in_a_row(v, len(x)) for v in grads), grad_rate.sum(0), g[: len(x)].clone()


def _blocks(x: Float[Tensor, "B L D"], state: int) -> tuple[int, int, int]:
    """How many events, channels and tokens a segment takes, so that its state has ROOM."""
    room, stretches = _room(x), x.shape[1] // RUN
    channels = max(min(x.shape[2], room // STRETCHES // state), 1)
    events = max(min(len(x), room // (min(stretches, STRETCHES) * channels * state)), 1)
    return events, channels, RUN * max(min(stretches, room // (events * channels * state)), 1)


def _room(x: Tensor) -> int:
    return ROOM.get(x.device.type, ROOM["cpu"])


def _to_multiple(values: Float[Tensor, "B L *rest"], of: int) -> Tensor:
    """Zeros after the last token: a step of zero leaves the state as it is."""
    missing = -values.shape[1] % of
    return F.pad(values, (0, 0) * (values.dim() - 2) + (0, missing)) if missing else values


def _side_by_side(values: Float[Tensor, "E T c"]) -> Float[Tensor, "RUN R c"]:
    return values.unflatten(1, (-1, RUN)).permute(2, 1, 0, 3).flatten(1, 2).contiguous()


def _in_a_row(values: Float[Tensor, "RUN R c"], events: int) -> Float[Tensor, "E T c"]:
    return values.unflatten(1, (-1, events)).permute(2, 1, 0, 3).flatten(1, 2)


def _join(parts: list[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
