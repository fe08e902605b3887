"""Report: one self-contained HTML page of one run, or of several side by side, from their folders alone."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from multiplet.errors import RunError
from multiplet.evaluation.estimates import estimates
from multiplet.evaluation.folder import Folder, read_folders
from multiplet.evaluation.gallery import classification, gallery, in_bins, losses
from multiplet.evaluation.page import Html, element, join, page, picture, table
from multiplet.evaluation.sampling_section import sampled_back
from multiplet.files import seal, write_atomically
from multiplet.spec import KIND

FILES = {"metrics.json": "results", "predictions.parquet": "rejection curves or score distributions"}
SHOWN = ("data", "represent", "encoder", "objective", "adapt", "optim", "seed")  # of a recipe, in the table of runs


def write_report(
    runs: Sequence[Path],
    out: Path | None = None,
    figures: Mapping[str, Figure] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write the page and give its path: `out`, or report.html in the folder of the first run.

    `figures` are put in under their titles, `notes` below the results. Raises RunError for a folder that is no run,
    CorruptError for files in it that are damaged; a run that was not evaluated is reported without results.
    """
    paths = list(dict.fromkeys(Path(run) for run in runs))
    if not paths:
        raise RunError("a report needs one run folder at least")
    folders = read_folders(paths)
    target = out or paths[0] / "report.html"
    parts = {
        "Results": join(_results(folders), *(element("p", note) for note in notes)),
        "Runs": _runs(folders),
        "Training": losses(folders),
        "Classification": classification(folders),
        "Estimates": estimates(folders),
        "In bins": in_bins(folders),
        "Sampled back": sampled_back(folders),
        "Figures": gallery([picture(figure, title) for title, figure in (figures or {}).items()]),
        "How to reproduce": _commands(folders),
        "Recipes": join(*map(_recipe, folders)),
    }
    title = " · ".join(folder.name for folder in folders)
    written = page(title, _lead(folders), [(name, content) for name, content in parts.items() if content])
    write_atomically(target, written.encode())
    if target.parent in paths:
        seal(target.parent)
    return target


def _lead(folders: Sequence[Folder]) -> str:
    about = "One run" if len(folders) == 1 else f"{len(folders)} runs side by side"
    evaluated = {f"{f.metrics['events']:,} events of the {f.metrics['split']} split" for f in folders if f.metrics}
    return about + (f", evaluated on {' and '.join(sorted(evaluated))}" if evaluated else ", not evaluated yet")


def _results(folders: Sequence[Folder]) -> Html:
    measured = {folder.name: (folder.metrics or {}).get("metrics", {}) for folder in folders}
    names = dict.fromkeys(name for metrics in measured.values() for name in metrics)
    rows = []
    for name in names:
        about = next((str(m[name].get("about", "")) for m in measured.values() if name in m), "")
        cells = [_measured(metrics[name]) if name in metrics else "–" for metrics in measured.values()]
        rows.append((join(name, element("small", about)), cells))
    return join(table(["metric", *measured], rows) if rows else "", *map(_missing, folders))


def _missing(folder: Folder) -> Html:
    """What is not in the folder, and the command that makes it."""
    files = [file for file in FILES if not (folder.path / file).is_file()]
    if not files:
        return Html("")
    command = element("code", f"multiplet evaluate {shlex.quote(str(folder.path))}")
    lack = f"{folder.name} has no {' and no '.join(files)}, hence no {' and no '.join(map(FILES.__getitem__, files))}; "
    return element("p", lack, command, f" makes {'them' if len(files) > 1 else 'it'}.", class_="missing")


def _runs(folders: Sequence[Folder]) -> Html:
    rows = [(key, [_short(folder.record["recipe"].get(key, "–")) for folder in folders])
            for key in SHOWN if any(key in folder.record["recipe"] for folder in folders)]  # fmt: skip
    rows += [(name, [tell(folder) for folder in folders]) for name, tell in FACTS.items()]
    names = [folder.name for folder in folders]
    differing = _differing([flatten(folder.record["recipe"]) for folder in folders])
    caption = "Fields in which the recipes differ"
    return join(table(["", *names], rows), table(["field", *names], differing, caption) if differing else "")


def _differing(recipes: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Fields and their values; where a part is of another kind, its own fields are not gone into."""
    found: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for recipe in recipes for key in recipe):
        values = [str(recipe.get(key, "–")) for recipe in recipes]
        parts = key.split(".")
        inside = any(".".join(parts[:n]) in found for n in range(1, len(parts)))
        if len(set(values)) > 1 and not inside:
            found[key] = values
    return list(found.items())


def _commands(folders: Sequence[Folder]) -> Html:
    blocks = []
    for folder in folders:
        commands = [folder.record.get("command"), (folder.metrics or {}).get("command")]
        versions = ", ".join(f"{name} {value}" for name, value in folder.record.get("versions", {}).items())
        text = "\n".join(str(command) for command in commands if command) or "no command was recorded"
        blocks.append(join(element("p", f"{folder.name}, with {versions}"), element("pre", element("code", text))))
    return join(*blocks)


def _recipe(folder: Folder) -> Html:
    rows = [(key, [str(value)]) for key, value in flatten(folder.record["recipe"]).items()]
    return element("details", element("summary", f"Recipe of {folder.name}"), table(["field", "value"], rows))


def _parameters(folder: Folder) -> str:
    counts = folder.log["start"][-1].get("parameters", {}) if folder.log["start"] else {}
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "–"


def _trained(folder: Folder) -> str:
    if not folder.log["train"]:
        return "–"
    times = [line.get("time", {}) for line in folder.log["train"]]
    seconds = sum(time.get("seconds", 0.0) for time in times)
    rate = np.median([time.get("events_per_second", math.nan) for time in times])
    return f"{folder.log['train'][-1]['step']:,} steps in {_clock(seconds)}, {rate:,.0f} events/s"


def _evaluated(folder: Folder) -> str:
    cost = (folder.metrics or {}).get("cost")
    return f"{_clock(cost['seconds'])} on {cost['device']}" if cost else "–"


FACTS = {"parameters": _parameters, "training": _trained, "evaluation": _evaluated}


def _clock(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.3g} s" if seconds < 100 else f"{minutes:.3g} min" if minutes < 100 else f"{hours:.3g} h"


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """A recipe's nested parts as {"train": "Train", "train.steps": 100, "represent.features.0": "Feature", …}."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = {str(number): item for number, item in enumerate(value)}
    if not isinstance(value, dict):
        return {path: value}
    flat = {path: value[KIND]} if path and KIND in value else {}
    for key, item in value.items():
        if key != KIND:
            flat |= flatten(item, f"{path}.{key}" if path else key)
    return flat


def _short(value: Any, depth: int = 2) -> str:
    """A part of a recipe as it would be written in Python, to a depth, without what is empty."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"{len(value)} × {value[0].get(KIND, 'map')}"
    if not isinstance(value, dict) or KIND not in value:
        return str(value)
    said = {key: item for key, item in value.items() if key != KIND and item not in (None, "", [], {})}
    fields = [f"{key}={_short(item, depth - 1)}" for key, item in said.items()]
    return f"{value[KIND]}({', '.join(fields) if depth else '…' if fields else ''})"


def _measured(entry: Mapping[str, Any]) -> Html:
    """A value with its interval, to two digits of the interval; > before a bound."""
    value, low, high = (float(entry.get(key, entry["value"])) for key in ("value", "low", "high"))
    errors = [error for error in (high - value, value - low) if error > 0]
    digits = 1 - math.floor(math.log10(min(errors))) if errors else 3 - math.floor(math.log10(abs(value) or 1))
    up, down = (f"{round(error, digits):,.{max(digits, 0)}f}" for error in (high - value, value - low))
    error = f" ± {up}" if up == down else f" +{up} −{down}"
    shown = f"{round(value, digits):,.{max(digits, 0)}f}"
    return join(
        ">\u2009" if entry.get("is_bound") else "", shown, element("span", error, class_="error") if errors else ""
    )
