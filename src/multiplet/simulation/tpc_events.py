"""From a seed to events of the time projection chamber: the chain of collisions, tracking, response and selection."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np

from multiplet.data.columns import Columns, concatenate
from multiplet.simulation import tpc_collisions as collisions
from multiplet.simulation import tpc_response as response
from multiplet.simulation.jet_tracks import event_keys
from multiplet.simulation.tpc import PROCESSES, SCHEMA
from multiplet.simulation.tpc_tracks import ROWS

_BATCH_MIN = 8  # fewer collisions at a time cost more in calls than in physics
_PYTHIA_SEEDS = 900_000_000


def versions() -> dict[str, str]:
    """The version of the tool on which the events depend."""
    return {"pythia8mc": version("pythia8mc")}


def make_events(name: str, seed: int, events: int) -> Columns:
    """So many events of one process that leave a spacepoint at all; a function of its arguments alone."""
    collisions.generator(name).rndm.init(1 + seed % (_PYTHIA_SEEDS - 1))
    found, missing, tried = [], events, 0
    while missing > 0:
        batch = collisions.generate(name, max(missing, _BATCH_MIN))
        keys = event_keys(np.uint64(seed), tried, len(batch))
        seen = _columns(name, *response.respond(batch.particles, batch.offsets, keys))
        kept = np.flatnonzero(np.diff(seen.offsets))[:missing]
        found.append(seen.take(kept))
        missing -= len(kept)
        tried += len(batch)
    return concatenate(found)


def _columns(name: str, points: np.ndarray, offsets: np.ndarray, vertices: np.ndarray) -> Columns:
    """The columns of spacepoints, which lie on the radius of their row."""
    radius, phi = ROWS[points[:, response.P_ROW].astype(np.int64)], points[:, response.P_PHI]
    values = {
        "energy": points[:, response.P_ADC],
        "x": radius * np.cos(phi),
        "y": radius * np.sin(phi),
        "z": points[:, response.P_Z],
        "track_id": points[:, response.T_ID],
        "particle": points[:, response.T_KIND],
        "noise": points[:, response.T_NOISE],
        "track_pt": points[:, response.T_PT],
        "track_eta": points[:, response.T_ETA],
        "track_charge": points[:, response.T_CHARGE],
        "process": np.full(len(vertices), PROCESSES.index(name)),
        "vertex_z": vertices,
    }
    return Columns(SCHEMA, offsets, {c.name: np.ascontiguousarray(values[c.name], c.dtype) for c in SCHEMA})
