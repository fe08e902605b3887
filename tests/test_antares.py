"""Somebody's own neutrino telescope by a mapping: hits of ANTARES, in an HDF5 table with a row a hit."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from multiplet.data.convert import convert
from multiplet.data.events import EventFiles
from multiplet.data.formats.table import TableFormat, table
from multiplet.errors import DataError

h5py = pytest.importorskip("h5py")

MAPPING = """
tree: CalibratedPulses
group: [Run, Event, TriggerCounter]
points:
  columns:
    sensor_id: {from: "75 * (string - 1) + om - 1", type: int32}
    time: {from: "time - min(time)", unit: ns}
    charge: {from: charge, unit: p.e.}
    auxiliary: {from: "isTriggered == 0", type: int8}
event:
  columns:
    first: {from: min(time), unit: ns, type: float64}
spectators: [Run, Event, TriggerCounter]
"""


@pytest.fixture(scope="module")
def antares() -> Path:
    path = Path(os.environ.get("MULTIPLET_TEST_DATA", "")) / "telescope" / "km3net" / "antares.h5"
    if "MULTIPLET_TEST_DATA" not in os.environ or not path.is_file():
        pytest.skip("MULTIPLET_TEST_DATA names no folder with telescope/km3net/antares.h5")
    return path


@pytest.mark.parametrize("step", [0, 1000])
def test_all_hits_are_read(antares: Path, tmp_path: Path, step: int) -> None:
    """Each of them beside a loop over the rows that the file's own index gives."""
    (tmp_path / "own.yaml").write_text(MAPPING)
    reader, files = table(tmp_path / "own.yaml", [str(antares)])
    reader = TableFormat(reader.mapping, step=step)
    assert convert(reader, files, tmp_path / "out", (1.0, 0.0, 0.0)).cuts == {"read": 81}
    cloud = EventFiles(tmp_path / "out").read("train", np.arange(81))
    with h5py.File(antares) as file:
        hits, index = file["CalibratedPulses"][:], file["__I3Index__/CalibratedPulses"][:]
    assert len(index) == 81
    assert cloud.mask.sum() == len(hits) == 13_556
    for event, (start, stop) in enumerate(zip(index["start"], index["stop"], strict=True)):
        own = {name: value[event][cloud.mask[event]].numpy() for name, value in cloud.points.items()}
        rows = hits[start:stop]
        sensors = [75 * (int(s) - 1) + int(o) - 1 for s, o in zip(rows["string"], rows["om"], strict=True)]
        assert own["sensor_id"].tolist() == sensors
        assert own["time"].tolist() == (rows["time"] - rows["time"].min()).astype(np.float32).tolist()
        assert own["charge"].tolist() == rows["charge"].astype(np.float32).tolist()
        assert own["auxiliary"].tolist() == (rows["isTriggered"] == 0).tolist()
        assert cloud.event["first"][event] == rows["time"].min()
        for name in ("Run", "Event", "TriggerCounter"):
            assert cloud.event[name][event] == rows[name][0]


def test_a_row_a_hit_is_refused_with_a_reason(antares: Path, tmp_path: Path) -> None:
    """Without a group rows are events, and these have no lists of points."""
    (tmp_path / "own.yaml").write_text("tree: CalibratedPulses\npoints: {columns: {time: time}}\n")
    reader, files = table(tmp_path / "own.yaml", [str(antares)])
    with pytest.raises(DataError, match=r"antares\.h5: points: none of time is a list for each event; .* group"):
        list(reader.chunks(files[0]))


def test_rows_of_a_trigger_are_together(antares: Path, tmp_path: Path) -> None:
    """A group of hits that comes again: a string is hit in every event."""
    (tmp_path / "own.yaml").write_text(MAPPING.replace("group: [Run, Event, TriggerCounter]", "group: [Run, string]"))
    reader, files = table(tmp_path / "own.yaml", [str(antares)])
    with pytest.raises(DataError, match=r"antares\.h5: rows 0 and \d+ both begin an event with Run 45978, string 1: "):
        list(reader.chunks(files[0]))
