"""Mamba and Mamba-2 on a CPU: forward and backward beside transformers' own PyTorch paths, and cost against length.

One block of the given width, one event. Ours and theirs run in turn in one process; medians and their ratio are
printed. Without transformers only our own cost is. One way back of their Mamba takes a minute or two at 1,024 tokens.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from multiplet.backbones.mamba import Mamba
from multiplet.backbones.mamba2 import Mamba2
from multiplet.parametrisation import Standard

Way = Callable[[Tensor], Tensor]
LENGTHS = (256, 512, 1024, 2048, 4096)


def name(second: bool) -> str:
    return "Mamba-2" if second else "Mamba-1"


def ours(second: bool, width: int, state: int) -> Way:
    """Our block, an event of (1, N, D) to its outputs."""
    spec = Mamba2(width, 1, state) if second else Mamba(width, 1, state)
    net = spec.build(Standard().width(width), Standard())
    return lambda h: net(h, torch.ones(h.shape[:2], dtype=torch.bool), torch.zeros(h.shape[:2], dtype=torch.long))[0]


def theirs(second: bool, width: int, state: int, chunk: int) -> Way:
    """The same of transformers, which falls back to PyTorch on a CPU."""
    import transformers

    logging.getLogger("transformers").setLevel(logging.ERROR)
    shape = {"vocab_size": 8, "hidden_size": width, "state_size": state, "num_hidden_layers": 1, "use_cache": False}
    if second:
        config = transformers.Mamba2Config(
            **shape, head_dim=64, num_heads=2 * width // 64, n_groups=1, chunk_size=chunk
        )
        net = transformers.Mamba2Model(config)
    else:
        net = transformers.MambaModel(transformers.MambaConfig(**shape))
    return lambda h: net(inputs_embeds=h).last_hidden_state


def seconds(way: Way, h: Tensor, back: bool) -> tuple[float, float]:
    """Of one forward pass that can be differentiated, and of the way back."""
    begun = time.perf_counter()
    y = way(h)
    there = time.perf_counter()
    if back:
        y.sum().backward()
    return there - begun, time.perf_counter() - there


def compare(second: bool, width: int, state: int, chunk: int, rounds: int, longest_back: int) -> None:
    """A row a length: milliseconds of ours, and theirs over ours."""
    ways = (ours(second, width, state), theirs(second, width, state, chunk))
    for length in LENGTHS:
        h, back = torch.randn(1, length, width, requires_grad=True), second or length <= longest_back
        repeats = rounds if second or length <= 256 or not back else 3
        for way in ways:
            seconds(way, h, back and (second or length <= 256))
        times = [[seconds(way, h, back) for way in ways] for _ in range(repeats)]
        (f, b), (f_peer, b_peer) = ([statistics.median(t[n][m] for t in times) for m in (0, 1)] for n in (0, 1))
        peer = f"{b * 1e3:.1f} | {b_peer / b:.1f}" if back else "– | –"
        print(f"| {name(second)} | {length} | {f * 1e3:.1f} | {f_peer / f:.1f} | {peer} |", flush=True)


def cost(second: bool, width: int, state: int, length: int) -> tuple[float, float, float]:
    """ms forward, ms back, and MB of peak memory above the start."""
    torch.set_num_threads(1)
    way = ours(second, width, state)
    h = torch.randn(1, length, width, requires_grad=True)
    seconds(way, h[:, :64], True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    forward, back = seconds(way, h, True)
    return forward * 1e3, back * 1e3, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--longest-back", type=int, default=1024, help="of transformers' Mamba-1, whose way back is N²")
    parser.add_argument("--chunk", type=int, default=256, help="of transformers' Mamba-2")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"one block of width {given.width}, one event, one thread; ratio: transformers' time over ours")
    state = {False: given.width // 16, True: given.width // 4}
    print("| block | N | forward (µs a token) | backward (µs a token) | peak memory (kB a token) |")
    print("|---|---|---|---|---|")
    for second in (False, True):
        for length in (1_000, 10_000, 100_000):
            with multiprocessing.get_context("spawn").Pool(1) as pool:  # a process that has a peak of its own
                forward, back, memory = pool.apply(cost, (second, given.width, state[second], length))
            row = (1e3 * forward / length, 1e3 * back / length, 1e3 * memory / length)
            print(f"| {name(second)} | {length:,} | {row[0]:.1f} | {row[1]:.1f} | {row[2]:.1f} |")

    try:
        import transformers

        print(f"\ntransformers {transformers.__version__}, torch {torch.__version__}, median of {given.rounds}")
        print("| block | N | forward (ms) | ratio | backward (ms) | ratio |\n|---|---|---|---|---|---|")
        for second in (False, True):
            compare(second, given.width, state[second], given.chunk, given.rounds, given.longest_back)
    except ImportError:
        print("\ntransformers is not installed: nothing to compare with")


if __name__ == "__main__":
    main()
