"""Set-up for all tests: shapes and types of annotated functions are checked, one thread, no GPU needed."""

from __future__ import annotations

import faulthandler
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook("multiplet", "checking.check")

import pytest  # noqa: E402
import torch  # noqa: E402

from toys import write_toys  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of event files of toy jets: 300 to train on, 60 to validate, 60 to test."""
    return write_toys(tmp_path_factory.mktemp("toys"))


def pytest_unconfigure() -> None:
    """A process that cannot end is a bug of ours: show where it waits and fail, rather than wait with it."""
    faulthandler.dump_traceback_later(60, exit=True)
