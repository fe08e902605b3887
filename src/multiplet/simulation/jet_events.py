"""From a seed to accepted jets: the chain of generation, detector, clustering and selection."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np

from multiplet.data.columns import Columns, concatenate
from multiplet.kinematics import delta_phi, delta_r
from multiplet.simulation import jet_processes as processes
from multiplet.simulation import jet_tracks as objects
from multiplet.simulation import jet_truth as truth
from multiplet.simulation.jet_response import respond
from multiplet.simulation.jet_substructure import anti_kt, substructure
from multiplet.simulation.jets import ETA_MAX, KINDS, LABELS, PT_MAX, PT_MIN, SCHEMA

_MATCH = 0.8
_BATCH_MIN = 8  # fewer events at a time cost more in calls than in physics
_PYTHIA_SEEDS = 900_000_000


def versions() -> dict[str, str]:
    """The versions of the tools on which the jets depend."""
    return {name: version(name) for name in ("pythia8mc", "fastjet")}


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
    matched = _matched(name, batch.candidates[event], eta, phi)
    inside = (pt > PT_MIN) & (pt < PT_MAX) & (abs(eta) < ETA_MAX)
    chosen, partner = _one_each(event, matched & inside[:, None], keys)
    origin = batch.candidates[event[chosen], partner]
    counts = np.diff(begins)[chosen]
    spans = np.repeat(begins[chosen], counts) + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return _columns(name, seen[rows[spans]], counts, jets[chosen], origin)


def _matched(name: str, candidates: np.ndarray, eta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Whether all products of a candidate lie within ΔR < 0.8 of a jet: (jets, PARTNERS)."""
    products = processes.PROCESSES[name].partons + processes.PROCESSES[name].leptons
    angles = candidates[:, :, truth.DIRECTIONS : truth.DIRECTIONS + 2 * products]
    distance = delta_r(angles[..., 0::2], angles[..., 1::2], eta[:, None, None], phi[:, None, None])
    return np.asarray(np.all(distance < _MATCH, axis=2))  # NaN, where there is no candidate, is not


def _one_each(event: np.ndarray, accepted: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One jet of each collision that has any, and its partner: (jets, partners).

    Where both partners give a jet, a coin decides; where two jets hold one partner, the harder one is it.
    """
    coin = (keys[event] >> np.uint64(63)).astype(np.int64)
    at = np.arange(len(event))
    liked = accepted[at, coin]
    rank = np.where(liked, 0, 1)
    order = np.lexsort((at, rank, event))
    order = order[np.any(accepted[order], axis=1)]
    _, first = np.unique(event[order], return_index=True)
    chosen = order[first]
    return chosen, np.where(liked, coin, 1 - coin)[chosen]


def _columns(name: str, points: np.ndarray, counts: np.ndarray, jets: np.ndarray, origin: np.ndarray) -> Columns:
    """JetClass's quantities of jets whose constituents are counts[i] rows of points in a row."""
    jet = np.repeat(np.arange(len(counts)), counts)
    axis = np.arcsinh(jets[:, 2] / np.hypot(jets[:, 0], jets[:, 1])), np.arctan2(jets[:, 1], jets[:, 0])
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    shape = substructure(np.ascontiguousarray(points[:, : objects.ENERGY + 1]), offsets)
    # By the pT that the file holds, so that rounding does not undo the order.
    px, py = points[:, objects.PX].astype(np.float32), points[:, objects.PY].astype(np.float32)
    points = points[np.lexsort((-np.hypot(px.astype(np.float64), py), jet))]
    values = {**_point_values(points, axis[0][jet], axis[1][jet])}
    values |= {
        "jet_pt": np.hypot(jets[:, 0], jets[:, 1]),
        "jet_eta": axis[0],
        "jet_phi": axis[1],
        "jet_energy": jets[:, 3],
        "jet_nparticles": counts,
        "jet_sdmass": shape[:, 0],
        **{f"jet_tau{n}": shape[:, n] for n in (1, 2, 3, 4)},
        "label": np.full(len(counts), LABELS.index(name)),
        "genpart_eta": origin[:, truth.ETA],
        "genpart_phi": origin[:, truth.PHI],
        "genpart_pid": origin[:, truth.PID],
        "genpart_pt": origin[:, truth.PT],
        "truth_match": origin[:, truth.CODE],
    }
    return Columns(SCHEMA, offsets, {c.name: np.ascontiguousarray(values[c.name], c.dtype) for c in SCHEMA})


def _point_values(points: np.ndarray, jet_eta: np.ndarray, jet_phi: np.ndarray) -> dict[str, np.ndarray]:
    """The point columns; momenta point to the stored η, which need not be the direction jets were made with."""
    pt, eta = np.hypot(points[:, objects.PX], points[:, objects.PY]), points[:, objects.ETA]
    pid = abs(points[:, objects.PID])
    return {
        "px": points[:, objects.PX],
        "py": points[:, objects.PY],
        "pz": pt * np.sinh(eta),
        "energy": np.hypot(pt * np.cosh(eta), points[:, objects.MASS]),
        "deta": np.where(jet_eta > 0, 1.0, -1.0) * (eta - jet_eta),
        "dphi": delta_phi(np.arctan2(points[:, objects.PY], points[:, objects.PX]), jet_phi),
        "d0": points[:, objects.D0],
        "d0_err": points[:, objects.D0_ERR],
        "dz": points[:, objects.DZ],
        "dz_err": points[:, objects.DZ_ERR],
        "charge": points[:, objects.CHARGE],
        **{name: np.isin(pid, ids) for name, ids in KINDS.items()},
    }
