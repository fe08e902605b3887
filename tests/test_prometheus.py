"""The reader of Prometheus's files: the same events from every layout, as a loop reads them; bad ones refused."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multiplet.data.columns import Columns, concatenate
from multiplet.data.convert import convert
from multiplet.data.events import EventFiles
from multiplet.data.formats import find, prometheus_tables
from multiplet.data.formats.prometheus import Prometheus
from multiplet.errors import DataError
from multiplet.kinematics import unit_vector

Arrays = dict[str, Any]
STRINGS, MODULES = 5, 8
COUNTS = (30, 1, 0, 60, 12, 0)  # of photons; two events are dark
NUMBERS = (71, 12, 88, 40, 95, 13)
TRUTH = {
    "interaction": "interaction",
    "initial_state_energy": "energy",
    "initial_state_type": "type",
    "initial_state_zenith": "zenith",
    "initial_state_azimuth": "azimuth",
    **{f"initial_state_{axis}": f"vertex_{axis}" for axis in "xyz"},
}
LEGACY = {name: name.replace("initial_state_", "injection_") for name in TRUTH} | {
    "interaction": "injection_interaction_type",
    **{f"initial_state_{axis}": f"injection_position_{axis}" for axis in "xyz"},
}


def detector() -> np.ndarray:
    """Positions (strings, modules, 3), far from the middle of the coordinates."""
    across = np.random.default_rng(1).uniform(-100, 100, (STRINGS, 1, 2))
    up = np.broadcast_to(-3000 + 20.0 * np.arange(MODULES)[:, None], (STRINGS, MODULES, 1))
    return np.concatenate([np.broadcast_to(across, (STRINGS, MODULES, 2)), up], axis=2)


def simulate(seed: int = 2) -> tuple[Arrays, Arrays]:
    """Photons in no order of time, and truth, both with the number of their event."""
    rng, number = np.random.default_rng(seed), sum(COUNTS)
    string, sensor = rng.integers(0, STRINGS, number), rng.integers(0, MODULES, number)
    position = detector()[string, sensor]
    photons = {
        **{f"sensor_pos_{axis}": position[:, n] for n, axis in enumerate("xyz")},
        "string_id": string,
        "sensor_id": sensor,
        "t": rng.integers(0, 1600, number) / 8 * rng.choice([1, 30], number),
        "event_no": np.repeat(NUMBERS, COUNTS),
    }
    events = len(COUNTS)
    truth = {
        "interaction": np.array([1, 1, 2, 2, 1, 0]),
        "initial_state_energy": rng.uniform(10, 1e4, events),
        "initial_state_type": np.array([14, -12, 16, 14, 16, -12]),
        "initial_state_zenith": rng.uniform(0, np.pi, events),
        "initial_state_azimuth": rng.uniform(-np.pi, np.pi, events),
        **{f"initial_state_{axis}": rng.uniform(-99, 99, events) for axis in "xyz"},
        "event_no": np.array(NUMBERS),
    }
    return photons, truth


def nested(folder: Path, photons: Arrays, truth: Arrays, field: str = "photons") -> Path:
    offsets = pa.array(np.concatenate([[0], np.cumsum(COUNTS)]), pa.int64())

    def record(values: Arrays, wrap: Callable[[Any], Any]) -> pa.StructArray:
        held = {name: wrap(value) for name, value in values.items() if name != "event_no"}
        return pa.StructArray.from_arrays(list(held.values()), list(held))

    lists = record(photons, lambda value: pa.LargeListArray.from_arrays(offsets, pa.array(value)))
    pq.write_table(pa.table({"mc_truth": record(truth, pa.array), field: lists}), folder / "run_photons.parquet")
    return folder / "run_photons.parquet"


def renamed(photons: Arrays, truth: Arrays) -> tuple[Arrays, Arrays]:
    """As in legacy files, where sensors are numbered through."""
    photons = photons | {"sensor_id": photons["string_id"] * MODULES + photons["sensor_id"]}
    photons = {"sensor_string_id" if name == "string_id" else name: value for name, value in photons.items()}
    return photons, {LEGACY.get(name, name): value for name, value in truth.items()}


def flat(folder: Path, photons: Arrays, truth: Arrays, table: str = "total", apart: bool = False) -> Path:
    """Two Parquet files; `apart`, each in a folder that is called as its table."""
    paths = [folder / (name if apart else "") / f"{name}_7.parquet" for name in (table, "mc_truth")]
    for path, columns in zip(paths, (photons, truth), strict=True):
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table(columns), path)
    return paths[0]


def database(folder: Path, photons: Arrays, truth: Arrays, table: str = "photons", index: bool = True) -> Path:
    path = folder / "merged.db"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as file:
        for name, columns in ((table, photons), ("mc_truth", truth)):
            file.execute(f"CREATE TABLE {name} ({', '.join(columns)})")
            rows = zip(*(np.asarray(value).tolist() for value in columns.values()), strict=True)
            file.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(columns))})", rows)
        if index:
            file.execute(f"CREATE INDEX of_{table} ON {table} (event_no)")
        file.commit()
    return path


def geo(folder: Path) -> Path:
    """The detector as Prometheus writes it."""
    rows = [
        "\t".join(map(str, (*place.tolist(), string + 1, module + 1)))
        for string, column in enumerate(detector())
        for module, place in enumerate(column)
    ]
    path = folder / "own.geo"
    path.write_text("\n".join(["### Metadata ###", "Medium:\twater", "DOM Radius [cm]:\t30", "### Modules ###", *rows]))
    return path


def read(path: Path, **settings: float) -> tuple[Columns, dict[str, int]]:
    """All events of a file, and the cut flow."""
    chunks = list(Prometheus(**settings).chunks(path))
    cuts = {name: sum(chunk.cuts[name] for chunk in chunks) for name in chunks[0].cuts}
    return concatenate([chunk.columns for chunk in chunks]), cuts


def as_rows(columns: Columns) -> dict[float, list[tuple[float, ...]]]:
    """Energy, which names an event in every layout → its pulses without sensor_id."""
    names = ("time", "charge", "auxiliary", "x", "y", "z")
    rows = list(zip(*(columns.values[name].tolist() for name in names), strict=True))
    energies = columns.values["energy"].tolist()
    edges = columns.offsets.tolist()
    return {energy: sorted(rows[edges[n] : edges[n + 1]]) for n, energy in enumerate(energies)}


def expected_pulses(photons: Arrays, event: int, window: float = 5.0) -> list[tuple[float, ...]]:
    """By loops: (time, charge, auxiliary, string, module) of one event."""
    mine = [n for n, number in enumerate(photons["event_no"]) if number == NUMBERS[event]]
    hits = sorted((int(photons["string_id"][n]), int(photons["sensor_id"][n]), float(photons["t"][n])) for n in mine)
    pulses: list[list[float]] = []
    for string, sensor, t in hits:
        if pulses and pulses[-1][:2] == [string, sensor] and t - pulses[-1][2] <= window:
            pulses[-1][3] += 1
        else:
            pulses.append([string, sensor, t, 1])
    begin = min(pulse[2] for pulse in pulses)
    return sorted(
        (
            t - begin + 9800,
            charge,
            not any(s == u and abs(m - v) in (1, 2) and abs(t - w) < 1000 for u, v, w, _ in pulses),
            s,
            m,
        )
        for s, m, t, charge in pulses
    )


# What is right.


@pytest.mark.parametrize("window", [0.0, 5.0, 25.0])
def test_nested_file_as_a_loop_reads_it(tmp_path: Path, window: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_tables, "_EVENTS", 2)
    photons, truth = simulate()
    columns, cuts = read(nested(tmp_path, photons, truth), window=window)
    lit = [n for n, count in enumerate(COUNTS) if count]
    assert cuts == {"read": 6, "with light": 4}
    assert len(columns) == 4
    for place, event in enumerate(lit):
        low, high = columns.offsets[place], columns.offsets[place + 1]
        expected = expected_pulses(photons, event, window)
        assert high - low == len(expected)
        values = {name: columns.values[name][low:high] for name in columns.values if name[:2] not in ("az", "ve")}
        assert values["time"].tolist() == pytest.approx([pulse[0] for pulse in expected])
        assert (np.diff(values["time"]) >= 0).all()
        assert sum(values["charge"].tolist()) == COUNTS[event]
        found = sorted(zip(*(values[n].tolist() for n in ("time", "charge", "auxiliary", "sensor_id")), strict=True))
        assert found == sorted((*pulse[:3], 100 * pulse[3] + pulse[4]) for pulse in expected)
        for axis, name in enumerate("xyz"):
            at = detector()[values["sensor_id"] // 100, values["sensor_id"] % 100, axis]
            assert values[name].tolist() == at.astype(np.float32).tolist()
    assert columns.values["energy"].tolist() == truth["initial_state_energy"][lit].astype(np.float32).tolist()
    assert columns.values["interaction"].tolist() == [0, 1, 2, -1]  # of muon, electron, any neutral, tau
    assert [c.name for c in columns.schema if c.truth] == [
        *("azimuth", "zenith", "energy", "interaction", "vertex_x", "vertex_y", "vertex_z")
    ]
    flown = unit_vector(truth["initial_state_azimuth"][lit], truth["initial_state_zenith"][lit])
    assert unit_vector(columns.values["azimuth"], columns.values["zenith"]) == pytest.approx(-flown, abs=1e-6)
    assert 0 <= columns.values["azimuth"].min() <= columns.values["azimuth"].max() < 2 * np.pi


LAYOUTS: dict[str, Callable[[Path, Arrays, Arrays], Path]] = {
    "nested, photons called otherwise": lambda folder, p, t: nested(folder, p, t, "hits"),
    "flat": flat,
    "flat, legacy": lambda folder, p, t: flat(folder, *renamed(p, t)),
    "flat, in two folders": lambda folder, p, t: flat(folder, p, t, "photons", True),
    "database": database,
    "database, legacy": lambda folder, p, t: database(folder, *renamed(p, t), table="total"),
    "database without an index": lambda folder, p, t: database(folder, p, t, index=False),
}


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_holds_the_same_events(
    tmp_path: Path, layout: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus_tables, "_ROWS", rows)
    photons, truth = simulate()
    expected, cuts = read(nested(tmp_path, photons, truth))
    path = LAYOUTS[layout](tmp_path, photons, truth)
    columns, found = read(path)
    assert found == cuts
    assert as_rows(columns) == as_rows(expected)
    if "nested" not in layout:
        assert sorted(columns.values["event_id"].tolist()) == [12, 40, 71, 95]
        assert dict(zip(columns.values["event_id"].tolist(), columns.values["energy"].tolist(), strict=True)) == {
            number: np.float32(energy)
            for number, energy, n in zip(NUMBERS, truth["initial_state_energy"], COUNTS, strict=True)
            if n
        }
    if "legacy" in layout:
        assert set(columns.values["sensor_id"]) <= set(range(STRINGS * MODULES))


@pytest.mark.parametrize("layout", ["nested, photons called otherwise", "flat, legacy", "database"])
def test_a_geometry_names_sensors_by_its_rows(tmp_path: Path, layout: str) -> None:
    """The same ids in every layout, positions and vertices from the middle of the detector."""
    photons, truth = simulate()
    geo(tmp_path)
    columns, _ = read(LAYOUTS[layout](tmp_path, photons, truth))
    flat_detector = detector().reshape(-1, 3)
    middle = flat_detector.mean(0)
    for axis, name in enumerate("xyz"):
        at = (flat_detector - middle)[columns.values["sensor_id"], axis]
        assert columns.values[name] == pytest.approx(at, abs=1e-4)
        own = {
            round(e): v - middle[axis]
            for e, v in zip(*(truth[f"initial_state_{k}"] for k in ("energy", name)), strict=True)
        }
        energies = np.rint(columns.values["energy"]).astype(int).tolist()
        assert columns.values[f"vertex_{name}"] == pytest.approx([own[e] for e in energies], abs=1e-3)
    (tmp_path / "own.geo").unlink()
    without, _ = read(LAYOUTS[layout](tmp_path, photons, truth))
    for name in ("time", "charge"):
        assert sorted(columns.values[name].tolist()) == sorted(without.values[name].tolist())
    assert columns.values["auxiliary"].sum() == without.values["auxiliary"].sum()


def test_pulses_are_taken_as_they_are(tmp_path: Path) -> None:
    """NuBench's tables: a charge, no numbers of sensors; a CSV says where they are."""
    photons, truth = simulate()
    pulses = {name: value for name, value in photons.items() if name not in ("string_id", "sensor_id")}
    pulses["charge"] = np.random.default_rng(3).uniform(0.2, 9, sum(COUNTS))
    flat_detector = detector().reshape(-1, 3)
    lines = [f"{n},{x},{y},{z}" for n, (x, y, z) in enumerate(flat_detector.tolist())]
    (tmp_path / "sensor_geometry.csv").write_text("\n".join(["sensor_id,x,y,z", *lines]))
    for path in (database(tmp_path, pulses, truth, "merged_photons"), flat(tmp_path, pulses, truth, "pulses_no_noise")):
        columns, _ = read(path)
        assert len(columns.values["time"]) == sum(COUNTS)
        assert sorted(columns.values["charge"].tolist()) == sorted(pulses["charge"].astype(np.float32).tolist())
        string = photons["string_id"] * MODULES + photons["sensor_id"]
        assert sorted(columns.values["sensor_id"].tolist()) == sorted(string.tolist())


def test_through_convert_to_a_cloud(tmp_path: Path) -> None:
    """Dark events are in the cut flow, not in the files; where an event stood in its file is kept."""
    path = nested(tmp_path, *simulate())
    made = convert(find("prometheus"), [path], tmp_path / "out", (1.0, 0.0, 0.0))
    assert made.cuts == {"read": 6, "with light": 4}
    cloud = EventFiles(tmp_path / "out").read("train", np.arange(4))
    assert cloud.event["source_entry"].tolist() == [0, 1, 3, 4]
    assert set(cloud.points) == {"sensor_id", "time", "charge", "auxiliary", "x", "y", "z"}


def test_a_file_without_events_or_without_light(tmp_path: Path) -> None:
    photons, truth = simulate()
    none = {name: value[:0] for name, value in photons.items()}
    for path in (flat(tmp_path, none, truth), database(tmp_path, none, truth)):
        columns, cuts = read(path)
        assert cuts == {"read": 6, "with light": 0}
        assert columns.offsets.tolist() == [0]
    nothing = {name: value[:0] for name, value in truth.items()}
    for path in (flat(tmp_path, none, nothing), database(tmp_path, none, nothing)):
        assert list(Prometheus().chunks(path)) == []


# What is wrong.


def refused(path: Path, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        list(Prometheus().chunks(path))
    assert str(path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


def poke(array: np.ndarray, at: int, value: Any) -> np.ndarray:
    array = array.copy()
    array[at] = value
    return array


FAULTS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray], str]] = {
    "a NaN time": ("t", lambda a: poke(a, 40, np.nan), "t of event 40 is not finite"),
    "a late photon": ("t", lambda a: poke(a, 40, 1e9), "t of event 40 is beyond"),
    "a NaN position": ("sensor_pos_z", lambda a: poke(a, 30, np.nan), "z of event 12 is not finite"),
    "a shifted sensor": ("sensor_pos_x", lambda a: poke(a, 50, a[50] + 5), "sensor_id of event .* is at two places"),
    "a module too high": ("sensor_id", lambda a: poke(a, 3, 100), "sensor_id of event 71 is no number from 0 to 99"),
    "a negative string": ("string_id", lambda a: poke(a, 3, -1), "string_id of event 71 is no number from 0 to"),
    "photons of no event": ("event_no", lambda a: poke(a, 30, 77), "event 77 has photons and is not in mc_truth"),
    "photons apart": ("event_no", lambda a: poke(a, 0, 40), "photons of event 40 lie apart: sort them by event_no"),
    "a NaN energy": ("initial_state_energy", lambda a: poke(a, 3, np.nan), "energy of event 40 is not finite"),
    "degrees": ("initial_state_zenith", np.degrees, "zenith of event .* is no angle in rad"),
    "an event twice": ("event_no ", lambda a: poke(a, 3, 71), "event_no 71 is there twice in mc_truth"),
}


@pytest.mark.parametrize("layout", ["flat", "database"])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused(tmp_path: Path, fault: str, layout: str) -> None:
    name, change, match = FAULTS[fault]
    photons, truth = simulate()
    for columns in (truth,) if name.endswith(" ") else (photons, truth):
        if name.strip() in columns:
            columns[name.strip()] = change(columns[name.strip()])
            break
    if (layout, fault) == ("database", "photons apart"):  # it is sorted by the database
        assert len(read(database(tmp_path, photons, truth))[0]) == 4
        return
    refused(LAYOUTS[layout](tmp_path, photons, truth), match)


FILES = {  # name of the file, the tables it holds, and what stands before the names of their columns
    "nested": ("run_photons.parquet", ("photons", "mc_truth"), True),
    "flat": ("total_7.parquet", ("photons",), False),
    "flat, truth": ("mc_truth_7.parquet", ("mc_truth",), False),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("layout", FILES)
def test_half_precision_is_refused(tmp_path: Path, layout: str, legacy: bool) -> None:
    """One error for all columns of a file that it would spoil, whether one is so or all are."""
    file, tables, dotted = FILES[layout]
    photons, truth = renamed(*simulate()) if legacy else simulate()
    columns = {"photons": photons, "mc_truth": truth}
    rough = {LEGACY[name] if legacy else name for name in ("interaction", "initial_state_type")}
    spoilt = [
        (t, name) for t in tables for name in columns[t] if name not in rough | ({"event_no"} if dotted else set())
    ]
    assert len(spoilt) == {"nested": 12, "flat": 7, "flat, truth": 7}[layout]
    for some in (*([one] for one in spoilt), spoilt):
        written = {name: dict(held) for name, held in columns.items()}
        for t, name in some:
            written[t][name] = (columns[t][name] / 10).astype(np.float16)
        with pytest.raises(DataError, match=r"another layout\? Take the file as published") as caught:
            list(Prometheus().chunks((nested if dotted else flat)(tmp_path, *written.values())))
        said = str(caught.value).split(": is this")[0].removeprefix(f"{tmp_path / file}: ").split("; ")
        names = [f"{t}.{name}" if dotted else name for t, name in some]
        assert sorted(said) == sorted(f"{name} is float16, which cannot hold it" for name in names)


@pytest.mark.parametrize("layout", ["nested", "flat"])
def test_charges_and_codes_may_be_of_half_precision(tmp_path: Path, layout: str) -> None:
    photons, truth = simulate()
    photons["charge"] = np.full(sum(COUNTS), 1.5)
    made = {"nested": nested, "flat": flat}[layout]
    expected = read(made(tmp_path, photons, truth))[0]
    for name in ("interaction", "initial_state_type"):
        truth[name] = truth[name].astype(np.float16)
    photons["charge"] = photons["charge"].astype(np.float16)
    found = read(made(tmp_path, photons, truth))[0]
    for name, values in expected.values.items():
        assert np.array_equal(found.values[name], values), name


@pytest.mark.parametrize("charge", [np.nan, 0.0, -1.0])
def test_faults_of_charges(tmp_path: Path, charge: float) -> None:
    photons, truth = simulate()
    photons["charge"] = poke(np.ones(sum(COUNTS)), 40, charge)
    refused(flat(tmp_path, photons, truth, "pulses"), "charge of event 40 is not (finite|above 0)")


def test_missing_columns_tables_and_files(tmp_path: Path) -> None:
    photons, truth = simulate()
    path = flat(tmp_path, photons, truth)
    refused(tmp_path / "mc_truth_7.parquet", "holds the truth, which is read with the photons")
    (tmp_path / "mc_truth_7.parquet").unlink()
    refused(path, "needs its truth: put mc_truth_7.parquet into its folder")
    refused(
        flat(tmp_path, {n: v for n, v in photons.items() if n != "t"}, truth), "its photons lack t: is it a file of"
    )
    less = {n: v for n, v in truth.items() if n != "initial_state_zenith"}
    refused(nested(tmp_path, photons, less), "its mc_truth lacks initial_state_zenith or injection_zenith")
    bare = {n: v for n, v in photons.items() if n != "string_id"}
    refused(database(tmp_path, bare, truth), "names no sensors: put its detector's geometry")
    refused(
        database(tmp_path, photons, truth, "hits"), "holds the tables hits, mc_truth: mc_truth and one, only one, of"
    )
    path = database(tmp_path, photons, truth)
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE pulses AS SELECT * FROM photons")
        file.commit()
    refused(path, "holds the tables mc_truth, photons, pulses: .* only one")
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "other.parquet")
    refused(tmp_path / "other.parquet", "its photons lack t, sensor_pos_x")
    with pytest.raises(DataError, match="make a pulse"):
        Prometheus(-1.0)


def test_faults_of_the_geometry(tmp_path: Path) -> None:
    photons, truth = simulate()
    path = nested(tmp_path, photons, truth)
    other = geo(tmp_path)
    text = other.read_text()
    other.write_text("\n".join(text.splitlines()[:-4]))
    refused(path, "x of event .* and its y, z are of no sensor in .*own.geo: is it of this detector")
    other.write_text(text.replace("### Modules ###", ""))
    refused(path, "own.geo: its modules cannot be read")
    other.write_text(text.replace("-3000.0", "deep"))
    refused(path, "own.geo: its modules cannot be read")
    other.write_text(text)
    (tmp_path / "a.geo").write_text(text)
    refused(path, "a.geo, own.geo lie beside it: leave the right one only")


@pytest.mark.parametrize(
    "layout", ["nested, photons called otherwise", "flat", "database", "database without an index"]
)
def test_half_a_file(tmp_path: Path, layout: str) -> None:
    path = LAYOUTS[layout](tmp_path, *simulate())
    whole = path.read_bytes()
    for part in (0, 0.05, 0.3, 0.6, 0.95, 1 - 1 / len(whole)):
        path.write_bytes(whole[: int(part * len(whole))])
        refused(path, path.name)


def test_text_in_a_database(tmp_path: Path) -> None:
    photons, truth = simulate()
    refused(database(tmp_path, photons | {"t": ["soon"] * sum(COUNTS)}, truth), "table photons cannot be read")


def test_a_database_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = database(tmp_path, *simulate())
    real, refusals = sqlite3.connect, []

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = real(*arguments, **options)
        with pytest.raises(sqlite3.OperationalError, match="readonly") as caught:
            connection.execute("CREATE TABLE other (x)")
        refusals.append(caught)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)
    assert len(read(path)[0]) == 4
    assert len(refusals) == 1


# Files of other people.


def sample(name: str) -> Path:
    path = Path(os.environ.get("MULTIPLET_TEST_DATA", "")) / "telescope" / "prometheus" / name
    if "MULTIPLET_TEST_DATA" not in os.environ or not path.is_file():
        pytest.skip(f"MULTIPLET_TEST_DATA names no folder with telescope/prometheus/{name}")
    return path


def test_arca_with_current_records() -> None:
    """200 photons of nine muon-neutrino events; light lies where the neutrino flies to."""
    columns, cuts = read(sample("arca_photons.parquet"))
    assert cuts == {"read": 10, "with light": 9}
    assert columns.values["charge"].sum() == 200
    assert set(columns.values["interaction"]) == {0}
    vertex = np.stack([columns.values[f"vertex_{axis}"] for axis in "xyz"], 1)
    place = np.stack([columns.values[axis] for axis in "xyz"], 1)
    along = []
    for event in np.flatnonzero(np.diff(columns.offsets) > 2):
        rows = slice(columns.offsets[event], columns.offsets[event + 1])
        from_where = unit_vector(columns.values["azimuth"][[event]], columns.values["zenith"][[event]])[0]
        away = np.average(place[rows], axis=0, weights=columns.values["charge"][rows]) - vertex[event]
        along.append(float(from_where @ away / np.linalg.norm(away)))
    assert np.mean(along) < -0.5
    assert np.mean(np.array(along) < 0) > 0.8


def test_legacy_database_and_files() -> None:
    """50 events of which 10 are in files too: the same pulses; a sensor's id is at one place in all of them."""
    whole, cuts = read(sample("legacy.db"))
    assert cuts == {"read": 50, "with light": 50}
    with closing(sqlite3.connect(f"{sample('legacy.db').as_uri()}?mode=ro", uri=True)) as file:
        assert whole.values["charge"].sum() == file.execute("SELECT count(*) FROM total").fetchone()[0] == 1872
    known = as_rows(whole)
    for number in (0, 1):
        columns, cuts = read(sample(f"legacy_parquet/total_{number}.parquet"))
        assert cuts == {"read": 5, "with light": 5}
        for energy, rows in as_rows(columns).items():
            assert np.array(rows) == pytest.approx(np.array(known[energy]), abs=1e-3)
        for name in "xyz":
            at = dict(zip(whole.values["sensor_id"].tolist(), whole.values[name].tolist(), strict=True))
            ids = columns.values["sensor_id"].tolist()
            assert columns.values[name].tolist() == [at[n] for n in ids]
