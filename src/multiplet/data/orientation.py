"""Whether directions of a telescope's events point to where neutrinos came from, as their light says."""

from __future__ import annotations

import numpy as np

from multiplet.data.columns import Columns


def light_direction(events: Columns) -> np.ndarray:
    """Cosine, (events,), between the direction of each event and the way in which its light moves; NaN without either.

    The light's way is Σ q (t − t̄)(r − r̄) over the pulses that are not auxiliary, with means weighted by charge q. It
    goes away from where a neutrino came from: for most bright tracks the cosine is below 0, for cascades nearly as
    often above. Where most bright tracks are above 0, azimuth and zenith say where the neutrino flew to.
    """
    value = events.values
    good = value["auxiliary"] == 0
    event = np.repeat(np.arange(len(events)), np.diff(events.offsets))[good]
    charge, time = (value[name][good].astype(np.float64) for name in ("charge", "time"))
    place = np.stack([value[name][good] for name in "xyz"], 1).astype(np.float64)
    azimuth, zenith = (value[name].astype(np.float64) for name in ("azimuth", "zenith"))
    origin = np.stack([np.cos(azimuth) * np.sin(zenith), np.sin(azimuth) * np.sin(zenith), np.cos(zenith)], 1)

    def total(weight: np.ndarray) -> np.ndarray:
        return np.bincount(event, weight, len(events))

    with np.errstate(invalid="ignore", divide="ignore"):
        late = time - (total(charge * time) / total(charge))[event]
        moved = np.stack([total(charge * late * along) for along in place.T], 1)  # Σ q (t − t̄) is 0: r̄ drops out
        return (moved * origin).sum(1) / np.linalg.norm(moved, axis=1)
