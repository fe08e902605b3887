"""Doctor: what this machine has, and which verbs need what is missing."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch
from rich.table import Table

_PACKAGES = {
    "multiplet": "", "torch": "", "numpy": "", "pyarrow": "", "scipy": "", "scikit-learn": "", "safetensors": "",
    "schedulefree": "", "pythia8mc": "simulate jets", "fastjet": "simulate jets", "awkward": "simulate jets",
    "numba": "simulate jets", "uproot": "convert of ROOT files", "h5py": "convert of HDF5 files",
}  # fmt: skip


def doctor() -> Table:
    """A table of versions and devices; a missing package names the verb that wants it."""
    table = Table("what", "here")
    table.add_row("python", platform.python_version())
    for name, verb in _PACKAGES.items():
        table.add_row(name, _version(name, verb))
    table.add_row(
        "processor cores", str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    )
    table.add_row("torch threads", str(torch.get_num_threads()))
    gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    table.add_row("GPUs", ", ".join(gpus) or "none: everything runs on the processor")
    return table


def _version(name: str, verb: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return f"missing: needed by {verb}" if verb else "missing: reinstall multiplet"
