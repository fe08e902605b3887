"""Parts of a mapping: expressions, four-vectors, arrays and columns, each from the plain values of YAML.

Every fault names the key it is in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from multiplet.data.columns import DTYPES, Column
from multiplet.data.expressions import Expression, parse, quote
from multiplet.data.formats.plain_yaml import items, keyed, named, text
from multiplet.errors import DataError
from multiplet.spec import did_you_mean

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_FOUR_VECTORS = (("px", "py", "pz", "energy"), ("pt", "eta", "phi", "mass"), ("pt", "eta", "phi", "energy"))
_UNITS = {"GeV": 1.0, "MeV": 1e-3, "TeV": 1e3}


@dataclass(frozen=True)
class Derived:
    """A column and the expression it comes from; not `typed`, its type is that of the values."""

    column: Column
    value: Expression
    typed: bool = True


@dataclass(frozen=True)
class FourVector:
    """Four expressions by the names of what they give, and the factor from their unit to GeV."""

    parts: Mapping[str, Expression]
    scale: float = 1.0


def expression(value: Any, where: str) -> Expression:
    """An expression, or a column's name with dots in it; a number stands for itself."""
    plain = isinstance(value, str) or type(value) in (int, float)
    written = text(" ".join(str(value).split()) if plain else value, where)
    try:
        return parse(quote(written) if _DOTTED.fullmatch(written) else written)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def expressions(value: Any, where: str) -> dict[str, Expression]:
    """Expressions by name."""
    return {text(name, where): expression(one, f"{where}.{name}") for name, one in named(value, where).items()}


def columns_of_file(value: Any, where: str) -> tuple[str, ...]:
    """Names of columns of the file: one, or a list of them."""
    found = [text(name, where) for name in items([value] if isinstance(value, str) else value, where)]
    if not found or len({*found}) < len(found):
        raise DataError(f"{where} is {value!r}: names of columns are needed, each of them once")
    return tuple(found)


def array_members(value: Any) -> dict[str, tuple[str, ...]]:
    """What lies on the last axis of each array, by the arrays' names."""
    found = {key: items(names, f"arrays.{key}") for key, names in named(value, "arrays").items()}
    names = [text(one, f"arrays.{key}") for key, held in found.items() for one in held]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"arrays: {', '.join(twice)} is named twice")
    return {key: tuple(held) for key, held in found.items()}


def conditions(value: Any) -> dict[str, Expression]:
    """Conditions by their text, which names the step of the cut flow; "read" names its beginning."""
    found = [expression(one, f"select[{n}]") for n, one in enumerate(items(value, "select"))]
    return {one.text if one.text != "read" else "(read)": one for one in found}


def vector(value: Any, where: str) -> FourVector:
    """A four-vector from its four parts, in any of the sets, and their unit."""
    parts = {key: one for key, one in named(value, where).items() if key != "unit"}
    unit = text(value.get("unit", "GeV"), f"{where}.unit")
    if unit not in _UNITS:
        raise DataError(f"{where}.unit is {unit!r}: {did_you_mean(unit, _UNITS)}")
    if set(parts) not in map(set, _FOUR_VECTORS):
        sets = ", or ".join(" ".join(names) for names in _FOUR_VECTORS)
        raise DataError(f"{where} has {', '.join(parts) or 'nothing'}: it needs {sets}")
    return FourVector({key: expression(one, f"{where}.{key}") for key, one in parts.items()}, _UNITS[unit])


def derived_columns(
    value: Any, where: str, level: Literal["point", "event"], known: Sequence[Column], typed: bool = True
) -> Iterator[Derived]:
    """Columns of that level; those that are `known` have their unit and, if no other is given, their type."""
    for name, one in named(value, where).items():
        at = f"{where}.{text(name, where)}"
        given = keyed(one if isinstance(one, dict) else {"from": one}, at, ("from", "unit", "type", "truth", "about"))
        fixed = next((column for column in known if (column.name, column.level) == (name, level)), None)
        usual = fixed or Column(name, level=level)
        unit, dtype, truth = given.get("unit", usual.unit), given.get("type", usual.dtype), given.get("truth", False)
        if dtype not in DTYPES:
            raise DataError(f"{at}.type is {dtype!r}: {did_you_mean(str(dtype), DTYPES)}")
        if not isinstance(unit, str) or (fixed and unit != fixed.unit):
            held = f"this column is in {fixed.unit!r} of every jet: convert it in from" if fixed else "a text"
            raise DataError(f"{at}.unit is {unit!r}, but {held}")
        if not isinstance(truth, bool):
            raise DataError(f"{at}.truth is {truth!r}: true or false")
        source = expression(given.get("from", quote(name)), f"{at}.from")
        about = text(given.get("about", f"= {source.text}"), f"{at}.about")
        yield Derived(Column(name, unit, level, truth, dtype, (), about), source, typed or "type" in given)
