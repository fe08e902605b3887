"""Simulated jets as ROOT files: the same jets as the event files, whatever the workers and interruptions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from multiplet.cli import app
from multiplet.data.arrow import read_events
from multiplet.data.columns import Column, Columns, concatenate
from multiplet.data.convert import convert
from multiplet.data.formats import find
from multiplet.data.formats.jetclass import JetClass
from multiplet.data.formats.jetclass_layout import LABELS, PREFIXES, SCHEMA
from multiplet.errors import DataError
from multiplet.simulation.blocks import block_seed, simulate
from multiplet.simulation.jet_files import simulate_root
from test_formats_root import same, simulated


@dataclass(frozen=True)
class ToyJets:
    """Toy jets in the columns of the simulation; fails at one block, if asked to."""

    streams: tuple[str, ...] = ("Zqq", "QCD", "Hbb")
    fail_at: tuple[str, int] = ("", 0)

    @property
    def schema(self) -> tuple[Column, ...]:
        return SCHEMA

    def provenance(self) -> dict[str, str]:
        return {"generator": "toy", "processes": " ".join(self.streams)}

    def block(self, stream: str, number: int, seed: int, events: int) -> Columns:
        if (stream, number) == self.fail_at:
            raise OSError("no space left on device")
        jets = simulated(events, block_seed(seed, stream, number) % 2**32)
        label = np.full(events, LABELS.index(stream), np.int16)
        return Columns(jets.schema, jets.offsets, jets.values | {"label": label})


def read(path: Path) -> Columns:
    return concatenate([chunk.columns for chunk in JetClass().chunks(path)])


def test_each_class_has_its_files_with_the_jets_of_the_event_files(tmp_path: Path) -> None:
    shown: list[tuple[int, int]] = []
    assert simulate_root(ToyJets(), tmp_path / "root", 1000, 5, file_jets=200, progress=lambda *n: shown.append(n))
    assert shown[-1] == (1000, 1000)
    names = [f"{name}_{n:03d}.root" for name in ("HToBB", "ZJetsToNuNu", "ZToQQ") for n in (0, 1)]
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == names  # and no parts
    simulate(ToyJets(), tmp_path / "events", 1000, 5)
    events = concatenate([read_events(path) for path in (tmp_path / "events").glob("*/*.arrow")])
    order = np.argsort(events.values["event_id"])
    plain = Columns(SCHEMA, events.offsets, {column.name: events.values[column.name] for column in SCHEMA})
    for stream in ToyJets().streams:
        own = order[events.values["label"][order] == LABELS.index(stream)]
        files = [read(tmp_path / "root" / f"{PREFIXES[stream]}_{n:03d}.root") for n in (0, 1)]
        assert [len(file) for file in files] == [200, len(own) - 200]
        same(concatenate(files), plain.take(own))


def test_workers_and_interruptions_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_root(ToyJets(), tmp_path / "one", 700, 5)
    with pytest.raises(OSError, match="no space"):
        simulate_root(ToyJets(fail_at=("QCD", 2)), tmp_path / "two", 700, 5)
    assert simulate_root(ToyJets(), tmp_path / "two", 700, 5, workers=2)
    paths = sorted((tmp_path / "one").glob("*.root"))
    for path in paths:
        same(read(tmp_path / "two" / path.name), read(path))
    before = [path.stat().st_mtime_ns for path in paths]
    assert not simulate_root(ToyJets(), tmp_path / "one", 700, 5)
    paths[1].write_bytes(paths[1].read_bytes()[:-100])  # a broken copy
    made: list[str] = []
    real = ToyJets.block
    monkeypatch.setattr(ToyJets, "block", lambda self, stream, *rest: made.append(stream) or real(self, stream, *rest))
    assert simulate_root(ToyJets(), tmp_path / "one", 700, 5)
    assert set(made) == {"QCD"}
    assert [now.stat().st_mtime_ns == was for now, was in zip(paths, before, strict=True)] == [True, False, True]
    same(read(tmp_path / "two" / paths[1].name), read(paths[1]))


def test_other_files_are_refused(tmp_path: Path) -> None:
    simulate_root(ToyJets(), tmp_path, 30, 5)
    with pytest.raises(DataError, match=r"_000\.root is not of this simulation: seed '5' \(now '6'\)"):
        simulate_root(ToyJets(), tmp_path, 30, 6)
    with pytest.raises(DataError, match=r"HToBB_000\.root is not of this simulation: give another folder"):
        simulate_root(ToyJets(("Zqq",)), tmp_path, 30, 5)
    with pytest.raises(DataError, match="a multiple of 100"):
        simulate_root(ToyJets(), tmp_path, 30, 5, file_jets=250)
    with pytest.raises(DataError, match="events is 0"):
        simulate_root(ToyJets(), tmp_path, 0, 5)


@pytest.mark.slow
def test_simulated_files_are_converted_to_the_same_jets(tmp_path: Path) -> None:
    pytest.importorskip("pythia8mc")
    for format in ("root", "events"):
        given = ["simulate", "jets", "--events", "40", "--processes", "QCD,Hbb", "--format", format]
        assert CliRunner().invoke(app, [*given, "--out", str(tmp_path / format)]).exit_code == 0
    sources = sorted((tmp_path / "root").glob("*.root"))
    convert(find("jetclass"), sources, tmp_path / "converted")
    ours, theirs = (
        concatenate([read_events(path) for path in (tmp_path / name).glob("*/*.arrow")])
        for name in ("converted", "events")
    )
    rows = [columns.take(np.lexsort((columns.values["jet_pt"], columns.values["label"]))) for columns in (ours, theirs)]
    for column in SCHEMA:
        np.testing.assert_array_equal(rows[0].values[column.name], rows[1].values[column.name], column.name)
    result = CliRunner().invoke(app, ["simulate", "jets", "--out", str(tmp_path), "--events", "1", "--format", "npz"])
    assert result.exit_code == 2
