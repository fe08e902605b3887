"""Estimates: the figures of runs that find directions or numbers of events, from their predictions alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from multiplet.errors import CorruptError
from multiplet.evaluation.estimate_plots import angle_histogram, coverage, error_bands, true_and_found
from multiplet.evaluation.folder import Folder
from multiplet.evaluation.gallery import gallery
from multiplet.evaluation.page import Html, picture
from multiplet.spec import KIND
from multiplet.tasks.angle_scores import ENERGY, angle_quantiles, opening_angles, powers
from multiplet.tasks.regress import errors

Table = dict[str, np.ndarray]


def estimates(folders: Sequence[Folder]) -> Html:
    """Opening angles, regions and directions of runs with Direction; values and errors of those with Regress."""
    return gallery([*_directions(folders), *_numbers(folders)])


def _tasks(folder: Folder, kind: str) -> list[dict[str, Any]]:
    """The fields of this kind of task in a recipe, alone or among others."""
    objective = folder.record["recipe"].get("objective", {})
    parts = objective.get("parts", {}) if objective.get(KIND) == "Together" else {"": objective}
    return [part for part in parts.values() if isinstance(part, dict) and part.get(KIND) == kind]


def _read(folder: Folder, columns: Sequence[str], more: Sequence[str] = ()) -> Table | None:
    """Columns of the labelled events, with those of `more` that there are; None where the run was not evaluated."""
    file = folder.path / "predictions.parquet"
    if not file.is_file():
        return None
    try:
        names = pq.read_schema(file).names
        if not set(columns) <= set(names):
            return None
        table = pq.read_table(file, columns=[*columns, *(name for name in more if name in names)])
    except pa.ArrowInvalid as error:
        raise CorruptError(f"{file} is not a Parquet file ({error}): evaluate the run again") from error
    found = {name: table[name].to_numpy() for name in table.column_names}
    labelled = np.all([np.isfinite(found[name]) for name in columns], axis=0)
    return {name: values[labelled] for name, values in found.items()} if labelled.any() else None


def _directions(folders: Sequence[Folder]) -> Iterator[Html]:
    found: dict[str, tuple[tuple[str, str], Table]] = {}
    for folder in folders:
        for task in _tasks(folder, "Direction"):
            names = str(task["azimuth"]), str(task["zenith"])
            columns = [prefix + name for prefix in ("", "found_") for name in names]
            if (table := _read(folder, columns, ("kappa", ENERGY, "points"))) is not None:
                found[folder.name] = names, table
    angles = {run: opening_angles(table, *names) for run, (names, table) in found.items()}
    if not angles:
        return
    medians = ", ".join(f"{run} {np.median(values):.3g}°" for run, values in angles.items())
    yield picture(angle_histogram(angles), f"Opening angles between true and found direction; medians: {medians}.")
    sure = {
        run: angle_quantiles(angles[run], table["kappa"].astype(float))
        for run, (_, table) in found.items() if "kappa" in table
    }  # fmt: skip
    if sure:
        half = ", ".join(f"{run} {np.mean(values <= 0.5):.0%}" for run, values in sure.items())
        yield picture(coverage(sure), f"Events inside the predicted regions; inside that of 50 %: {half}.")
    for column, label, base in ((ENERGY, "energy [GeV]", 10**0.5), ("points", "points in the event", 2.0)):
        pairs = {
            run: (table[column].astype(float), angles[run]) for run, (_, table) in found.items() if column in table
        }
        yield from _bands(pairs, base, label, "opening angle [°]")
    for run, (names, table) in found.items():
        for name in reversed(names):
            true, each = (np.degrees(table[prefix + name].astype(float)) for prefix in ("", "found_"))
            yield picture(true_and_found(true, each, f"{name} [°]"), f"True and found {name}, {run}.")


def _numbers(folders: Sequence[Folder]) -> Iterator[Html]:
    bands: dict[tuple[str, bool], dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    single = []
    for folder in folders:
        for task in _tasks(folder, "Regress"):
            label, log = str(task["label"]), bool(task["log"])
            if (table := _read(folder, [label, f"found_{label}"])) is not None:
                true, found = (table[name].astype(float) for name in (label, f"found_{label}"))
                bands.setdefault((label, log), {})[folder.name] = true, errors(table, label, log)[0]
                single.append(
                    picture(true_and_found(true, found, label, log), f"True and found {label}, {folder.name}.")
                )
    for (label, log), pairs in bands.items():
        yield from _bands(pairs, 10**0.5 if log else 0.0, f"true {label}", f"error of {'log10 ' if log else ''}{label}")
    yield from single


def _bands(pairs: Mapping[str, tuple[np.ndarray, np.ndarray]], base: float, label: str, error: str) -> Iterator[Html]:
    """A figure of errors against a quantity, in powers of `base`, or in twenty equal bins for 0."""
    if pairs:
        places = np.concatenate([place for place, _ in pairs.values()])
        edges = powers(places, base) if base else np.linspace(places.min(), places.max() + 1e-9, 21)
        yield picture(error_bands(pairs, edges, label, error), f"{error} against {label}: {', '.join(pairs)}.")
