"""weaver's data configs as mappings: what weaver-core's YAML says of files is said in our words, and the rest noted.

Points come from the input groups of one prefix (pf_points, pf_features, pf_vectors, pf_mask): the four names of
pf_vectors are px, py, pz and energy in GeV, and all other variables become columns. Nothing is standardised on
conversion: the numbers behind a variable's name (subtract, scale, minimum, maximum, pad) are left to a recipe's
features, and so are lengths, padding and weights. JetClass's branches keep their columns' names: d0 of part_d0val.
"""

from __future__ import annotations

from typing import Any

from multiplet.data.expressions import parse, quote
from multiplet.data.formats.jetclass_layout import BRANCH, PART, TRUTH
from multiplet.data.formats.plain_yaml import items, keyed, named, text
from multiplet.errors import DataError

_KEYS = ("treename", "selection", "test_time_selection", "new_variables", "preprocess", "inputs", "labels")
_MORE = ("observers", "monitor_variables", "weights")
_OURS = {branch: name for name, branch in PART.items()}
_AXIS = {"pt": "jet_pt", "eta": "jet_eta", "phi": "jet_phi", "energy": "jet_energy"}
_TRUTH = {BRANCH[column.name] for column in TRUTH}
_COMPUTED = {"jet_nparticles", *_AXIS.values()}
_IGNORED = {
    "preprocess": "standardisation is fitted when a recipe is trained",
    "weights": "events are not reweighted",
    "monitor_variables": "they steer weaver alone",
    "test_time_selection": "one selection holds for all splits",
}


def is_weaver(given: dict[str, Any]) -> bool:
    """Whether a map has the keys of a data config of weaver."""
    return "inputs" in given or "new_variables" in given or "treename" in given


def from_weaver(given: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The map of a mapping, and what was left out; DataError that names the key that cannot be said in one."""
    keyed(given, "", (*_KEYS, *_MORE), ("inputs",))
    groups = _groups(given["inputs"])
    if len(groups.get("vectors", ())) != 4:
        held = ", ".join(groups.get("vectors", ())) or "nothing"
        raise DataError(f"inputs: the group …_vectors has {held}: it needs px, py, pz, energy in this order")
    define = {name: _text(one, f"new_variables.{name}") for name, one in _filled(given, "new_variables").items()}
    observers = [text(one, "observers") for one in items(given.get("observers") or [], "observers")]
    selection = given.get("selection")
    selected = [] if selection is None else [_text(selection, "selection")]
    used = {name for one in (*define.values(), *selected) for name in parse(one).names} | {*observers}
    used |= {name for names in groups.values() for name in names}
    points: dict[str, Any] = {
        "four_vector": dict(zip(("px", "py", "pz", "energy"), map(quote, groups["vectors"]), strict=True)),
        "columns": _columns(groups, used),
    }
    if "mask" in groups:
        points["real"] = " & ".join(f"({quote(name)} > 0)" for name in groups["mask"])
    mapping: dict[str, Any] = {"points": points, "define": define, "event": {}, "select": selected}
    mapping["spectators"] = {
        name: {"from": quote(name)} | ({"truth": True} if name in _TRUTH else {})
        for name in observers
        if name not in _COMPUTED
    }
    notes = [f"{key} is left out: {why}" for key, why in _IGNORED.items() if given.get(key)]
    notes.append("variables are converted as they are: subtract, scale, minimum, maximum and padding are not applied")
    if used >= set(_AXIS.values()):
        mapping["event"]["axis"] = dict(_AXIS)
    else:
        notes.append(
            "the jet's axis is the sum of its points: not all of jet_pt, jet_eta, jet_phi, jet_energy are used"
        )
    if "treename" in given:
        mapping["tree"] = given["treename"]
    _add_labels(mapping, _filled(given, "labels"))
    return mapping, tuple(notes)


def _text(value: Any, where: str) -> str:
    return text(" ".join(value.split()) if isinstance(value, str) else value, where)


def _filled(given: dict[str, Any], key: str) -> dict[str, Any]:
    """A map that may be left out or empty."""
    return named(given.get(key) or {}, key)


def _groups(inputs: Any) -> dict[str, list[str]]:
    """The names of the variables by the kind of their group: points, features, vectors, mask."""
    found: dict[str, list[str]] = {}
    prefixes: dict[str, None] = {}
    for name, group in named(inputs, "inputs").items():
        prefix, _, kind = name.rpartition("_")
        if kind not in ("points", "features", "vectors", "mask"):
            raise DataError(f"inputs.{name}: groups are …_points, …_features, …_vectors and …_mask")
        prefixes[prefix] = None
        if len(prefixes) > 1:
            raise DataError(f"inputs.{name}: points of two kinds ({', '.join(prefixes)}) in one event cannot be mapped")
        group = keyed(group, f"inputs.{name}", ("length", "pad_mode", "vars"), ("vars",))
        found[kind] = [_variable(one, f"inputs.{name}.vars") for one in items(group["vars"], f"inputs.{name}.vars")]
    return found


def _variable(value: Any, where: str) -> str:
    """The name of a variable, which stands alone or before at most five settings."""
    given = value if isinstance(value, list) else [value]
    if not 1 <= len(given) <= 6 or not all(one is None or type(one) in (int, float, str) for one in given[1:]):
        raise DataError(f"{where}: {value!r} is no name and no [name, subtract, scale, minimum, maximum, pad]")
    return text(given[0], where)


def _columns(groups: dict[str, list[str]], used: set[str]) -> dict[str, str]:
    """Columns of points: JetClass's branches wherever they are used, then the variables by their own names."""
    taken = {*groups["vectors"], *groups.get("mask", ()), *(BRANCH[name] for name in ("deta", "dphi"))}
    columns = {_OURS[branch]: branch for branch in sorted(used & _OURS.keys()) if branch not in taken}
    own = [name for kind in ("points", "features") for name in groups.get(kind, ())]
    return columns | {name: quote(name) for name in own if name not in taken and name not in _OURS}


def _add_labels(mapping: dict[str, Any], labels: dict[str, Any]) -> None:
    """simple: a flag a class; custom: an expression a target, which becomes a truth column."""
    if not labels:
        return
    keyed(labels, "labels", ("type", "value"), ("type", "value"))
    if labels["type"] == "simple":
        names = [text(name, "labels.value") for name in items(labels["value"], "labels.value")]
        mapping["label"] = {name.removeprefix("label_"): f"{quote(name)} == 1" for name in names}
    elif labels["type"] == "custom":
        value = named(labels["value"], "labels.value")
        mapping["event"]["columns"] = {
            name: {"from": _text(one, f"labels.value.{name}"), "truth": True} for name, one in value.items()
        }
    else:
        raise DataError(f"labels.type is {labels['type']!r}: simple or custom")
