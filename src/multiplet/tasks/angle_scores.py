"""Angle scores: what found directions are worth, over all events, in strata, and how well they know their errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from multiplet.errors import DataError
from multiplet.intervals import Binned, Estimate, Measured, bootstrap
from multiplet.kinematics import opening_angle, unit_vector
from multiplet.tasks.labels import require_found

FEWEST = 5  # events below which nothing is measured on them
COVERAGES = (0.5, 0.68, 0.9)
NEAR = 5.0  # degrees
ENERGY = "energy"  # a truth column in GeV; bins in it where the events have one


def opening_angles(table: Mapping[str, np.ndarray], azimuth: str, zenith: str) -> np.ndarray:
    """Degrees between the true and the found direction of each event, (rows,); NaN where it has no label.

    Raises NonFiniteError where what was found is no direction.
    """
    require_found(table, azimuth, zenith)
    true, found = (
        unit_vector(table[prefix + azimuth].astype(float), table[prefix + zenith].astype(float))
        for prefix in ("", "found_")
    )
    return np.degrees(opening_angle(true, found))


def angle_quantiles(angle: np.ndarray, kappa: np.ndarray) -> np.ndarray:
    """The share of the von Mises-Fisher density within `angle` (degrees) of its mean: uniform where κ is right.

    (1 - e^{-κ(1 - cos)}) / (1 - e^{-2κ}), from 1 - cos = 2 sin²(angle/2).
    """
    share = np.sin(np.radians(angle) / 2) ** 2
    wide = np.maximum(2 * kappa, 1e-12)  # at κ = 0 the share of the sphere
    return np.expm1(-wide * share) / np.expm1(-wide)


def measure_angles(
    table: Mapping[str, np.ndarray],
    azimuth: str,
    zenith: str,
    long: int = 127,
    by: str = "",
    classes: Sequence[str] = (),
) -> Measured:
    """Opening angles of labelled events with 68 % bootstrap intervals over events; DataError where there are none.

    The table holds the columns `azimuth` and `zenith`, the same after `found_`, the `points` of each event, and where
    there are `kappa`, energy and the codes `by` of `classes`.
    """
    angle = opening_angles(table, azimuth, zenith)
    labelled = np.isfinite(angle)
    if not labelled.any():
        raise DataError(f"none of {len(angle)} events has a label in {azimuth} and {zenith} to measure by")
    angle, table = angle[labelled], {name: values[labelled] for name, values in table.items()}
    metrics = {
        "mean angle (°)": bootstrap(np.mean, angle),
        "median angle (°)": bootstrap(np.median, angle),
        **{f"{q:.0%} of angles below (°)": bootstrap(partial(quantile, share=q), angle) for q in (0.68, 0.9)},
        f"share within {NEAR:g}°": bootstrap(np.mean, angle < NEAR),
    }
    strata: dict[str, np.ndarray] = {}
    if "points" in table:
        strata |= {f"up to {long} points": table["points"] <= long, f"above {long} points": table["points"] > long}
    if by in table:
        strata |= {name: table[by] == code for code, name in enumerate(classes)}
    for name, chosen in strata.items():
        if FEWEST <= chosen.sum() < len(chosen):
            metrics[f"mean angle (°), {name}"] = bootstrap(np.mean, angle[chosen])
            metrics[f"median angle (°), {name}"] = bootstrap(np.median, angle[chosen])
    if "kappa" in table:
        held = angle_quantiles(angle, table["kappa"].astype(float))
        metrics |= {f"inside the {q:.0%} region": bootstrap(np.mean, held <= q) for q in COVERAGES}
    return Measured(metrics, binned=tuple(_strata(angle, table)))


def _strata(angle: np.ndarray, table: Mapping[str, np.ndarray]) -> list[Binned]:
    found = []
    if "points" in table:
        found.append(
            median_in_bins(angle, table["points"], powers(table["points"], 2.0), "points", "points in the event")
        )
    if ENERGY in table:
        energy = table[ENERGY].astype(float)
        found.append(median_in_bins(angle, energy, powers(energy, 10**0.5), ENERGY, "energy [GeV]"))
    return found


def quantile(values: np.ndarray, share: float) -> float:
    """The value that this share lies below; without the weights of numpy's own, which a bootstrap would give it."""
    return float(np.quantile(values, share))


def powers(values: np.ndarray, base: float) -> np.ndarray:
    """Edges at whole powers of the base that hold all values above 0."""
    above = values[values > 0] if (values > 0).any() else np.ones(1)
    low, high = (np.log(extreme) / np.log(base) for extreme in (above.min(), above.max()))
    edges = base ** np.arange(np.floor(low + 1e-9), np.floor(high + 1e-9) + 2)
    edges[0] = min(edges[0], above.min())  # a whole power may have been rounded up
    return edges


def in_bins(values: np.ndarray, place: np.ndarray, edges: np.ndarray) -> list[np.ndarray]:
    """The values whose place is in each bin, from an edge up to the next."""
    bins = np.digitize(place, edges) - 1
    return [values[bins == number] for number in range(len(edges) - 1)]


def median_in_bins(
    values: np.ndarray,
    place: np.ndarray,
    edges: np.ndarray,
    quantity: str,
    label: str,
    metric: str = "median angle (°)",
) -> Binned:
    """The median of values in bins of `place`, (events,) both, with bootstrap intervals; none for fewer than FEWEST."""
    held = in_bins(values, place, edges)
    estimates: tuple[Estimate | None, ...] = tuple(
        bootstrap(np.median, each) if len(each) >= FEWEST else None for each in held
    )
    counts = tuple(map(len, held))
    return Binned(
        metric, quantity, label, tuple(edges.tolist()), estimates, "events", counts, len(values) - sum(counts)
    )
