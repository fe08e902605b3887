"""Sampling section: what a report says of the hidden points that runs drew back, from their folders alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from multiplet.errors import CorruptError
from multiplet.evaluation.folder import Folder
from multiplet.evaluation.gallery import gallery
from multiplet.evaluation.page import Html, element, join, picture, table
from multiplet.evaluation.sampling import FILE, SAMPLED, TRUE, Table, by_quantity, exchanged
from multiplet.evaluation.sampling_plots import rates, sampled_histogram
from multiplet.evaluation.sampling_scores import with_hidden
from multiplet.evaluation.whole_jets import has_jets, whole_jets
from multiplet.representation.features import BIT, Feature, Identity
from multiplet.spec import KIND, from_dict

CONTROLS = {"same_rank": "others, same rank", "any_rank": "others, any rank"}
DISTANCES = (
    "Wasserstein-1 distance between the distributions of sampled and true values, in true standard deviations of what "
    "the target is (a logarithm, where it says so); below it of the quantity itself, in its unit. ± is one standard "
    "error, by resampling events. floor: two draws of as many events of the truth; sampled and true values share their "
    "events, so a distance may be below it. others: hidden points exchanged at random with those of other events, of "
    "the same rank or of any; of single points the distribution is then that of the truth."
)
ERRORS = (
    "Mean |sampled − true| of single values, in the same units. Samples spread as the truth does, so that even perfect "
    "ones are not at 0; those that know nothing of the event are where the others of any rank are."
)

RANKS = (
    " The place of a hidden point in the order of its event is told, so that what points are put in order by is known "
    "to lie between that of visible neighbours."
)


def sampled_back(folders: Sequence[Folder]) -> Html:
    """Tables and figures of the runs that drew hidden points back; those with the same points hidden share them."""
    groups: dict[tuple[Any, ...], list[Folder]] = {}
    for folder in folders:
        if (found := _found(folder)) and (folder.path / FILE).is_file():
            metrics = folder.metrics or {}
            key = metrics["split"], metrics["data"], found["events"], found["hidden"]
            groups.setdefault(key, []).append(folder)
    return join(*map(_group, groups.values()))


def _found(folder: Folder) -> dict[str, Any]:
    found = (folder.metrics or {}).get("sampled", {})
    return found if isinstance(found, dict) else {}


def _group(folders: Sequence[Folder]) -> Html:
    found = [_found(folder) for folder in folders]
    events, hidden = found[0]["events"], found[0]["hidden"]
    text = (
        f"{hidden:,} points of {events:,} events were hidden from {_names(folders)} and drawn back from the visible "
        "ones, each by itself: what hidden points have in common beyond what the visible ones tell is not in the "
        "samples"
    )
    means = [f.name for f in folders if f.record["recipe"]["objective"].get("target", {}).get(KIND) == "MeanSquared"]
    more = f" {' and '.join(means)} gives means instead of samples: its target is a squared error." if means else ""
    jets = any("jets" in each for each in found)
    whole = ", and whole jets are where that shows." if jets else "."
    lacks = "" if jets else " The targets do not hold what whole jets could be put together from."
    told = RANKS if any(_told_ranks(folder) for folder in folders) else ""
    return join(
        element("p", text + whole + told + more + lacks),
        _table(folders, "distance", DISTANCES),
        _table(folders, "error", ERRORS),
        gallery(list(_pictures(folders))),
    )


def _told_ranks(folder: Folder) -> bool:
    return folder.record["recipe"]["objective"].get("decoder", {}).get("position") is not None


def _names(folders: Sequence[Folder]) -> str:
    return " and ".join(folder.name for folder in folders)


def _table(folders: Sequence[Folder], what: str, caption: str) -> Html:
    """A row a quantity, a column a run; floor and controls of the first run that has the quantity."""
    rows = []
    for part in ("points", "jets"):
        found = [_found(folder).get(part, {}) for folder in folders]
        features = [_features(folder) for folder in folders]
        for name in dict.fromkeys(name for each in found for name in each):
            first = next(each[name] for each in found if name in each)
            feature = next((each[name] for each in features if part == "points" and name in each), Feature(name))
            cells = [_cell(each[name], what, first["unit"]) if name in each else "–" for each in found]
            cells += [_value(first["floor"])] if what == "distance" else []
            cells += [_value(first[what].get(control)) for control in CONTROLS]
            rows.append((join(f"{name} of the jet" if part == "jets" else name, _told(feature, first)), cells))
    floor = ["floor"] if what == "distance" else []
    return table(["", *(folder.name for folder in folders), *floor, *CONTROLS.values()], rows, caption)


def _told(feature: Feature, record: dict[str, Any]) -> Html:
    if record["spread"] == 0:
        return element("small", "always the same in truth: not divided by anything")
    if isinstance(feature.transform, Identity):
        return Html("")
    return element("small", type(feature.transform).__name__.lower())


def _cell(record: dict[str, Any], what: str, unit: str) -> Html:
    value = _value(record[what]["sampled"])
    if what == "error" or record["spread"] == 0:
        return value
    return join(value, element("small", f"{record['distance_in_unit']['sampled']['value']:.2g} {unit}"))


def _value(entry: dict[str, float] | None) -> Html:
    if entry is None:
        return Html("–")
    error = element("span", f" ± {entry['high'] - entry['value']:.3f}", class_="error")
    return join(f"{entry['value']:.3f}", error)


def _features(folder: Folder) -> dict[str, Feature]:
    represent = folder.record["recipe"]["represent"]
    return by_quantity([from_dict(Feature, each) for each in represent.get("targets") or represent["features"]])


def _pictures(folders: Sequence[Folder]) -> Iterator[Html]:
    tables = {folder.name: _read(folder) for folder in folders}
    features = {name: one for folder in folders for name, one in _features(folder).items()}
    points = {run: {name: values[each["hidden"]] for name, values in each.items()} for run, each in tables.items()}
    for name, feature in features.items():
        having = {run: each for run, each in points.items() if TRUE + name in each}
        if having and feature.scale != BIT:
            true = next(iter(having.values()))[TRUE + name]
            sampled = {run: each[SAMPLED + name] for run, each in having.items()}
            figure = sampled_histogram(true, sampled, {}, feature, "hidden points")
            yield picture(figure, f"{name} of hidden points, true and sampled by {' and '.join(having)}.")
    yield from _rates(points, [name for name, feature in features.items() if feature.scale == BIT])
    jets = [_found(folder).get("jets", {}) for folder in folders]
    yield from _jets(tables, {name: record["unit"] for each in jets for name, record in each.items()})


def _rates(points: dict[str, Table], flags: Sequence[str]) -> Iterator[Html]:
    having = {run: each for run, each in points.items() if all(TRUE + name in each for name in flags)}
    if flags and having:
        first = next(iter(having.values()))
        true = {name: float(first[TRUE + name].mean()) for name in flags}
        drawn = {run: {name: float(each[SAMPLED + name].mean()) for name in flags} for run, each in having.items()}
        said = "; ".join(
            f"{run} {', '.join(f'{name} {share:.2%} for {true[name]:.2%}' for name, share in each.items())}"
            for run, each in drawn.items()
        )
        yield picture(rates(true, drawn, len(first["hidden"])), f"Kinds of hidden points, sampled and true: {said}.")


def _jets(tables: dict[str, Table], units: dict[str, str]) -> Iterator[Html]:
    having = {run: each for run, each in tables.items() if has_jets(each)}
    if not units or not having:
        return
    first = next(iter(having.values()))
    true = whole_jets(first, TRUE)
    sampled = {run: whole_jets(each, SAMPLED) for run, each in having.items()}
    names = [name.removeprefix(TRUE) for name in first if name.startswith(TRUE)]
    control = {CONTROLS["same_rank"]: whole_jets(first | exchanged(first, names, same_rank=True), SAMPLED)}
    for name, unit in units.items():
        drawn, other = ({run: each[name] for run, each in kind.items()} for kind in (sampled, control))
        figure = sampled_histogram(true[name], drawn, other, Feature(name, unit=unit), "jets", 25)
        yield picture(figure, f"{name} of whole jets, hidden points sampled back by {' and '.join(having)}.")


def _read(folder: Folder) -> Table:
    """The rows of events of which something was hidden."""
    try:
        read = pq.read_table(folder.path / FILE)
    except pa.ArrowInvalid as error:
        raise CorruptError(f"{folder.path / FILE} is not a Parquet file ({error}): evaluate the run again") from error
    return with_hidden({name: read[name].to_numpy() for name in read.column_names})
