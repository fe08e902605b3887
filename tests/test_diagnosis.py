"""Doctor: what a batch system says of a process, and what is missing there, are in its table."""

from __future__ import annotations

import pytest
from rich.console import Console

from multiplet.diagnosis import doctor


def table() -> dict[str, str]:
    """What doctor says, by name."""
    made = doctor()
    names, values = ([str(cell) for cell in column.cells] for column in made.columns)
    Console(quiet=True).print(made)  # markup in a value would fail here
    return dict(zip(names, values, strict=True))


def test_limits_and_devices_are_shown() -> None:
    said = table()
    assert said["free disk here"].endswith("GiB")
    assert said["open files (ulimit -n)"][0].isdigit()
    assert {"torch", "GPUs", "processor cores", "host"} <= set(said)


def test_the_place_among_processes_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert table()["processes"] == "one"
    for name, text in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "n[1]"}.items():
        monkeypatch.setenv(name, text)
    assert "MASTER_PORT not set" in table()["processes"]
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_JWT", "secret")
    said = table()
    assert said["processes"] == "rank 5 of 8, 1 on this machine"
    assert (said["SLURM_JOB_ID"], said["MASTER_ADDR"].replace("\\", "")) == ("4711", "n[1]")
    assert not any("secret" in text for text in said.values())
