"""What a long event costs on one thread: a transformer, a GRU and Mamba, both ways, with equal numbers of parameters.

One event of N tokens and a slot in front of them, from which the loss is read: seconds of a forward and a backward pass
together, and the peak of memory above what the process had before. Every row has a process of its own, which is ended
after --seconds or where it asks for more than --memory GB; longer events of that backbone are left out then.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch

from multiplet.backbones.mamba import Mamba
from multiplet.backbones.recurrent import GRU
from multiplet.backbones.transformer import Transformer
from multiplet.encoder import Backbone, Encode, Encoder
from multiplet.parametrisation import Standard
from multiplet.representation.tokens import Shape, Tokens

LENGTHS = (100, 1_000, 10_000, 100_000)
BACKBONES: dict[str, Backbone] = {
    "Transformer": Transformer(96, 4, group=1, position=None, expansion=3.4),
    "GRU": GRU(96, 4),
    "Mamba": Mamba(96, 4, state=12, bidirectional=True),
}


def build(name: str) -> Encoder:
    """Over three features of a pulse, with an event slot."""
    torch.manual_seed(0)
    return Encode(BACKBONES[name], Standard(), event=True).build(Shape(("time", "log_charge", "auxiliary")))


def event(length: int) -> Tokens:
    """One event without padding."""
    place = torch.arange(length)[None]
    nothing = torch.zeros(1, 0)
    return Tokens(torch.randn(1, length, 3), place >= 0, place, place, torch.zeros(1, dtype=torch.long), nothing)


def seconds(encoder: Encoder, tokens: Tokens) -> float:
    """Of one forward and backward pass."""
    begun = time.perf_counter()
    encoder(tokens).event.square().sum().backward()
    return time.perf_counter() - begun


def cost(name: str, length: int, most: float) -> tuple[float, float] | None:
    """Seconds, and MB of peak memory above the start; None where `most` GB are not enough."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (int(most * 1e9), int(most * 1e9)))
    encoder = build(name)
    seconds(encoder, event(64))  # what is made once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        taken = min(seconds(encoder, event(length)) for _ in range(3 if length <= 1_000 else 1))
    except (RuntimeError, MemoryError):
        return None
    return taken, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def apart(name: str, length: int, most: float, limit: float) -> tuple[float, float] | str:
    """`cost` in a process of its own, or why there is none."""
    row = [sys.executable, __file__, "--row", name, str(length), "--memory", str(most)]
    try:
        said = subprocess.run(row, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return f"over {limit:g} s"
    if said.returncode:
        return said.stderr.strip().rpartition("\n")[2] or f"ended with {said.returncode}"
    found = json.loads(said.stdout)
    return (found[0], found[1]) if found else f"over {most:g} GB"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of one row; 60")
    parser.add_argument("--memory", type=float, default=10.0, help="address space of a process in GB; 10")
    parser.add_argument("--row", nargs=2, metavar=("BACKBONE", "N"), help="this row alone, as numbers")
    given = parser.parse_args()
    if given.row:
        print(json.dumps(cost(given.row[0], int(given.row[1]), given.memory)))
        return
    print(f"one event, one thread, FP32, torch {torch.__version__}, without the start of a process")
    print("| backbone | parameters | N | seconds | µs a token | peak memory (MB) |\n|---|---|---|---|---|---|")
    for name in BACKBONES:
        parameters = sum(p.numel() for p in build(name).backbone.parameters())
        for length in LENGTHS:
            row, found = f"| {name} | {parameters:,} | {length:,} |", apart(name, length, given.memory, given.seconds)
            if isinstance(found, str):
                print(f"{row} {found} | | |", flush=True)
                break
            print(f"{row} {found[0]:.3g} | {found[0] / length * 1e6:.0f} | {found[1]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
