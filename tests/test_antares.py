"""Somebody's own neutrino telescope by a mapping: hits of ANTARES, in an HDF5 table with a row a hit."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multiplet.data.convert import convert
from multiplet.data.events import EventFiles
from multiplet.data.formats.table import table
from multiplet.errors import DataError

h5py = pytest.importorskip("h5py")

POINTS = """
points:
  columns:
    sensor_id: {from: "75 * (string - 1) + om - 1", type: int32}
    time: {from: "time - min(time)", unit: ns}
    charge: {from: charge, type: float32}
    auxiliary: {from: "isTriggered == 0", type: int8}
"""


@pytest.fixture(scope="module")
def antares() -> Path:
    path = Path(os.environ.get("MULTIPLET_TEST_DATA", "")) / "telescope" / "km3net" / "antares.h5"
    if "MULTIPLET_TEST_DATA" not in os.environ or not path.is_file():
        pytest.skip("MULTIPLET_TEST_DATA names no folder with telescope/km3net/antares.h5")
    return path


def test_a_row_a_hit_is_refused_with_a_reason(antares: Path, tmp_path: Path) -> None:
    """Rows are events to a mapping; the message says that these have no lists of points."""
    (tmp_path / "own.yaml").write_text(f"tree: CalibratedPulses{POINTS.replace(' - min(time)', '')}")
    reader, files = table(tmp_path / "own.yaml", [str(antares)])
    with pytest.raises(DataError, match=r"antares\.h5: points: none of .* is a list for each event"):
        list(reader.chunks(files[0]))


def test_hits_as_lists_are_read(antares: Path, tmp_path: Path) -> None:
    """The file's own index of rows makes lists of them; a mapping does the rest."""
    with h5py.File(antares) as file:
        hits, index = file["CalibratedPulses"][:], file["__I3Index__/CalibratedPulses"][:]
    offsets = pa.array([*index["start"].tolist(), len(hits)], pa.int64())
    lists = {
        name: pa.LargeListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(hits[name])))
        for name in ("string", "om", "time", "charge", "isTriggered")
    }
    pq.write_table(pa.table(lists | {"event": index["Event"]}), tmp_path / "antares.parquet")
    (tmp_path / "own.yaml").write_text(f"{POINTS}spectators: [event]\n")
    reader, files = table(tmp_path / "own.yaml", [str(tmp_path / "antares.parquet")])
    assert convert(reader, files, tmp_path / "out", (1.0, 0.0, 0.0)).cuts == {"read": 81}
    cloud = EventFiles(tmp_path / "out").read("train", np.arange(81))
    assert cloud.mask.sum() == len(hits) == 13_556
    for event, (start, stop) in enumerate(zip(index["start"], index["stop"], strict=True)):
        own = {name: value[event][cloud.mask[event]].numpy() for name, value in cloud.points.items()}
        rows = hits[start:stop]
        assert own["sensor_id"].tolist() == [
            75 * (int(s) - 1) + int(o) - 1 for s, o in zip(rows["string"], rows["om"], strict=True)
        ]
        assert own["time"] == pytest.approx(rows["time"] - rows["time"].min(), abs=1e-3)
        assert own["charge"].tolist() == rows["charge"].astype(np.float32).tolist()
        assert own["auxiliary"].tolist() == (rows["isTriggered"] == 0).tolist()
