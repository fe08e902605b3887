"""Jets of a batch of events (FastJet), and what is computed from the constituents of one jet (numba).

FastJet is a GPL-2+ tool; this module is imported only when jets are made. Soft drop and N-subjettiness are written
out here, as not every version of FastJet's Python binding has the latter; tests compare both with FastJet.
"""

from __future__ import annotations

from math import atan2, hypot, inf, log, pi, sqrt

import awkward as ak
import fastjet
import numpy as np
from fastjet import _swig

from multiplet.simulation.compiled import compiled

_swig.ClusterSequence.set_fastjet_banner_stream(None)  # else FastJet prints its banner at the first clustering

RADIUS = 0.8
_Z_CUT = 0.1
_PX, _PY, _PZ, _E = range(4)


def anti_kt(momenta: np.ndarray, offsets: np.ndarray, pt_min: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Anti-kT jets (R = 0.8, E-scheme; arXiv 0802.1189) above pt_min GeV of a batch of events, falling in pT.

    momenta (M, 4): px, py, pz, E; event i holds rows offsets[i] to offsets[i + 1]. Gives the event of each jet (J,),
    the rows of momenta in all jets, and where each jet's rows begin (J + 1,).
    """
    columns = {name: momenta[:, axis] for axis, name in enumerate(("px", "py", "pz", "E"))}
    record = ak.zip(columns, with_name="Momentum4D")
    events = ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), record.layout))
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, RADIUS)
    clusters = fastjet.ClusterSequence(events, definition)
    jets = clusters.inclusive_jets(min_pt=pt_min)
    members = clusters.constituent_index(min_pt=pt_min)
    pt = np.hypot(jets.px, jets.py)
    members = members[ak.argsort(pt, axis=1, ascending=False, stable=True)]
    event = np.repeat(np.arange(len(events)), ak.to_numpy(ak.num(members)))
    sizes = ak.to_numpy(ak.flatten(ak.num(members, axis=2)))
    begins = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    rows = ak.to_numpy(ak.flatten(members, axis=None)).astype(np.int64) + np.repeat(offsets[event], sizes)
    return event, rows, begins


@compiled
def _place(row: np.ndarray) -> tuple[float, float, float]:
    """Rapidity, φ and pT² of a four-momentum."""
    px, py, pz, energy = row
    rapidity = 0.5 * log(max(energy + pz, 1e-20) / max(energy - pz, 1e-20))
    return rapidity, atan2(py, px), px * px + py * py


@compiled
def _separation(a: np.ndarray, b: np.ndarray) -> float:
    """ΔR² in rapidity and φ of two places."""
    dphi = abs(a[1] - b[1])
    dphi = min(dphi, 2.0 * pi - dphi)
    return (a[0] - b[0]) ** 2 + dphi**2


@compiled
def _distance(a: np.ndarray, b: np.ndarray, kt: bool, radius2: float) -> float:
    return _separation(a, b) / radius2 * (min(a[2], b[2]) if kt else 1.0)


@compiled
def _nearest(i: int, places: np.ndarray, alive: np.ndarray, kt: bool, radius2: float) -> tuple[int, float]:
    """The nearest partner of i among the living, -1 for the beam."""
    best, at = (places[i, 2] if kt else 1.0), -1
    for j in range(len(alive)):
        if alive[j] and j != i:
            distance = _distance(places[i], places[j], kt, radius2)
            if distance < best:
                best, at = distance, j
    return at, best


@compiled
def recombine(momenta: np.ndarray, kt: bool, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Sequential recombination in the E-scheme: kT (arXiv hep-ph/9305266), or Cambridge/Aachen where kt is false.

    momenta (n, 4). Gives all pseudojets in order of appearance (up to 2n - 1, 4), and the steps (n, 3): the two
    pseudojets joined and the one they make, or the one taken out by the beam, -1, -1.
    """
    n, radius2 = len(momenta), radius * radius
    jets, places = np.empty((2 * n, 4)), np.empty((2 * n, 3))
    alive, near, best = np.zeros(2 * n, np.bool_), np.full(2 * n, -1), np.full(2 * n, inf)
    jets[:n] = momenta
    alive[:n] = True
    for i in range(n):
        places[i, 0], places[i, 1], places[i, 2] = _place(jets[i])
    for i in range(n):
        near[i], best[i] = _nearest(i, places[:n], alive[:n], kt, radius2)
    steps, total = np.full((n, 3), -1), n
    for step in range(n):
        first = np.argmin(best[:total])
        second = near[first]
        alive[first], best[first], steps[step, 0] = False, inf, first
        new = -1
        if second >= 0:
            alive[second], best[second] = False, inf
            new, total = total, total + 1
            jets[new] = jets[first] + jets[second]
            places[new, 0], places[new, 1], places[new, 2] = _place(jets[new])
            alive[new] = True
            steps[step, 1], steps[step, 2] = second, new
        for i in range(total):
            if not alive[i]:
                continue
            if i == new or near[i] == first or (second >= 0 and near[i] == second):
                near[i], best[i] = _nearest(i, places[:total], alive[:total], kt, radius2)
            elif new >= 0:
                distance = _distance(places[i], places[new], kt, radius2)
                if distance < best[i]:
                    near[i], best[i] = new, distance
    return jets[:total], steps


@compiled
def soft_drop_mass(momenta: np.ndarray) -> float:
    """Mass in GeV after soft drop (arXiv 1402.2657) with z_cut = 0.1, β = 0, on the Cambridge/Aachen tree."""
    n = len(momenta)
    jets, steps = recombine(momenta, False, 1e3)
    at = len(jets) - 1
    while at >= n:
        # Pseudojet n + k was made by the k-th joining; with this radius nothing goes to the beam before the last step.
        first, second = steps[at - n, 0], steps[at - n, 1]
        a, b = hypot(jets[first, _PX], jets[first, _PY]), hypot(jets[second, _PX], jets[second, _PY])
        if min(a, b) > _Z_CUT * (a + b):
            break
        at = first if a > b else second
    px, py, pz, energy = jets[at]
    return sqrt(max(energy**2 - px**2 - py**2 - pz**2, 0.0))


@compiled
def n_subjettiness(momenta: np.ndarray, largest: int) -> np.ndarray:
    """τ_1 … τ_largest (arXiv 1011.2268, β = 1): Σ pT min_a ΔR(i, a) / (R Σ pT), axes = exclusive kT jets of R = 0.8."""
    n = len(momenta)
    tau = np.zeros(largest)
    jets, steps = recombine(momenta, True, RADIUS)
    places, alive = np.empty((len(jets), 3)), np.zeros(len(jets), np.bool_)
    for i in range(len(jets)):
        places[i, 0], places[i, 1], places[i, 2] = _place(jets[i])
    alive[:n] = True
    norm = RADIUS * np.sum(np.sqrt(places[:n, 2]))
    for step in range(n - 1):
        alive[steps[step, 0]] = False
        if steps[step, 2] >= 0:
            alive[steps[step, 1]], alive[steps[step, 2]] = False, True
        left = n - 1 - step
        if left <= largest:
            tau[left - 1] = _spread(places, n, alive) / norm
    return tau


@compiled
def _spread(places: np.ndarray, n: int, alive: np.ndarray) -> float:
    total = 0.0
    for i in range(n):
        closest = inf
        for j in range(len(places)):
            if alive[j]:
                closest = min(closest, _separation(places[i], places[j]))
        total += sqrt(places[i, 2] * closest)
    return total


@compiled
def substructure(momenta: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Soft-drop mass and τ_1 … τ_4 of each jet, (J, 5); jet i holds rows begins[i] to begins[i + 1] of momenta."""
    out = np.empty((len(begins) - 1, 5))
    for i in range(len(out)):
        jet = momenta[begins[i] : begins[i + 1]]
        out[i, 0] = soft_drop_mass(jet)
        out[i, 1:] = n_subjettiness(jet, 4)
    return out
