"""Orders: how the points of an event are put in a row. Each gives a key per point; ties keep their measured order."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from multiplet.errors import RecipeError


@dataclass(frozen=True)
class AsMeasured:
    """The order of the file."""

    def key(self, quantities: dict[str, Tensor]) -> Tensor | None:
        """None: nothing is moved."""
        return None


@dataclass(frozen=True)
class Descending:
    """Largest first, as constituents in transverse momentum."""

    by: str = "pt"

    def key(self, quantities: dict[str, Tensor]) -> Tensor | None:
        """(B, N): points are put in ascending order of it."""
        return -_named(quantities, self.by)


@dataclass(frozen=True)
class Ascending:
    """Smallest first, as pulses in time."""

    by: str = "time"

    def key(self, quantities: dict[str, Tensor]) -> Tensor | None:
        """(B, N): points are put in ascending order of it."""
        return _named(quantities, self.by)


Order = AsMeasured | Descending | Ascending


def _named(quantities: dict[str, Tensor], name: str) -> Tensor:
    if name not in quantities:
        raise RecipeError(f"the order asks for {name!r}; there are {sorted(quantities)}")
    return quantities[name]
