"""From a seed to accepted jets: the chain of generation, detector, clustering and selection."""

from __future__ import annotations

import numpy as np
import pythia8mc

from multiplet.data.columns import Columns, concatenate
from multiplet.kinematics import delta_phi, delta_r
from multiplet.simulation import jet_processes as processes
from multiplet.simulation import jet_tracks as objects
from multiplet.simulation.jet_response import respond
from multiplet.simulation.jet_substructure import anti_kt, substructure
from multiplet.simulation.jets import ETA_MAX, KINDS, LABELS, PT_MAX, PT_MIN, SCHEMA

_MATCH = 0.8
_BATCH_MIN = 8  # fewer events at a time cost more in calls than in physics
_PYTHIA_SEEDS = 900_000_000


def version() -> str:
    """Pythia's version."""
    return str(pythia8mc.__version__)


def make_jets(name: str, seed: int, compatible: bool, events: int) -> Columns:
    """So many accepted jets of one class, at most one a collision; a function of its arguments alone."""
    processes.generator(name).rndm.init(1 + seed % (_PYTHIA_SEEDS - 1))
    found, missing, collisions = [], events, 0
    while missing > 0:
        batch = processes.generate(name, max(missing, _BATCH_MIN))
        keys = objects.event_keys(np.uint64(seed), collisions, len(batch))
        jets = _select(name, batch, keys, compatible)
        found.append(jets.take(np.arange(min(len(jets), missing))))
        missing -= len(found[-1])
        collisions += len(batch)
    return concatenate(found)


def _select(name: str, batch: processes.Batch, keys: np.ndarray, compatible: bool) -> Columns:
    """The accepted jets of a batch, in the order of the collisions."""
    seen, offsets = respond(batch.particles, batch.pid, batch.charge, batch.offsets, keys, compatible)
    momenta = np.ascontiguousarray(seen[:, : objects.ENERGY + 1])
    event, rows, begins = anti_kt(momenta, offsets, PT_MIN)
    jets = np.add.reduceat(momenta[rows], begins[:-1], axis=0) if len(event) else np.zeros((0, 4))
    pt = np.hypot(jets[:, 0], jets[:, 1])
    eta, phi = np.arcsinh(jets[:, 2] / pt), np.arctan2(jets[:, 1], jets[:, 0])
    match = _match(name, batch.candidates[event], eta, phi)
    # Where both partners of one collision give a jet, a coin decides, so that no partner is preferred.
    match = match[np.arange(len(event)), :] if not len(event) else match
    good = (pt > PT_MIN) & (pt < PT_MAX) & (abs(eta) < ETA_MAX) & match.any(axis=1)
    partner = np.argmax(match, axis=1)
    ...
