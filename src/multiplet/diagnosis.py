"""Doctor: what this machine has, and which verbs need what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import socket
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import torch
from rich.markup import escape
from rich.table import Table

from multiplet.errors import RecipeError
from multiplet.preflight import find_place

_ROOT, _HDF5 = (f"convert, inspect and predict of {kind} files" for kind in ("ROOT", "HDF5"))
_PACKAGES = {
    "multiplet": "", "torch": "", "numpy": "", "pyarrow": "", "scipy": "", "scikit-learn": "", "safetensors": "",
    "schedulefree": "", "vector-quantize-pytorch": "", "pythia8mc": "simulate jets", "fastjet": "simulate jets",
    "awkward": f"simulate jets; {_ROOT}", "numba": "simulate jets", "uproot": _ROOT, "h5py": _HDF5,
    "mamba-ssm": "no verb: its GPU kernels scan faster",
}  # fmt: skip
_PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS",
          "NCCL_DEBUG", "NCCL_SOCKET_IFNAME", "SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_NNODES", "SLURM_NTASKS",
          "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS", "SLURM_CPUS_PER_TASK", "SLURM_GPUS_ON_NODE",
          "SLURM_RESTART_COUNT", "_CONDOR_SCRATCH_DIR", "_CONDOR_SLOT")  # fmt: skip


def doctor() -> Table:
    """A table of versions, devices, limits and the batch system; a missing package names the verb that wants it."""
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
    for name, text in {**_machine(), **_processes(os.environ)}.items():
        table.add_row(name, escape(text))
    return table


def _machine() -> dict[str, str]:
    """Limits that training with worker processes, and memory-mapped event files, can meet."""
    facts = {"host": socket.gethostname(), "free disk here": _free(".")}
    if os.path.isdir("/dev/shm"):
        facts["shared memory"] = f"{_free('/dev/shm')}: worker processes hand batches over in it"
    try:
        import resource
    except ImportError:  # not Unix
        return facts
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return facts | {"open files (ulimit -n)": f"{soft}, at most {hard}: worker processes use them as well"}


def _free(path: str) -> str:
    usage = shutil.disk_usage(path)
    return f"{usage.free / 2**30:.1f} of {usage.total / 2**30:.1f} GiB"


def _processes(environment: Mapping[str, str]) -> dict[str, str]:
    """What the batch system and torchrun say of this process, and whether it is enough to start with."""
    try:
        place = find_place(environment)
        means = f"rank {place.rank} of {place.count}, {place.local} on this machine" if place.count > 1 else "one"
    except RecipeError as error:
        means = str(error)
    return {"processes": means} | {name: environment[name] for name in _PLACE if name in environment}


def _version(name: str, verb: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return f"missing: needed by {verb}" if verb else "missing: reinstall multiplet"
